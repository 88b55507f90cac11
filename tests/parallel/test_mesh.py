"""The mesh: all axes, one size left open, and what is refused."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from realisdance_jax.parallel.mesh import MESH_AXES, make_mesh
from realisdance_jax.utils.errors import UserError
from tests.parallel.chips import pod


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
class Gpu:
    """What JAX knows of a device in a run over several hosts."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "gpu"
    device_kind: str = "of tests"


GPUS = [Gpu(n, n // 4) for n in range(8)]


def test_only_data_crosses_between_slices():
    mesh = make_mesh({"data": 2, "fsdp": 2, "frames": 2}, GPUS)
    assert tuple(mesh.shape.values()) == (2, 2, 2, 1)
    slices = np.vectorize(lambda chip: chip.slice_index)(mesh.devices)
    assert np.all(slices == np.arange(2).reshape(2, 1, 1, 1))
    assert set(mesh.devices.flat) == set(GPUS)
    with pytest.raises(UserError, match="data to divide by 2 slices, found 1"):
        make_mesh({"fsdp": 32}, pod("TPU v5 lite", (4, 4, 1), 2))


@pytest.mark.parametrize("shape", [{"fsdp": 8}, {"data": 1, "frames": 2, "fsdp": 4}])
def test_axes_may_cross_gpu_hosts(shape):
    """Which JAX calls slices; `plan` says of such meshes whether they fit. Host by host."""
    mesh = make_mesh(shape, GPUS)
    assert list(mesh.devices.flat) == GPUS


def test_one_chip_of_many_is_a_mesh():
    for chip in pod("TPU v5 lite", (4, 4, 1))[5:7]:
        assert make_mesh({}, [chip]).devices.item() == chip


@pytest.mark.parametrize("kind", ["TPU v5 lite", "TPU v6 lite", "TPU v5p", "TPU v4"])
@pytest.mark.parametrize("slices", [1, 2])
def test_every_size_has_a_mesh_on_a_torus(kind, slices):
    """Axes may take a part of an axis of chips: (2, 8) on 4 x 4 is no product of whole ones."""
    shape = (2, 2, 4) if kind in ("TPU v5p", "TPU v4") else (4, 4, 1)
    chips = pod(kind, shape, slices)
    for data in (1, 2, 4, 8, 16):
        sizes = {"data": data * slices, "fsdp": 16 // data}
        mesh = make_mesh(sizes, chips)
        assert set(mesh.devices.flat) == set(chips)
        assert (mesh.shape["data"], mesh.shape["fsdp"]) == tuple(sizes.values())
