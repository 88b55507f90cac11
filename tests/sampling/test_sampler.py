"""What the sampler asks of options and weights before it computes anything."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from realisdance_jax.checkpoints.weights import Manifest
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import MotionConfig, RealisDanceConfig
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling import sampler
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.encode import Clip
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.sampler import check_config, choose_windows, sample_clip
from realisdance_jax.utils.errors import UserError

VIDEO = Manifest(1, RealisDanceConfig(motion=MotionConfig(max_frames=6)))
IMAGE = Manifest(1, RealisDanceConfig(motion=None))


def pipeline(manifest: Manifest, devices: int = 1) -> Pipeline:
    """One without networks."""
    mesh = make_mesh({"data": -1}, jax.devices()[:devices])
    none = SimpleNamespace()
    return Pipeline(manifest, none, {}, none, {}, none, {}, mesh)


@pytest.mark.parametrize(
    ("frames", "windows", "devices", "asked", "batch"),
    [
        (3, 1, 1, 8, 1),
        (3, 1, 8, 1, 8),
        (3, 1, 8, 64, 8),
        (12, 3, 1, 8, 3),
        (12, 3, 2, 64, 4),
        (12, 3, 2, 1, 2),
        (12, 3, 1, 2, 2),
    ],
)
def test_a_call_holds_no_more_windows_than_there_are(frames, windows, devices, asked, batch):
    """Rounded up to the devices only; the plan is a whole number of such calls."""
    sizes = {"window_size": 6, "window_overlap": 2, "window_batch": asked, "steps": 2}
    config = SampleConfig(windows="blend", **sizes)
    plan, size = choose_windows(pipeline(VIDEO, devices), config, frames)
    assert size == batch
    assert plan.index.shape[1] == -(-windows // batch) * batch
    assert np.count_nonzero(plan.weight[0].any(axis=1)) == windows


def test_image_stage_windows_are_frames():
    config = SampleConfig(window_batch=64, steps=2)
    plan, size = choose_windows(pipeline(IMAGE), config, 5)
    assert (plan.index.shape, size) == ((2, 5, 1), 5)


def test_windows_beyond_the_position_tables():
    for config, frames in (
        (SampleConfig(window_size=16), 6),
        (SampleConfig(window_size=6), 80),
        (SampleConfig(window_size=16), None),
    ):
        check_config(VIDEO, config, frames)
    check_config(IMAGE, SampleConfig(window_size=16), 80)
    with pytest.raises(UserError, match=r"window size: expected at most 6 frames .* found 16$"):
        check_config(VIDEO, SampleConfig(window_size=16), 7)


def test_a_solver_that_does_not_suit_the_weights():
    schedule = ScheduleConfig(prediction="epsilon", zero_snr=True)
    manifest = Manifest(1, RealisDanceConfig(), schedule)
    with pytest.raises(UserError, match="prediction: epsilon says nothing at timestep"):
        check_config(manifest, SampleConfig())
    check_config(manifest, SampleConfig(spacing="leading"))


def test_a_clip_is_refused_before_it_is_encoded(monkeypatch):
    def encode(*_):
        raise AssertionError("poses were encoded")

    monkeypatch.setattr(sampler, "encode_conditions", encode)
    picture = np.zeros((32, 32, 3), np.float32)
    clip = Clip(picture, picture, [np.zeros((32, 32, 9), np.float32)] * 7)
    with pytest.raises(UserError, match="window size: expected at most 6 frames"):
        sample_clip(pipeline(VIDEO), clip, SampleConfig((32, 32)))
