"""Layers of the metric networks: functions of a flat dict of arrays with the names torch gave them.

Activations are `n h w c` or `n t h w c`; convolution kernels `h w i o` or `t h w i o`. Everything
is float32 and exact: accelerators would otherwise round products to bfloat16 or TF32.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from realisdance_jax.shapes import Array

Params = Mapping[str, Array]
Pads = Sequence[tuple[int, int]]

_LAYOUT = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def convolve(
    params: Params, name: str, x: Array, stride: int | Sequence[int] = 1, pads: Pads | None = None
) -> Array:
    """Convolution `name`, with a bias if there is one. pads: half the kernel unless given."""
    kernel = params[f"{name}.weight"]
    dims = kernel.ndim - 2
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * dims if isinstance(stride, int) else stride,
        half(kernel.shape[:dims]) if pads is None else pads,
        dimension_numbers=_LAYOUT[dims],
        precision=jax.lax.Precision.HIGHEST,
    )
    return y + params[f"{name}.bias"] if f"{name}.bias" in params else y


def half(kernel: Sequence[int]) -> Pads:
    """Symmetric padding that keeps the size at stride 1."""
    return [(k // 2, k // 2) for k in kernel]


def batch_norm(params: Params, name: str, x: Array, eps: float) -> Array:
    """Batch normalisation `name` with its stored statistics."""
    scale = params[f"{name}.weight"] * jax.lax.rsqrt(params[f"{name}.running_var"] + eps)
    return (x - params[f"{name}.running_mean"]) * scale + params[f"{name}.bias"]


def max_pool(x: Array, size: Sequence[int], stride: Sequence[int], pads: Pads) -> Array:
    """Maximum over windows; padding never wins."""
    window, steps, around = (1, *size, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, steps, around)


def mean_pool(x: Array, size: Sequence[int], pads: Pads) -> Array:
    """Mean over windows at stride 1; padded places do not count."""
    window, steps, around = (1, *size, 1), (1,) * x.ndim, ((0, 0), *pads, (0, 0))

    def total(values: Array) -> Array:
        return jax.lax.reduce_window(values, 0.0, jax.lax.add, window, steps, around)

    return total(x) / total(jnp.ones_like(x[:1, ..., :1]))
