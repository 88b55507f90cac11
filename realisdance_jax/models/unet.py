"""The one UNet: reference, image-stage main and video-stage main differ in configuration only."""

from collections.abc import Iterator

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from realisdance_jax.models.blocks import DownBlock, MidBlock, UpBlock
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import MotionConfig, UNetConfig
from realisdance_jax.models.layers import Conv, GroupNorm, Linear
from realisdance_jax.models.transformer import (
    Context,
    ContextKV,
    Features,
    ReferenceKV,
    SpatialTransformer,
)
from realisdance_jax.shapes import Array, Bool, Float, Int, typechecked

SPATIAL = ("batch", "frames", None, None, None)
"""What the axes of `b f h w c` are called in spatial layers."""


def timestep_embedding(t: Array, width: int) -> Array:
    """`b` times -> `b width`: cosines, then sines, of t * 10000^(-i / half) (parity.md: H18)."""
    half = width // 2
    frequency = np.exp(-np.log(10000.0) * np.arange(half, dtype=np.float64) / half)
    angle = t.astype(jnp.float32)[:, None] * jnp.asarray(frequency, jnp.float32)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class TimeEmbedding(nn.Module):
    """linear_1, SiLU, linear_2."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        axes = ("embed", "time")
        x = nn.silu(Linear(self.width, axes, dtype=self.dtype, name="linear_1")(x))
        return Linear(self.width, ("embed", "time"), dtype=self.dtype, name="linear_2")(x)


class UNet(nn.Module):
    """Stable Diffusion 1.5 UNet over frames `b f h w c`; an image is a clip of one frame.

    Any latent height and width: levels halve rounding up, upsampling resizes to the skip (H17).
    """

    config: UNetConfig
    motion: MotionConfig | None = None
    compute: Compute = Compute()

    def setup(self):
        c, widths, dtype = self.config, self.config.widths, self.compute.dtype
        levels = len(widths)
        self.conv_in = Conv(widths[0], dtype=dtype)
        self.time_embedding = TimeEmbedding(4 * widths[0], dtype)

        def shared(level: int, path: str) -> dict:
            return {
                "width": widths[level],
                "heads": c.heads[level],
                "groups": c.norm_groups,
                "key": path,
                "attention": c.attention_levels[level],
                "motion": self.motion,
                "compute": self.compute,
                "name": path,
            }

        self.down_blocks = [
            DownBlock(
                count=c.layers_per_block,
                downsample=level < levels - 1,
                **shared(level, f"down_blocks.{level}"),
            )
            for level in range(levels)
        ]
        middle = shared(levels - 1, "mid_block") | {"attention": True, "motion": None}
        self.mid_block = MidBlock(count=1, **middle)
        self.up_blocks = [
            UpBlock(
                count=c.layers_per_block + 1,
                upsample=i < levels - 1,
                **shared(levels - 1 - i, f"up_blocks.{i}"),
            )
            for i in range(levels)
        ]
        self.conv_norm_out = GroupNorm(c.norm_groups, eps=1e-5, over_frames=True, dtype=dtype)
        self.conv_out = Conv(c.out_channels, dtype=dtype)

    def transformers(self) -> Iterator[SpatialTransformer]:
        """Every spatial transformer, in the order of the forward pass."""
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            yield from block.transformers()

    def reference_kv(self, features: Features) -> ReferenceKV:
        """Keys and values `b m k d`, by this UNet's projections, of reference tokens `b m c`."""
        return {
            transformer.block.key: transformer.block.attn1.key_value(
                features[transformer.block.key]
            )
            for transformer in self.transformers()
            if transformer.block.key in features
        }

    def context_kv(self, context: Array) -> ContextKV:
        """Keys and values of image tokens `b m c` for every cross-attention."""
        blocks = (transformer.block for transformer in self.transformers())
        return {block.key: block.token_kv(context) for block in blocks}

    def fold_context(self, context: Array) -> ContextKV:
        """What every cross-attention gives to image tokens `b m c` that are all alike."""
        blocks = (transformer.block for transformer in self.transformers())
        return {block.key: block.folded(context) for block in blocks}

    @typechecked
    def __call__(
        self,
        sample: Float[Array, "b f h w c"],
        t: Int[Array, "b"] | Float[Array, "b"],
        context: Float[Array, "_ m d"] | ContextKV,
        pose: tuple[Array, ...] | None = None,
        reference: ReferenceKV | None = None,
        keep: Bool[Array, "b"] | None = None,
    ) -> tuple[Float[Array, "b f h w o"], Features]:
        """Predict from noisy latents.

        Args:
          sample: latents.
          t: `b` diffusion times.
          context: image tokens after the projector, one set per clip, or what `context_kv` or
            `fold_context` made of them.
          pose: outputs of the pose guider, one for conv_in and one per down block, or the first of
            these alone.
          reference: K/V by block path, joined to that block's own; None is plain self-attention.
          keep: `b` bools, which examples attend to the reference.

        Returns:
          The prediction (float32) and the normed tokens of every block, which make this UNet's
          features when it serves as the reference.
        """
        x, features, _ = _whole(self, sample, t, context, pose, reference, keep)
        return x, features

    def keeping(
        self,
        sample: Float[Array, "b f h w c"],
        t: Int[Array, "b"],
        context: Context,
        pose: tuple[Array, ...] | None,
        reference: ReferenceKV | None,
        layers: int,
    ) -> tuple[Float[Array, "b f h w o"], Float[Array, "b f h w d"]]:
        """The prediction, and what goes into the last `layers` layers of the way up.

        These are 1 to `outer_layers` layers of the outermost level; `reusing` runs them alone.
        """
        x, _, deep = _whole(self, sample, t, context, pose, reference, None, layers)
        return x, deep

    def reusing(
        self,
        sample: Float[Array, "b f h w c"],
        t: Int[Array, "b"],
        context: Context,
        pose: tuple[Array, ...] | None,
        reference: ReferenceKV | None,
        deep: Float[Array, "b f h w d"],
        layers: int,
    ) -> Float[Array, "b f h w o"]:
        """The prediction with `deep` of an earlier step (Ma et al. 2023, DeepCache).

        Anew are the last `layers` layers of the way up and what skips lead into them.
        """
        time = self.time_embedding(timestep_embedding(t, self.config.widths[0]))
        joint = (time, context, reference, None)
        x = _entry(self, sample, pose)
        _, skips, _ = self.down_blocks[0](x, *joint, layers=layers - 1)
        last, inputs = self.up_blocks[-1], [x, *skips]
        size = x.shape[2:4]
        x, _ = last(deep, inputs[::-1], size, *joint, first=last.count - layers)
        return _exit(self, x)


