"""Motion modules: temporal self-attention over the frames at each pixel (AnimateDiff v2 layout)."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from realisdance_jax.models.attend import attend
from realisdance_jax.models.attention import Attention
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import MotionConfig
from realisdance_jax.models.layers import GEGLU, GroupNorm, LayerNorm, Linear
from realisdance_jax.shapes import Array

BUFFERS = "buffers"
"""Variable collection of position tables: converted bit for bit, never trained or decayed."""


def sinusoid_table(length: int, width: int) -> np.ndarray:
    """`1 length width` float32: even channels sin(p w_i), odd cos, w_i = 10000^(-2i/width)."""
    position = np.arange(length, dtype=np.float32)[:, None]
    step = np.float32(-math.log(10000.0) / width)
    frequency = np.exp(np.arange(0, width, 2, dtype=np.float32) * step)
    table = np.zeros((1, length, width), np.float32)
    table[0, :, 0::2] = np.sin(position * frequency)
    table[0, :, 1::2] = np.cos(position * frequency)
    return table


class TemporalPosition(nn.Module):
    """Adds the first f rows of the table to `... f c`."""

    max_frames: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        table = self.variable(
            BUFFERS, "pe", lambda: jnp.asarray(sinusoid_table(self.max_frames, x.shape[-1]))
        )
        return x + table.value[0, : x.shape[-2]].astype(x.dtype)


class TemporalAttention(nn.Module):
    """Self-attention of `b p f c` over f; positions feed q, k and v alike (parity.md: H5)."""

    width: int
    config: MotionConfig
    compute: Compute = Compute()

    def setup(self):
        self.pos_encoder = TemporalPosition(self.config.max_frames)
        self.inner = Attention(self.width, self.config.heads, self.compute)
        nn.share_scope(self, self.inner)

    def __call__(self, x: Array) -> Array:
        x, inner = self.pos_encoder(x), self.inner
        own = inner.key_value(x)
        return inner.output(attend(inner.query(x), own, compute=self.compute, groups="pixels"))


class TemporalBlock(nn.Module):
    """[norm, temporal attention, +] for each attention, then [ff_norm, GEGLU, +]."""

    width: int
    config: MotionConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        dtype = self.compute.dtype
        for i in range(self.config.attentions):
            attention = TemporalAttention(
                self.width, self.config, self.compute, name=f"attention_blocks.{i}"
            )
            x = x + attention(LayerNorm(dtype=dtype, name=f"norms.{i}")(x))
        feed_forward = GEGLU(4 * self.width, self.width, dtype, name="ff")
        return x + feed_forward(LayerNorm(dtype=dtype, name="ff_norm")(x))


class MotionModule(nn.Module):
    """`b f h w c` -> same: GroupNorm per frame, Linear, block, zero-initialised Linear, residual.

    Raises ValueError above `config.max_frames` frames.
    """

    config: MotionConfig
    groups: int
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        _, f, h, _, c = x.shape
        if f > self.config.max_frames:
            raise ValueError(
                f"{f} frames, but motion modules hold {self.config.max_frames} positions"
            )
        compute, dtype = self.compute, self.compute.dtype
        prefix = "temporal_transformer"

        def linear(name: str, zero_init: bool = False) -> Linear:
            axes, name = ("embed", "embed_out"), f"{prefix}.{name}"
            return Linear(c, axes, zero_init=zero_init, dtype=dtype, name=name)

        y = GroupNorm(self.groups, eps=1e-6, dtype=dtype, name=f"{prefix}.norm")(x)
        y = compute.spread(rearrange(y, "b f h w c -> b (h w) f c"), "batch", "pixels", None, None)
        block = f"{prefix}.transformer_blocks.0"
        y = TemporalBlock(c, self.config, compute, name=block)(linear("proj_in")(y))
        y = rearrange(linear("proj_out", zero_init=True)(y), "b (h w) f c -> b f h w c", h=h)
        return compute.spread(x + y, "batch", "frames", None, None, None)
