"""One device mesh for all programs: which axes there are and how many devices each takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import nearest

MESH_AXES = ("data", "fsdp", "frames", "tensor")
"""Examples or windows, slices of parameters, frames of a clip, slices of one layer."""


def make_mesh(shape: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with all of `MESH_AXES`; those not in `shape` have size 1, one may be -1: the rest.

    Axes are Auto: with JAX's newer default (Explicit) Flax's logical constraints fail.
    Raises `UserError` for an unknown axis, a bad size or a product that is not the number of
    `devices` (all by default).
    """
    devices = jax.devices() if devices is None else devices
    for axis, size in shape.items():
        if axis not in MESH_AXES:
            raise UserError(
                f"mesh: expected the axes {', '.join(MESH_AXES)}, found {axis!r}"
                f"{nearest(axis, MESH_AXES)}"
            )
        if size < 1 and size != -1:
            raise UserError(f"mesh: {axis}: expected at least 1, or -1 for the rest, found {size}")
    sizes = [shape.get(axis, 1) for axis in MESH_AXES]
    if sizes.count(-1) > 1:
        raise UserError(f"mesh: expected at most one size of -1, found {sizes.count(-1)}")
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(1, len(devices) // -math.prod(sizes))
    if math.prod(sizes) != len(devices):
        found = " x ".join(f"{axis} {size}" for axis, size in shape.items())
        raise UserError(f"mesh: expected sizes that make {len(devices)} devices, found {found}")
    types = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=types, devices=devices)