def outer_layers(config: UNetConfig) -> int:
    """How many layers on the way up can run on kept features.

    Those of the outermost level; but the last skip of a UNet of one level carries a pose (H1).
    """
    return config.layers_per_block + (len(config.widths) > 1)


def _entry(unet: UNet, sample: Array, pose: tuple[Array, ...] | None) -> Array:
    x = unet.compute.spread(unet.conv_in(sample), *SPATIAL)
    return x if pose is None else x + pose[0]


def _exit(unet: UNet, x: Array) -> Array:
    return unet.conv_out(nn.silu(unet.conv_norm_out(x))).astype(jnp.float32)


def _whole(
    unet: UNet,
    sample: Array,
    t: Array,
    context: Context,
    pose: tuple[Array, ...] | None,
    reference: ReferenceKV | None,
    keep: Array | None,
    layers: int = 0,
) -> tuple[Array, Features, Array]:
    """Prediction, features, and what goes into the last `layers` layers.

    A function and no method: Flax would name a method in the path of every operation.
    """
    time = unet.time_embedding(timestep_embedding(t, unet.config.widths[0]))
    joint = (time, context, reference, keep)
    features: Features = {}
    x = _entry(unet, sample, pose)
    skips = [x]
    for i, block in enumerate(unet.down_blocks):
        x, own_skips, normed = block(x, *joint)
        features.update(normed)
        if pose is not None and len(pose) > 1:
            # The block's last skip is this very tensor and carries the pose (parity.md: H1).
            x = own_skips[-1] = x + pose[i + 1]
        skips.extend(own_skips)
    x, normed = unet.mid_block(x, *joint)
    features.update(normed)
    *inner, last = unet.up_blocks
    for block in inner:
        own_skips = [skips.pop() for _ in range(block.count)]
        x, normed = block(x, own_skips, skips[-1].shape[2:4], *joint)
        features.update(normed)
    first, skips = last.count - layers, skips[::-1]
    deep, normed = last(x, skips[:first], x.shape[2:4], *joint)
    features.update(normed)
    x, normed = last(deep, skips[first:], x.shape[2:4], *joint, first=first)
    features.update(normed)
    return _exit(unet, x), features, deep
