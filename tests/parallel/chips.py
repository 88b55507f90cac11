"""Chips as JAX shows those of a TPU pod, without one."""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """What JAX knows of a chip when it lays a mesh over a torus."""

    id: int
    process_index: int
    coords: tuple[int, int, int]
    slice_index: int
    device_kind: str
    platform: str = "tpu"
    core_on_chip: int = 0


def pod(kind: str, shape: tuple[int, int, int], slices: int = 1) -> list[Chip]:
    """Slices of x by y by z chips in JAX's order: host by host, each with two by two of them."""
    x, y, z = shape
    places = []
    for slice_index in range(slices):
        for k, j, i in itertools.product(range(z), range(y), range(x)):
            host = ((slice_index * z + k) * (y // 2) + j // 2) * (x // 2) + i // 2
            places.append((host, (i, j, k), slice_index))
    places.sort(key=lambda place: place[0])
    return [Chip(n, *place, device_kind=kind) for n, place in enumerate(places)]
