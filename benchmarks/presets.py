"""Sizes of the benchmarks, and networks with random weights to run them on."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.checkpoints.random_weights import random_variables
from realisdance_jax.checkpoints.weights import FORMAT, Manifest
from realisdance_jax.data.transforms import dino_size
from realisdance_jax.models.compute import RematPolicy
from realisdance_jax.models.config import (
    DinoConfig,
    MotionConfig,
    PoseGuiderConfig,
    RealisDanceConfig,
    UNetConfig,
    VAEConfig,
)
from realisdance_jax.models.quantized import QuantizedType
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.encode import Clip
from realisdance_jax.sampling.pipeline import Pipeline, assemble, sampling_mesh


@dataclass(frozen=True)
class Preset:
    """size: of pictures. frames: of the clip; windows of `window` frames overlap by `overlap`.

    lengths: clips whose steps are timed. whole: whether longer ones are timed from pictures to
    pictures, too. plain: whether the release's order is timed as well.
    batches: examples of a training step, by stage; `train_frames` of each in the second; remat:
    what its backward pass computes again.
    attention: groups, queries (and own and shared keys each), heads and head width.
    """

    model: RealisDanceConfig
    size: tuple[int, int]
    frames: int
    window: int
    overlap: int
    steps: int
    dtype: str
    lengths: tuple[int, ...]
    whole: bool
    plain: bool
    batches: dict[int, int]
    train_frames: int
    remat: RematPolicy
    attention: tuple[tuple[int, int, int, int], ...]

    def sampling(self) -> SampleConfig:
        """The release's moving windows, one at a time."""
        return SampleConfig(
            size=self.size,
            steps=self.steps,
            window_size=self.window,
            window_overlap=self.overlap,
            window_batch=1,
        )


TINY = Preset(
    model=RealisDanceConfig(
        unet=UNetConfig(
            widths=(8, 16),
            layers_per_block=1,
            attention_levels=(True, False),
            heads=(2, 4),
            context_dim=6,
            norm_groups=4,
        ),
        pose=PoseGuiderConfig(encoder_widths=(2, 3, 4, 5), gate_width=3),
        dino=DinoConfig(width=8, layers=1, heads=2, table_size=3),
        vae=VAEConfig(widths=(4, 4, 4, 4), layers_per_block=1, norm_groups=4),
        motion=MotionConfig(heads=2, attentions=1, max_frames=6),
    ),
    size=(32, 32),
    frames=4,
    window=2,
    overlap=0,
    steps=2,
    dtype="float32",
    lengths=(4, 8),
    whole=True,
    plain=True,
    batches={1: 2, 2: 1},
    train_frames=2,
    remat="none",
    attention=((2, 64, 2, 8),),
)
SMALL = Preset(
    model=RealisDanceConfig(
        unet=UNetConfig(widths=(64, 128, 256, 256), context_dim=128),
        dino=DinoConfig(width=128, layers=2, heads=4),
        vae=VAEConfig(widths=(32, 64, 128, 128), layers_per_block=1),
        motion=MotionConfig(),
    ),
    size=(128, 96),
    frames=16,
    window=8,
    overlap=4,
    steps=10,
    dtype="float32",
    lengths=(16, 32, 64, 128),
    whole=False,
    plain=True,
    batches={1: 5, 2: 1},
    train_frames=8,
    remat="blocks",
    attention=((4, 768, 8, 40), (16, 192, 8, 80)),
)
FULL = Preset(
    model=RealisDanceConfig(motion=MotionConfig()),
    size=(768, 576),
    frames=16,
    window=16,
    overlap=4,
    steps=50,
    dtype="bfloat16",
    lengths=(16, 80),
    whole=True,
    plain=False,
    batches={1: 5, 2: 1},
    train_frames=16,
    remat="blocks",
    attention=((16, 6912, 8, 40), (16, 1728, 8, 80), (16, 432, 8, 160)),
)
PRESETS = {"tiny": TINY, "small": SMALL, "full": FULL}


NETWORKS = (*COMPONENTS, "image_encoder", "vae")


def make_pipeline(
    preset: Preset, offload: bool | None = None, quantize: QuantizedType | None = None
) -> Pipeline:
    """As `sampling.load` makes it, on the first device."""
    mesh = sampling_mesh(devices=jax.devices()[:1])
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def component(name: str, kind: Any) -> dict[str, Any]:
        def placed(x: np.ndarray) -> jax.Array:
            return jax.device_put(jnp.asarray(x, kind if x.ndim > 1 else jnp.float32), whole)

        return jax.tree.map(placed, random_variables(preset.model, name, NETWORKS.index(name)))

    return assemble(
        Manifest(FORMAT, preset.model), preset.dtype, mesh, component, offload, quantize
    )


def make_clip(preset: Preset, frames: int) -> Clip:
    """Noise in place of pictures: how long it takes does not depend on them."""
    random = np.random.default_rng(0)
    height, width = preset.size
    channels = 3 * len(preset.model.pose.conditions)
    return Clip(
        random.uniform(-1, 1, (height, width, 3)).astype(np.float32),
        random.standard_normal((*dino_size(preset.size), 3)).astype(np.float32),
        list(random.random((frames, height, width, channels), np.float32)),
    )


def make_latents(preset: Preset, frames: int) -> np.ndarray:
    """Initial latents `f h w c`."""
    height, width = (side // 8 for side in preset.size)
    shape = (frames, height, width, preset.model.unet.in_channels)
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)
