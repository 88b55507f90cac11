"""Every way of spreading a step over eight devices gives the update of one device."""

import dataclasses

import jax
import numpy as np
import pytest

from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.training.loop import to_devices
from realisdance_jax.training.program import first_state, load_frozen, make_program
from tests.e2e.conftest import ONE_LEVEL, SMALL
from tests.training.test_program import tiny

FRAMES = {"data": 2, "fsdp": 2, "frames": 2}
TENSOR = {"data": 4, "tensor": 2}


def one_step(folder, devices: int, **mesh: int):
    """First moments after a step from random weights, and the state they are part of."""
    manifest = read_manifest(folder)
    recipe = tiny(2, **mesh)
    train = dataclasses.replace(recipe.train, remat="none")
    recipe = dataclasses.replace(recipe, model=manifest.model, train=train)
    program = make_program(recipe, jax.devices()[:devices])
    trainable, frozen = load_frozen(program, folder, manifest)
    with make_batches(recipe.data, seed=0) as batches:
        batch = to_devices(next(batches), program.batch_sharding)
    state, _ = program.compiled()(first_state(program, trainable), frozen, batch)
    return state.opt_state[1][0].mu, state


def check_meshes(folder, model, *meshes: dict[str, int]) -> None:
    """The gradients of one device, and every copy of a leaf the same to the bit."""
    write_random_weights(folder / "w", model)
    alone = one_step(folder / "w", 1, data=1)[0]
    for mesh in meshes:
        found, state = one_step(folder / "w", 8, **mesh)
        for path, expected in alone.items():
            scale = float(np.abs(expected).max())
            np.testing.assert_allclose(found[path], expected, atol=1e-4 * scale, err_msg=path)
        for leaf in jax.tree.leaves(state):
            copies: dict = {}
            for shard in leaf.addressable_shards:
                copies.setdefault(str(shard.index), []).append(np.asarray(shard.data))
            for first, *others in copies.values():
                assert all(np.array_equal(first, other) for other in others), "copies drift apart"


def test_gradients_do_not_depend_on_the_mesh(tmp_path):
    check_meshes(tmp_path, ONE_LEVEL, FRAMES)


@pytest.mark.slow
def test_gradients_of_two_levels_do_not_depend_on_the_mesh(tmp_path):
    check_meshes(tmp_path, SMALL, FRAMES, TENSOR)
