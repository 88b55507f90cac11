"""How a model computes, apart from what it computes: precision, attention, memory, devices."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realisdance_jax.parallel.rules import activation_spec
from realisdance_jax.shapes import Array

AttentionKind = Literal["auto", "xla", "chunked", "cudnn", "flash"]
RematPolicy = Literal["none", "blocks", "dots"]
Layer = TypeVar("Layer", bound=type[nn.Module])


@dataclass(frozen=True)
class Compute:
    """dtype: of activations and products; parameters, norms and softmax stay float32.

    attention: see `attend.py`; a kind that cannot take a shape gives way to one that can.
    remat: what the backward pass computes again: nothing, all inside each residual, attention and
    motion block, or all but its matrix products (`dots`).
    mesh: where constraints spread activations and kernels run; None is one device.
    training: whether gradients are wanted.
    """

    dtype: Any = jnp.float32
    attention: AttentionKind = "auto"
    remat: RematPolicy = "none"
    mesh: Mesh | None = None
    training: bool = False

    def block(self, layer: Layer) -> Layer:
        """`layer` as it is, or recomputed in the backward pass as `remat` says."""
        if self.remat == "none":
            return layer
        saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        return nn.remat(layer, policy=saved if self.remat == "dots" else None)

    def spread(self, x: Array, *names: str | None) -> Array:
        """`x` with its axes over the mesh axes that `names` stand for (parallel/rules.py).

        Axes without a name, or that do not divide, stay as the compiler likes them.
        """
        if self.mesh is None or self.mesh.size == 1:
            return x
        free = PartitionSpec.UNCONSTRAINED
        spec = [free if part is None else part for part in self.spec(x.shape, *names)]
        if all(part is free for part in spec):
            return x
        sharding = NamedSharding(self.mesh, PartitionSpec(*spec))
        return jax.lax.with_sharding_constraint(x, sharding)

    def spec(self, shape: tuple[int, ...], *names: str | None) -> PartitionSpec:
        """Mesh axes of an array of `shape` whose axes are called `names`; None is a whole copy.

        In training the compiler places pixels: told to spread them over the frames' devices, XLA
        (jax 0.10.2, both partitioners) leaves a sum over them out of the parameters' gradients.
        """
        assert self.mesh is not None
        if self.training:
            names = tuple(None if name == "pixels" else name for name in names)
        return activation_spec(names, shape, self.mesh)

    def ways(self, spec: PartitionSpec) -> int:
        """Over how many devices `spec` spreads an array."""
        assert self.mesh is not None
        axes = [axis for part in spec if part is not None for axis in _names(part)]
        return math.prod(self.mesh.shape[axis] for axis in axes)

    @property
    def platform(self) -> str:
        """tpu, gpu or cpu: of the mesh's devices, which may be ones that are only compiled for."""
        name = jax.default_backend() if self.mesh is None else self.mesh.devices.flat[0].platform
        return "gpu" if name in ("cuda", "rocm") else name


ONE_DEVICE = Compute()
"""Float32 on one device, nothing recomputed: what tests and tools want."""


def exact_products(dtype: Any = jnp.float32) -> AbstractContextManager:
    """What to trace a network in that computes in `dtype`: float32 stays float32 in products.

    GPUs and TPUs would otherwise round the factors to TF32 or bfloat16 (parity.md: float32).
    """
    full = jnp.dtype(dtype) == jnp.float32
    return jax.default_matmul_precision("highest") if full else nullcontext()


def _names(part: str | tuple[str, ...]) -> tuple[str, ...]:
    return (part,) if isinstance(part, str) else part
