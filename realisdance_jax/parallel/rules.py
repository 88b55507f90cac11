"""What the names on the parameters' axes mean on a mesh. Models name axes; only this file maps.

`fsdp` takes the side that a layer reads from, `tensor` the side that it writes to (or the heads),
so that a kernel is cut along both. A mesh axis serves one axis of an array, the earliest rule wins:
the time embedding (`embed`, `time`) is cut along `embed` alone.
"""

import math
from collections.abc import Sequence

from jax.sharding import Mesh, PartitionSpec

RULES: tuple[tuple[str, str | None], ...] = (
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("embed_out", "tensor"),
    ("conv_in", "fsdp"),
    ("conv_out", "tensor"),
    ("time", "fsdp"),
    ("norm", None),
    ("token", None),
    ("conv_h", None),
    ("conv_w", None),
)
"""Logical axis -> mesh axis, None for a whole copy everywhere; as Flax's logical rules want it."""

LOGICAL_AXES = tuple(name for name, _ in RULES)
"""Every name that a parameter's axis may carry."""

ACTIVATION_RULES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "frames": ("frames",),
    "pixels": ("frames",),
    "heads": ("tensor",),
}
"""Axis of an activation -> mesh axes. Spatial layers spread frames, so that one clip can live on
several chips; temporal layers, which need all frames of a pixel, spread pixels over the same when
sampling. In training the compiler places pixels: see `Compute.spec` in models/compute.py."""


def activation_spec(names: Sequence[str | None], shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """PartitionSpec of an activation by `ACTIVATION_RULES`; what does not divide stays whole."""
    spec = []
    for name, size in zip(names, shape, strict=True):
        axes = () if name is None else ACTIVATION_RULES[name]
        ways = math.prod(mesh.shape[axis] for axis in axes)
        spec.append(axes if ways > 1 and size % ways == 0 else None)
    return PartitionSpec(*spec)
