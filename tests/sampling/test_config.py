"""Sampling options: the release's defaults, and one line about a value out of range."""

import dataclasses
import math

import pytest

from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.utils.errors import UserError


def test_defaults_are_those_of_the_release():
    config = SampleConfig()
    assert (config.size, config.stride, config.max_frames) == ((768, 576), 4, 80)
    assert (config.steps, config.guidance, config.solver, config.eta) == (50, 2.0, "ddim", 0.0)
    assert (config.windows, config.window_size, config.window_overlap) == ("official", 16, 4)
    assert (config.window_stride, config.spacing, config.color) == (1, "linspace", True)


@pytest.mark.parametrize(
    ("options", "expected", "found"),
    [
        ({"size": (100, 64)}, "size: expected height x width in multiples of 8", "100x64"),
        ({"size": (64, 24)}, "at least 32", "64x24"),
        ({"size": (0, 64)}, "at least 32", "0x64"),
        ({"size": (-64, 64)}, "at least 32", "-64x64"),
        ({"steps": 0}, "steps: expected 1 to 1000", "0"),
        ({"steps": 1001}, "steps: expected 1 to 1000", "1001"),
        ({"guidance": -0.5}, "guidance: expected 0.0 to 100.0", "-0.5"),
        ({"guidance": math.nan}, "guidance: expected 0.0 to 100.0", "nan"),
        ({"guidance": math.inf}, "guidance: expected 0.0 to 100.0", "inf"),
        ({"guidance_rescale": 1.5}, "guidance rescale: expected 0.0 to 1.0", "1.5"),
        ({"eta": -0.1}, "eta: expected 0.0 to 1.0", "-0.1"),
        ({"eta": math.nan}, "eta: expected 0.0 to 1.0", "nan"),
        ({"eta": 0.5, "solver": "unipc"}, "eta: expected 0 for the solver unipc", "0.5"),
        ({"stride": 0}, "stride: expected at least 1", "0"),
        ({"max_frames": 0}, "max frames: expected at least 1", "0"),
        ({"chunk": 0}, "chunk: expected at least 1", "0"),
        ({"window_batch": 0}, "window batch: expected at least 1", "0"),
        ({"window_size": 0}, "window size: expected at least 1", "0"),
        ({"window_overlap": 16}, "window overlap: expected 0 to 15", "16"),
        ({"window_overlap": -1}, "window overlap: expected 0 to 15", "-1"),
        ({"window_stride": 0}, "window stride: expected at least 1", "0"),
        ({"window_stride": 2, "windows": "blend"}, "window stride: expected 1 with blend", "2"),
        ({"seed": -1}, "seed: expected 0 to 4294967295", "-1"),
        ({"seed": 2**32}, "seed: expected 0 to 4294967295", "4294967296"),
        ({"fps": 0.0}, "fps: expected 0.01 to 1000.0", "0.0"),
        ({"fps": math.nan}, "fps: expected 0.01 to 1000.0", "nan"),
        ({"solver": "euler"}, "solver: expected one of ddim, dpm++, unipc", "'euler'"),
        ({"spacing": "log"}, "spacing: expected one of linspace, leading, trailing", "'log'"),
        ({"windows": "none"}, "windows: expected one of official, blend", "'none'"),
        ({"uncond": "zero"}, "uncond: expected one of fake, image", "'zero'"),
    ],
)
def test_values_out_of_range_are_named(options, expected, found):
    with pytest.raises(UserError) as caught:
        SampleConfig(**options)
    message = str(caught.value)
    assert expected in message
    assert message.endswith(f"found {found}")


def test_the_ends_of_the_ranges_are_allowed():
    low = SampleConfig((32, 40), 1, 1, 1, 0.0, seed=0, window_size=1, window_overlap=0, fps=0.01)
    high = SampleConfig(steps=1000, guidance=100.0, seed=2**32 - 1, eta=1.0, fps=1000.0)
    assert dataclasses.replace(low, size=(64, 64)).steps == 1
    assert high.seed == 2**32 - 1
