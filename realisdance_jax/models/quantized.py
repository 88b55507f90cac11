"""Kernels in eight bits: values with a scale per output channel, made wide where they are used."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from realisdance_jax.shapes import Array

QuantizedType = Literal["int8", "fp8"]

LARGEST = {"int8": 127.0, "fp8": 448.0}
DTYPES = {"int8": jnp.int8, "fp8": jnp.float8_e4m3fn}

LEAST = 2**14
"""Smaller kernels, such as those of the first and last convolution, stay as they are: they take
next to no memory, and every pixel passes them."""


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True)
class QuantizedKernel(nn.meta.AxisMetadata):
    """values: `... o` of 8 bits. scale: `o`, float32. Layers find `values * scale` in its place."""

    values: Any
    scale: Any

    def unbox(self) -> Array:
        """The kernel `... o` in float32, for `parameter` in layers.py."""
        return self.values.astype(jnp.float32) * self.scale

    def replace_boxed(self, val: Any) -> Any:
        return val

    def add_axis(self, index: int, params: dict) -> "QuantizedKernel":
        raise TypeError("kernels in eight bits are not stacked")

    def remove_axis(self, index: int, params: dict) -> "QuantizedKernel":
        raise TypeError("kernels in eight bits are not stacked")

    def tree_flatten_with_keys(self) -> tuple[tuple, None]:
        key = jax.tree_util.GetAttrKey
        return ((key("values"), self.values), (key("scale"), self.scale)), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple) -> "QuantizedKernel":
        return cls(*children)


jax.export.register_pytree_node_serialization(
    QuantizedKernel,
    serialized_name="realisdance_jax.QuantizedKernel",
    serialize_auxdata=lambda _: b"",
    deserialize_auxdata=lambda _: None,
)


@partial(jax.jit, static_argnames="kind")
def quantize_kernel(kernel: Array, kind: QuantizedType) -> QuantizedKernel:
    """`... o`, each output channel scaled so that its largest weight is the largest number."""
    wide = kernel.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=tuple(range(kernel.ndim - 1)))
    scale = jnp.where(largest > 0, largest, 1.0) / LARGEST[kind]
    values = wide / scale
    if kind == "int8":
        values = jnp.round(values)
    return QuantizedKernel(values.astype(DTYPES[kind]), scale)


def quantize_kernels(variables: dict, kind: QuantizedType) -> dict:
    """Variables of a component with all kernels of at least `LEAST` numbers in eight bits."""
    flat: dict[tuple, Any] = dict(flatten_dict(variables["params"]))
    small = {
        path: quantize_kernel(leaf, kind) if path[-1] == "kernel" and leaf.size >= LEAST else leaf
        for path, leaf in flat.items()
    }
    return {**variables, "params": unflatten_dict(small)}
