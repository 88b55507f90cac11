"""One process of two, started as on a TPU VM pod: `python -m tests.training.pod FOLDER PROCESS`.

FOLDER holds `run`, a stage-1 run without its base. The port is that of JAX_COORDINATOR_PORT.
"""

import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.clusters import cloud_tpu_cluster

from realisdance_jax.checkpoints.run import BASE
from realisdance_jax.checkpoints.variables import abstract_component, boxed_component
from realisdance_jax.checkpoints.weights import load_component, read_manifest
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import (
    batch_sharding,
    host_rows,
    parameter_shardings,
    place_rows,
)
from realisdance_jax.training import base
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.utils.distributed import first_host, start_distributed
from realisdance_jax.utils.errors import UserError
from tests.training.test_program import tiny

FRESH = 0.5


def constant(recipe: Recipe, component: str, value: float = FRESH) -> dict:
    """A network at once: drawing new ones takes most of a minute."""
    shapes = dict(abstract_component(recipe.model, component))
    return jax.tree.map(lambda x: jnp.asarray(np.full(x.shape, value, np.float32)), shapes)


def join(process: int) -> None:
    """Two workers of which only the metadata server tells."""
    answers = {
        "agent-worker-number": str(process),
        "worker-network-endpoints": "127.0.0.1,127.0.0.1",
        "tpu-env": "",
    }
    os.environ.pop("TPU_SKIP_MDS_QUERY", None)  # which JAX sets where it sees no TPU
    cloud_tpu_cluster.running_in_cloud_tpu_vm = True
    cloud_tpu_cluster.get_metadata = lambda key: (answers[key], 200)
    start_distributed(None, 1, 0)
    assert (jax.process_index(), jax.process_count()) == (process, 2)


def load_rows_with_gaps() -> None:
    """A mesh in which the two processes take turns, as hosts of a torus do."""
    by_process = [[d for d in jax.devices() if d.process_index == i] for i in range(2)]
    mesh = make_mesh({"data": -1}, [d for pair in zip(*by_process, strict=True) for d in pair])
    rows = host_rows(mesh, 8)
    assert rows == [[0, 1, 4, 5], [2, 3, 6, 7]][jax.process_index()]
    batch = np.arange(24, dtype=np.float32).reshape(8, 3)
    placed = place_rows(batch[rows], batch_sharding(mesh))
    assert placed.shape == batch.shape
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, batch[shard.index])


def load_together(folder: Path) -> None:
    """Every process reads the shards of its devices."""
    manifest, name = read_manifest(folder), "pose_guider"
    boxed = boxed_component(manifest.model, name)
    where = parameter_shardings(boxed, make_mesh({"fsdp": -1}))
    spread = load_component(folder, manifest, name, sharding=where)
    whole = load_component(folder, manifest, name)
    for leaf, other in zip(jax.tree.leaves(spread), jax.tree.leaves(whole), strict=True):
        assert len(leaf.sharding.device_set) == 4
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, np.asarray(other)[shard.index])


def main() -> None:
    folder, process = Path(sys.argv[1]), int(sys.argv[2])
    base._fresh = constant
    join(process)
    load_rows_with_gaps()
    first_host(lambda: base.write_base(folder / "run" / BASE, tiny(1), None, None), "new")
    first_host(lambda: base.write_base(folder / "base", tiny(2), folder / "run", None), "base")
    load_together(folder / "base")
    try:
        first_host(lambda: base.write_base(folder / "no", tiny(2), folder / "none", None), "none")
    except UserError as error:
        print(f"refused: {error}", flush=True)


if __name__ == "__main__":
    main()
