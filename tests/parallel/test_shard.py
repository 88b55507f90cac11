"""Where parameters and batches go on a mesh."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import (
    batch_sharding,
    check_batch,
    largest_axis_spec,
    parameter_spec,
)
from realisdance_jax.utils.errors import UserError

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
