"""Leaf layers with float32 parameters, a compute dtype and logical axis names on every parameter.

Module names are the PyTorch ones, dots included, so that a parameter's path joined with dots *is*
its name in the official checkpoint, up to `kernel`/`scale` for `weight` (checkpoints/convert).
"""

import math
from collections.abc import Sequence

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.shapes import Array


def uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in +-1/sqrt(fan_in), what PyTorch gives new layers."""
    limit = 1.0 / math.sqrt(fan_in)

    def init(key: Array, shape: Sequence[int], dtype=jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def named(init: nn.initializers.Initializer, *axes: str | None) -> nn.initializers.Initializer:
    """`init` whose parameter carries the logical axis names `axes`, None for an axis of size 1."""
    return nn.with_logical_partitioning(init, axes)


def parameter(
    module: nn.Module, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
) -> Array:
    """`module.param`, which traces `init` anew at every use, where the parameter is not yet there.

    Raises Flax's `ScopeParamShapeError` for one of another shape.
    """
    if not module.has_variable("params", name):
        return module.param(name, init, shape)
    value = nn.meta.unbox(module.get_variable("params", name))
    if value.shape != shape:
        path = "/".join(module.path)
        raise flax.errors.ScopeParamShapeError(name, path, value.shape, shape)
    return value


class Linear(nn.Module):
    """Affine map of the last axis. `axes` are the logical names of the kernel's two axes."""

    features: int
    axes: tuple[str, str]
    use_bias: bool = True
    zero_init: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        fan_in = x.shape[-1]
        init = nn.initializers.zeros if self.zero_init else uniform_fan_in(fan_in)
        kernel = parameter(self, "kernel", named(init, *self.axes), (fan_in, self.features))
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if self.use_bias:
            bias = parameter(self, "bias", named(init, self.axes[1]), (self.features,))
            y = y + bias.astype(self.dtype)
        return y


def convolution(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """`b h w i` with `k k i o`.

    Where there are fewer pixels than the kernel has, XLA would slide the picture over the kernel,
    which on CPUs takes six times as long; it does so, too, with a padding that it can see.
    """
    k, (height, width) = kernel.shape[0], x.shape[1:3]
    if padding and height * width < k * k:
        around = (padding, padding)
        x = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), around, around, (0, 0))))
        padding = 0
    around = ((padding, padding), (padding, padding))
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), around, dimension_numbers=axes)


def _kernel_and_bias(
    module: nn.Module, size: int, width: int, features: int, zero_init: bool = False
) -> tuple[Array, Array]:
    """Parameters `size size width features` and `features` of a convolution."""
    init = nn.initializers.zeros if zero_init else uniform_fan_in(size * size * width)
    axes = ("conv_h", "conv_w", "conv_in", "conv_out")
    kernel = parameter(module, "kernel", named(init, *axes), (size, size, width, features))
    return kernel, parameter(module, "bias", named(init, "conv_out"), (features,))


class Conv(nn.Module):
    """2-D convolution of `... h w c`, symmetric padding (parity.md: H21); leading axes fold."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | None = None
    zero_init: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        k = self.kernel_size
        pad = k // 2 if self.padding is None else self.padding
        kernel, bias = _kernel_and_bias(self, k, x.shape[-1], self.features, self.zero_init)
        pictures = x.reshape((-1, *x.shape[-3:])).astype(self.dtype)
        y = convolution(pictures, kernel.astype(self.dtype), self.stride, pad)
        y = y + bias.astype(self.dtype)
        return y.reshape((*x.shape[:-3], *y.shape[-3:]))


class GroupedConv(nn.Module):
    """3x3 convolutions side by side whose kernels are one parameter `k k c (g features)`.

    Groups come and go as pictures of their own, each `b h w c`: XLA's grouped convolutions take 4
    times as long on CPUs, 30 times for the kernel's gradient, and joining groups between layers
    half as long again.
    """

    features: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, groups: Sequence[Array]) -> list[Array]:
        count, width = len(groups), groups[0].shape[-1]
        kernel, bias = _kernel_and_bias(self, 3, width, count * self.features)
        kernels, biases = (jnp.split(x.astype(self.dtype), count, axis=-1) for x in (kernel, bias))
        return [
            convolution(x.astype(self.dtype), k, self.stride, 1) + b
            for x, k, b in zip(groups, kernels, biases, strict=True)
        ]


def group_normalise(x: Array, groups: int, eps: float, over_frames: bool = False) -> Array:
    """`b f h w c` in float32 with mean 0 and variance 1 per clip or frame and group.

    Two passes: one pass (mean of squares less squared mean) cancels where the variance is small.
    """
    grouped = rearrange(x.astype(jnp.float32), "b f h w (g i) -> b f h w g i", g=groups)
    axes = (1, 2, 3, 5) if over_frames else (2, 3, 5)
    centred = grouped - grouped.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + eps)).reshape(x.shape)


class GroupNorm(nn.Module):
    """Group normalisation of `b f h w c`, statistics in float32.

    `over_frames` takes them over all frames of a clip, else per frame (parity.md: H2).
    """

    groups: int
    eps: float
    over_frames: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        scale = parameter(self, "scale", named(nn.initializers.ones, "norm"), (c,))
        bias = parameter(self, "bias", named(nn.initializers.zeros, "norm"), (c,))
        y = group_normalise(x, self.groups, self.eps, self.over_frames)
        return (y * scale + bias).astype(self.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation of the last axis, statistics in float32."""

    eps: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = x.shape[-1]
        scale = parameter(self, "scale", named(nn.initializers.ones, "norm"), (c,))
        bias = parameter(self, "bias", named(nn.initializers.zeros, "norm"), (c,))
        x = x.astype(jnp.float32)
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.eps)
        return (y * scale + bias).astype(self.dtype)


class GEGLU(nn.Module):
    """Feed-forward `net.2(value * gelu(gate))`, value half first, exact GELU (parity.md: H19)."""

    inner: int
    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        hidden = Linear(2 * self.inner, ("embed", "mlp"), dtype=self.dtype, name="net.0.proj")(x)
        value, gate = jnp.split(hidden, 2, axis=-1)
        y = value * nn.gelu(gate, approximate=False)
        return Linear(self.features, ("mlp", "embed"), dtype=self.dtype, name="net.2")(y)
