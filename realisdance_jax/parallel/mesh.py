"""One device mesh for all programs: which axes there are and how many devices each takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
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
        found = f"{sizes.count(-1)} (data is -1 by default)"
        raise UserError(f"mesh: expected at most one size of -1, found {found}")
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(1, len(devices) // -math.prod(sizes))
    if math.prod(sizes) != len(devices):
        found = " x ".join(f"{axis} {size}" for axis, size in shape.items())
        raise UserError(f"mesh: expected sizes that make {len(devices)} devices, found {found}")
    return Mesh(_placed(sizes, devices), MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes))


def _placed(sizes: list[int], devices: Sequence[Any]) -> np.ndarray:
    """Devices such that axes follow the links between chips.

    An axis of the mesh may take a part of an axis of chips: else most sizes would be refused on a
    TPU. Of several slices only `data`, whose traffic is least, crosses from one to another. A GPU's
    slice is its host: other axes may cross hosts, but where `data` can, they do not.
    """
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    on_gpus = all(device.platform in ("gpu", "cuda", "rocm") for device in devices)
    if slices == 1 or (on_gpus and sizes[0] % slices):
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    if sizes[0] % slices:
        raise UserError(f"mesh: expected data to divide by {slices} slices, found {sizes[0]}")
    inside = [sizes[0] // slices, *sizes[1:]]
    across = [slices, *(1 for _ in sizes[1:])]
    return mesh_utils.create_hybrid_device_mesh(
        inside, across, devices, allow_split_physical_axes=True
    )
