"""Tiny weights and a drawn clip, made once; the command line called in process."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from realisdance_jax import sample
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.data.demo_clip import DemoFiles, write_demo_clip
from realisdance_jax.models.config import (
    DinoConfig,
    MotionConfig,
    RealisDanceConfig,
    VAEConfig,
)
from realisdance_jax.models.quantized import QuantizedType
from realisdance_jax.sampling.pipeline import Pipeline, load
from tests.commands import Run, run_program
from tests.models.tiny import POSE, TWO_LEVELS

# Two levels and one layer of each kind: programs that compile in seconds. The VAE needs its four.
SMALL = RealisDanceConfig(
    unet=TWO_LEVELS,
    pose=POSE,
    dino=DinoConfig(width=8, layers=1, heads=2, table_size=3),
    vae=VAEConfig(widths=(4, 4, 4, 4), layers_per_block=1, norm_groups=4),
    motion=MotionConfig(heads=2, max_frames=6),
)
# Half as much to compile, where up- and downsampling is not the question.
ONE_LEVEL = replace(
    SMALL, unet=replace(SMALL.unet, widths=(8,), attention_levels=(True,), heads=(2,))
)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A video-stage model with every weight at random."""
    folder = tmp_path_factory.mktemp("weights") / "video"
    write_random_weights(folder, SMALL)
    return folder


@pytest.fixture(scope="session")
def image_weights(tmp_path_factory) -> Path:
    """An image-stage model."""
    folder = tmp_path_factory.mktemp("weights") / "image"
    write_random_weights(folder, replace(SMALL, motion=None))
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> DemoFiles:
    """Six frames of 64 x 48 pixels at 24 fps."""
    return write_demo_clip(tmp_path_factory.mktemp("clip"), 6, 64, 48, fps=24)


@pytest.fixture(scope="session")
def pipelines() -> Callable[[Path, str], Pipeline]:
    """`load` on one device, remembered, so that programs compile once per session."""
    loaded: dict[tuple, Pipeline] = {}

    def remembered(
        folder: Path,
        dtype: str = "float32",
        devices_per_window: int = 1,
        offload: bool | None = None,
        quantize: QuantizedType | None = None,
    ) -> Pipeline:
        key, rest = (folder, dtype, offload, quantize), (devices_per_window, offload, quantize)
        if key not in loaded:
            loaded[key] = load(folder, dtype, jax.devices()[:1], *rest)
        return loaded[key]

    return remembered


@pytest.fixture
def command(monkeypatch, capfd) -> Callable[..., Run]:
    """Call `python -m realisdance_jax.sample` with these words, in process."""

    def run(*words: str | Path) -> Run:
        return run_program(sample.main, words, monkeypatch, capfd)

    return run
