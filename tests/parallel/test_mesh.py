"""The mesh: all axes, one size left open, and what is refused."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from realisdance_jax.parallel.mesh import MESH_AXES, make_mesh
from realisdance_jax.utils.errors import UserError


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ({"data": -1}, (8, 1, 1, 1)),
        ({"data": 2, "fsdp": -1}, (2, 4, 1, 1)),
        ({"frames": 2, "tensor": 4}, (1, 1, 2, 4)),
        ({"data": 8, "tensor": -1}, (8, 1, 1, 1)),
    ],
)
def test_sizes(shape, sizes):
    mesh = make_mesh(shape)
    assert mesh.axis_names == MESH_AXES
    assert tuple(mesh.shape.values()) == sizes
    assert set(mesh.axis_types) == {AxisType.Auto}


def test_some_of_the_devices():
    chosen = jax.devices()[2:6]
    mesh = make_mesh({"data": -1, "fsdp": 2}, chosen)
    assert tuple(mesh.shape.values()) == (2, 2, 1, 1)
    assert set(mesh.devices.flat) == set(chosen)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"date": 8}, "did you mean 'data'"),
        ({"data": -1, "fsdp": -1}, "at most one size of -1, found 2"),
        ({"data": 0}, "data: expected at least 1"),
        ({"data": 3}, "make 8 devices, found data 3"),
        ({"data": 3, "fsdp": -1}, "make 8 devices, found data 3 x fsdp -1"),
        ({}, "make 8 devices"),
    ],
)
def test_refusals(shape, message):
    with pytest.raises(UserError, match=message) as refused:
        make_mesh(shape)
    assert "\n" not in str(refused.value)


@dataclass(frozen=True)
class Chip:
    """What JAX knows of a device in a run over several slices."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "gpu"
    device_kind: str = "of tests"


CHIPS = [Chip(n, n // 4) for n in range(8)]


def test_only_data_crosses_between_slices():
    mesh = make_mesh({"data": 2, "fsdp": 2, "frames": 2}, CHIPS)
    assert tuple(mesh.shape.values()) == (2, 2, 2, 1)
    slices = np.vectorize(lambda chip: chip.slice_index)(mesh.devices)
    assert np.all(slices == np.arange(2).reshape(2, 1, 1, 1))
    assert set(mesh.devices.flat) == set(CHIPS)
    with pytest.raises(UserError, match="data to divide by 2 slices, found 1"):
        make_mesh({"fsdp": 8}, CHIPS)
