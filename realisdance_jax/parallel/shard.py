"""Shardings of parameters and batches on a mesh, from logical names and sizes."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realisdance_jax.parallel.rules import RULES
from realisdance_jax.utils.errors import UserError

SMALL = 2**14
"""Leaves with fewer values than this stay whole: cutting them costs more than it saves."""

BATCH_AXES = ("data", "fsdp")
"""Mesh axes over which the examples of a batch are spread: the first ones of a mesh."""


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over data x fsdp."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def check_batch(mesh: Mesh, batch: int, accumulate: int = 1) -> None:
    """Raise `UserError` unless every micro-batch divides over data x fsdp."""
    ways = _ways(mesh)
    if batch % (ways * accumulate):
        parts = f" in {accumulate} parts" if accumulate > 1 else ""
        raise UserError(
            f"batch size: expected a multiple of data x fsdp = {ways}{parts}, found {batch}"
        )


def check_frames(mesh: Mesh, frames: int) -> None:
    """Raise `UserError` unless the mesh axis `frames` divides the frames of an example.

    Else every device of the axis would hold all of them, and do the same work.
    """
    ways = mesh.shape["frames"]
    if frames % ways:
        raise UserError(f"mesh: expected frames to divide data.frames = {frames}, found {ways}")


def _ways(mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def host_rows(mesh: Mesh, batch: int, process: int | None = None) -> list[int]:
    """Rows of a global batch that the devices of `process` (this one by default) hold, in order.

    A mesh follows the links between chips, so those of a host need not be neighbours in it and its
    rows may have gaps. Processes over which frames or tensor are spread hold the same rows.
    """
    process = jax.process_index() if process is None else process
    ways = _ways(mesh)
    each = batch // ways
    hosts = [{device.process_index for device in row} for row in mesh.devices.reshape(ways, -1)]
    return [row for row in range(batch) if process in hosts[row // each]]


def place_rows(values: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """The global array sharded over examples, of which this host has its `host_rows` in `values`.

    sharding: `batch_sharding`.
    """
    mesh: Any = sharding.mesh
    ways = _ways(mesh)
    shards = host_rows(mesh, ways)
    each = len(values) // len(shards)
    place = {shard * each: i * each for i, shard in enumerate(shards)}

    def shard_of(index: Any) -> np.ndarray:
        start = place[index[0].start or 0]
        return values[start : start + each]

    return jax.make_array_from_callback((ways * each, *values.shape[1:]), sharding, shard_of)


def parameter_spec(names: tuple[str | None, ...], shape: tuple[int, ...], mesh: Mesh):
    """PartitionSpec of a leaf by `RULES`; an axis that does not divide stays whole.

    A mesh axis is used once, by the first axis of the leaf that it divides.
    """
    if math.prod(shape) < SMALL:
        return PartitionSpec()
    table, used, spec = dict(RULES), set(), []
    for name, size in zip(names, shape, strict=True):
        axis = table[name] if name is not None else None
        fits = axis is not None and axis not in used and size % mesh.shape[axis] == 0
        spec.append(axis if fits else None)
        if fits:
            used.add(axis)
    return PartitionSpec(*spec)


def parameter_shardings(boxed: Mapping, mesh: Mesh) -> Any:
    """Shardings of boxed abstract variables; leaves without names (the VAE) are cut by size."""

    def of_leaf(leaf: Any) -> NamedSharding:
        if isinstance(leaf, nn.LogicallyPartitioned):
            return NamedSharding(mesh, parameter_spec(leaf.names, leaf.value.shape, mesh))
        return NamedSharding(mesh, largest_axis_spec(leaf.shape, mesh))

    return jax.tree.map(of_leaf, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))


def largest_axis_spec(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """Cut the largest axis that fsdp divides, if the leaf is worth it."""
    ways = mesh.shape["fsdp"]
    fitting = [i for i, size in enumerate(shape) if size % ways == 0]
    if math.prod(shape) < SMALL or not fitting:
        return PartitionSpec()
    best = max(fitting, key=lambda i: shape[i])
    return PartitionSpec(*("fsdp" if i == best else None for i in range(len(shape))))
