"""The official losses and gradients again: recomputed blocks, and batches over eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.checkpoints.variables import boxed_component
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import batch_sharding, parameter_shardings, replicated
from realisdance_jax.training.batch import Draws
from realisdance_jax.training.step import LossConfig, Networks, loss_fn
from realisdance_jax.utils.tree import flatten
from tests import oracle
from tests.parity.report import GRADIENT, LOSS
from tests.parity.test_train import batch, official, parts, path_of

pytestmark = pytest.mark.slow

SPREAD = {1: ({"data": 4, "fsdp": 2}, 8), 2: ({"data": 2, "fsdp": 2, "frames": 2}, 4)}
"""Mesh, and how many examples the oracle's batch is repeated to."""


def gradient_of_loss(stage: int, compute: Compute, inputs: dict, draws: Draws):
    networks = Networks.of(oracle.config(stage), ScheduleConfig(), compute)

    @jax.jit
    def run(trainable, frozen):
        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        return gradient(trainable, networks, LossConfig(drop=0.0), frozen, inputs, draws)

    return run


def check(stage: int, loss, grads) -> None:
    """Against the arrays of the official step."""
    theirs, file = oracle.arrays(f"train_stage{stage}"), f"train_stage{stage}"
    error = abs(float(loss) - float(theirs["loss"])) / abs(float(theirs["loss"]))
    assert error <= oracle.tolerance(f"{file}/loss", LOSS)
    names = [key.removeprefix("grad.") for key in theirs if key.startswith("grad.")]
    assert len(names) > 5
    for name in names:
        key = f"grad.{name}"
        ours = official(stage, name, np.asarray(grads[path_of(stage, name)]))
        bound = oracle.tolerance(f"{file}/{key}", GRADIENT)
        assert oracle.relative_error(ours, theirs[key]) <= bound, name


@pytest.mark.parametrize("remat", ["blocks", "dots"])
@pytest.mark.parametrize("stage", [1, 2])
def test_recomputed(stage, remat):
    run = gradient_of_loss(stage, Compute(remat=remat, training=True), *batch(stage))
    (loss, _), grads = run(*parts(stage))
    check(stage, loss, grads)


@pytest.mark.parametrize("stage", [1, 2])
def test_on_eight_devices(stage):
    """The loss is a mean over examples, so that repeating them changes nothing."""
    shape, size = SPREAD[stage]
    mesh = make_mesh(shape)
    inputs, draws = batch(stage)
    times = size // len(draws.t)
    assert times * len(draws.t) == size

    def tiled(x):
        many = jnp.tile(x, (times, *(1 for _ in x.shape[1:])))
        return jax.device_put(many, batch_sharding(mesh))

    inputs, draws = jax.tree.map(tiled, (inputs, draws))
    places = {}
    for name in COMPONENTS:
        boxed = boxed_component(oracle.config(stage), name)
        places |= flatten(parameter_shardings(boxed, mesh))
    trainable, frozen = parts(stage)
    whole = replicated(mesh)
    trainable = {path: jax.device_put(x, places[path]) for path, x in trainable.items()}
    model = {path: jax.device_put(x, places[path]) for path, x in frozen.model.items()}
    frozen = frozen._replace(model=model, zero_tokens=jax.device_put(frozen.zero_tokens, whole))
    run = gradient_of_loss(stage, Compute(remat="blocks", mesh=mesh, training=True), inputs, draws)
    (loss, _), grads = run(trainable, frozen)
    check(stage, loss, grads)
