"""Where parameters and batches go on a mesh."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import (
    batch_sharding,
    check_batch,
    host_rows,
    largest_axis_spec,
    parameter_spec,
    place_rows,
)
from realisdance_jax.utils.errors import UserError
from tests.parallel.chips import pod

MESH = {"data": 2, "fsdp": 2, "tensor": 2}


def test_kernels_are_cut_along_both_axes():
    spec = parameter_spec(("embed", "mlp"), (320, 2560), make_mesh(MESH))
    assert spec == PartitionSpec("fsdp", "tensor")


def test_what_does_not_divide_or_is_small_stays_whole():
    mesh = make_mesh(MESH)
    assert parameter_spec(("embed", "mlp"), (321, 2560), mesh) == PartitionSpec(None, "tensor")
    assert parameter_spec(("norm",), (320,), mesh) == PartitionSpec()


def test_leaves_without_names_are_cut_along_their_largest_axis():
    mesh = make_mesh(MESH)
    assert largest_axis_spec((3, 3, 512, 256), mesh) == PartitionSpec(None, None, "fsdp", None)
    assert largest_axis_spec((5, 7), mesh) == PartitionSpec()


def test_batches_spread_over_data_and_fsdp():
    mesh = make_mesh(MESH)
    placed = jax.device_put(np.zeros((8, 3)), batch_sharding(mesh))
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
    check_batch(mesh, 8, 2)
    with pytest.raises(UserError, match="multiple of data x fsdp = 4 in 2 parts, found 4"):
        check_batch(mesh, 4, 2)


PODS = [
    ("TPU v5 lite", (4, 4, 1), 1, {"data": 16}),
    ("TPU v5 lite", (4, 4, 1), 1, {"data": 4, "fsdp": 4}),
    ("TPU v5 lite", (4, 4, 1), 1, {"fsdp": 16}),
    ("TPU v5 lite", (4, 8, 1), 1, {"data": 32}),
    ("TPU v5 lite", (4, 4, 1), 2, {"data": 8, "fsdp": 4}),
    ("TPU v6 lite", (4, 4, 1), 1, {"data": 2, "fsdp": 8}),
    ("TPU v5p", (2, 2, 2), 1, {"data": 8}),
    ("TPU v4", (2, 2, 4), 1, {"data": 4, "frames": 4}),
]


@pytest.mark.parametrize(("kind", "shape", "slices", "sizes"), PODS)
def test_a_host_loads_the_rows_that_its_chips_hold(kind, shape, slices, sizes):
    """On a torus they have gaps; JAX itself says where each chip's rows are."""
    chips = pod(kind, shape, slices)
    mesh = make_mesh(sizes, chips)
    batch = 2 * mesh.shape["data"] * mesh.shape["fsdp"]
    wanted: dict[int, set[int]] = {}
    for chip, (rows,) in batch_sharding(mesh).devices_indices_map((batch,)).items():
        wanted.setdefault(chip.process_index, set()).update(range(*rows.indices(batch)))
    assert len(wanted) == len(chips) // 4
    for process, rows in wanted.items():
        assert host_rows(mesh, batch, process) == sorted(rows)


def test_some_rows_have_gaps():
    """What the others are about: a ring over 16 chips comes by the first host three times."""
    mesh = make_mesh({"data": 16}, pod("TPU v5 lite", (4, 4, 1)))
    assert host_rows(mesh, 16, 0) == [0, 1, 6, 15]


@pytest.mark.parametrize("sizes", [{"data": 2, "fsdp": 4}, MESH, {"frames": 8}])
def test_rows_go_where_their_sharding_says(sizes):
    """All on this host; with gaps between them in the test of two processes."""
    mesh = make_mesh(sizes)
    values = np.arange(16, dtype=np.uint8).reshape(8, 2)
    assert host_rows(mesh, 8) == list(range(8))
    placed = place_rows(values, batch_sharding(mesh))
    assert (placed.sharding, placed.dtype) == (batch_sharding(mesh), np.uint8)
    np.testing.assert_array_equal(placed, values)
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, values[shard.index])
