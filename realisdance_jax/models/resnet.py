"""Residual block, down- and upsampling of the UNets."""

import flax.linen as nn
import jax.numpy as jnp

from realisdance_jax.models.layers import Conv, GroupNorm, Linear
from realisdance_jax.shapes import Array


class ResnetBlock(nn.Module):
    """norm, SiLU, conv, + time, norm, SiLU, conv, + input; norms span frames (parity.md: H2)."""

    width: int
    groups: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, time: Array) -> Array:
        """`b f h w c`, time embedding `b c` -> `b f h w width`."""

        def norm(name: str) -> GroupNorm:
            return GroupNorm(self.groups, eps=1e-5, over_frames=True, dtype=self.dtype, name=name)

        y = Conv(self.width, dtype=self.dtype, name="conv1")(nn.silu(norm("norm1")(x)))
        shift = Linear(self.width, ("time", "conv_out"), dtype=self.dtype, name="time_emb_proj")
        y = y + shift(nn.silu(time))[:, None, None, None, :]
        y = Conv(self.width, dtype=self.dtype, name="conv2")(nn.silu(norm("norm2")(y)))
        if x.shape[-1] != self.width:
            x = Conv(self.width, kernel_size=1, dtype=self.dtype, name="conv_shortcut")(x)
        return x + y


class Downsample(nn.Module):
    """3x3 convolution of stride 2, padded by 1 on every side (parity.md: H21)."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Conv(self.width, stride=2, dtype=self.dtype, name="conv")(x)


def resize_nearest(x: Array, height: int, width: int) -> Array:
    """Nearest neighbour with source index floor(i * in / out), not half-pixel (parity.md: H17)."""
    h, w = x.shape[-3:-1]
    rows = jnp.arange(height) * h // height
    columns = jnp.arange(width) * w // width
    return jnp.take(jnp.take(x, rows, axis=-3), columns, axis=-2)


class Upsample(nn.Module):
    """Nearest resize to the skip's size, then a 3x3 convolution."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, height: int, width: int) -> Array:
        return Conv(self.width, dtype=self.dtype, name="conv")(resize_nearest(x, height, width))
