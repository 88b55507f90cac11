"""The step around the networks: bad updates, averages, parts of a batch, when to give up."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realisdance_jax.checkpoints.run import RunCheckpoints
from realisdance_jax.config import base_config
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import batch_sharding
from realisdance_jax.training.loop import MOST_BAD, Meaning, saved_form, train
from realisdance_jax.training.optim import OptimConfig, make_optimizer
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.training.step import (
    Frozen,
    LossConfig,
    Networks,
    TrainState,
    apply_gradients,
    make_train_step,
)
from realisdance_jax.training.writer import RunWriter
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.tree import flatten

WEIGHTS = {"params/model/a": jnp.array([1.0, -2.0]), "params/model/b": jnp.array(3.0)}


def fresh(optimizer: optax.GradientTransformation, ema: bool = False) -> TrainState:
    averages = dict(WEIGHTS) if ema else {}
    zero = jnp.int32(0)
    return TrainState(zero, dict(WEIGHTS), optimizer.init(WEIGHTS), averages, zero)


def equal(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


GRADIENT = {"params/model/a": jnp.array([0.5, 0.25]), "params/model/b": jnp.array(-1.0)}


@pytest.mark.parametrize("bad", ["loss", "gradient"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_update_is_left_out_and_counted(bad, value, tmp_path):
    optimizer = make_optimizer(OptimConfig(lr=0.1), 10)
    update = jax.jit(lambda s, g, x: apply_gradients(s, g, x, optimizer, 0.9))
    first, _ = update(fresh(optimizer, ema=True), GRADIENT, jnp.float32(1))
    loss = jnp.float32(value if bad == "loss" else 1)
    broken = {**GRADIENT, "params/model/b": jnp.float32(value)} if bad == "gradient" else GRADIENT
    second, told = update(first, broken, loss)
    third, _ = update(second, broken, loss)
    assert (int(second.step), int(second.bad), int(third.bad)) == (2, 1, 2)
    assert int(told["bad"]) == 1
    for name in ("trainable", "opt_state", "ema"):
        assert equal(getattr(third, name), getattr(first, name)), name
    saved = RunCheckpoints(tmp_path, 1, 1)
    saved.save(3, saved_form(third), {})
    saved.finish()
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), saved_form(third)
    )
    back, _ = saved.restore(shapes)
    saved.close()
    again = third._replace(**{k: v for k, v in back.items() if k not in ("trainable", "ema")})
    again = again._replace(trainable=flatten(back["trainable"]), ema=flatten(back["ema"]))
    one, _ = update(again, GRADIENT, jnp.float32(1))
    other, _ = update(first, GRADIENT, jnp.float32(1))
    assert (int(one.bad), int(one.step)) == (0, 4)
    assert equal(one.trainable, other.trainable)  # as if the bad ones had not been


def test_the_average_follows_its_formula():
    """It forgets the start in the first updates, then keeps to its decay."""
    optimizer = make_optimizer(OptimConfig(lr=0.1), 10)
    state = fresh(optimizer, ema=True)
    average = {path: np.asarray(x, np.float64) for path, x in WEIGHTS.items()}
    for decay in (1 / 10, 2 / 11, 0.2, 0.2):
        state, _ = apply_gradients(state, GRADIENT, jnp.float32(1), optimizer, 0.2)
        for path, x in state.trainable.items():
            average[path] = decay * average[path] + (1 - decay) * np.asarray(x, np.float64)
    for path, x in average.items():
        np.testing.assert_allclose(state.ema[path], x, rtol=1e-6)
    assert all(x.dtype == jnp.float32 for x in state.ema.values())


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_decay_is_the_rate_times_the_weight(name):
    """Whatever the rule, also while the rate is warming up."""
    config = OptimConfig(name=name, lr=0.1, warmup_steps=4, weight_decay=0.5)
    optimizer = make_optimizer(config, 10)
    weights, state = dict(WEIGHTS), optimizer.init(WEIGHTS)
    zero = jax.tree.map(jnp.zeros_like, WEIGHTS)
    expected = 1.0
    for k in range(6):
        updates, state = optimizer.update(zero, state, weights)
        weights = optax.apply_updates(weights, updates)
        expected *= 1 - 0.5 * 0.1 * min(k / 4, 1)
        for path, x in weights.items():
            np.testing.assert_allclose(x, WEIGHTS[path] * expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_every_rule_goes_downhill(name):
    optimizer = make_optimizer(OptimConfig(name=name, lr=0.05), 200)
    weights, state = dict(WEIGHTS), optimizer.init(WEIGHTS)

    def loss(weights):
        return sum(jnp.sum(jnp.square(x - 0.5)) for x in weights.values())

    @jax.jit
    def step(weights, state):
        updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
        return optax.apply_updates(weights, updates), state

    before = float(loss(weights))
    for _ in range(200):
        weights, state = step(weights, state)
    assert float(loss(weights)) < 0.05 * before


def test_muon_turns_kernels_and_only_them():
    """Every direction of a kernel moves as far, whatever its gradient; AdamW gets the rest.

    And the kernels of the pose gate, which its sigmoid would leave without a gradient.
    """
    config = OptimConfig("muon", lr=0.1, weight_decay=0.0, clip_norm=1e9)
    optimizer = make_optimizer(config, 10)
    gate = "params/pose_guider/gate_module/gate_layer.2/kernel"
    shapes = {"params/conv/kernel": (3, 3, 4, 8), "params/conv/bias": (8,), "params/table": (1, 4)}
    shapes[gate] = (7, 7, 4, 3)
    random = np.random.default_rng(0)
    weights = {path: jnp.zeros(shape) for path, shape in shapes.items()}
    gradient = {path: jnp.asarray(random.normal(size=shape)) for path, shape in shapes.items()}
    updates, _ = optimizer.update(gradient, optimizer.init(weights), weights)
    kernel = np.asarray(updates.pop("params/conv/kernel")).reshape(36, 8)
    moved = np.linalg.svd(kernel, compute_uv=False) / (0.1 * 0.2 * 36**0.5)
    assert moved.min() > 0.6
    assert moved.max() < 1.3
    assert np.sum(kernel * np.asarray(gradient["params/conv/kernel"]).reshape(36, 8)) < 0
    adam = optax.adamw(0.1, weight_decay=0.0, nesterov=True)
    for path, update in updates.items():
        expected, _ = adam.update(gradient[path], adam.init(weights[path]), weights[path])
        np.testing.assert_allclose(update, expected, rtol=1e-4)


def test_muon_moves_the_encoder_of_a_condition_with_hardly_a_gradient():
    """Side by side in one kernel, but as far as the others; as one matrix it would stand still."""
    path = "params/pose_guider/backbone/conv_in/kernel"
    gradient = np.random.default_rng(0).normal(size=(3, 3, 4, 12))
    gradient[..., :4] *= 1e-6
    updates = {}
    for conditions in (1, 3):
        config = OptimConfig("muon", lr=0.1, weight_decay=0.0, clip_norm=1e9)
        optimizer = make_optimizer(config, 10, conditions)
        weights, grads = {path: jnp.zeros(gradient.shape)}, {path: jnp.asarray(gradient)}
        found, _ = optimizer.update(grads, optimizer.init(weights), weights)
        updates[conditions] = np.split(np.asarray(found[path]).reshape(36, 12), 3, axis=1)
    together, apart = ([np.linalg.norm(part) for part in updates[n]] for n in (1, 3))
    assert together[0] < 1e-2 * together[1]
    np.testing.assert_allclose(apart, apart[1], rtol=0.15)
    for part, steepest in zip(
        updates[3], np.split(gradient.reshape(36, 12), 3, axis=1), strict=True
    ):
        across = np.sum(part * steepest) / np.linalg.norm(part) / np.linalg.norm(steepest)
        assert across < -0.9


def test_muon_is_that_of_optax():
    """Kernels of one shape are turned together, and come out as they do one by one."""
    random = np.random.default_rng(0)
    shapes = {
        "a/kernel": (3, 3, 4, 8),
        "b/kernel": (36, 8),
        "c/kernel": (8, 36),
        "d/kernel": (8, 8),
    }
    weights = {path: jnp.asarray(random.normal(size=shape)) for path, shape in shapes.items()}
    gradient = {path: jnp.asarray(random.normal(size=shape)) for path, shape in shapes.items()}
    ours = make_optimizer(OptimConfig("muon", lr=0.1, clip_norm=1e9), 10)
    apart = {path: (tuple(range(len(shape) - 1)), len(shape) - 1) for path, shape in shapes.items()}
    theirs = optax.contrib.muon(
        0.1,
        weight_decay=1e-2,
        consistent_rms=0.2,
        muon_weight_dimension_numbers={
            path: optax.contrib.MuonDimensionNumbers(*axes) for path, axes in apart.items()
        },
    )
    found, _ = ours.update(gradient, ours.init(weights), weights)
    expected, _ = theirs.update(gradient, theirs.init(weights), weights)
    for path in shapes:
        np.testing.assert_allclose(found[path], expected[path], rtol=1e-3, atol=1e-5)


class Toy:
    """Scales what it is given; its conditions and reference shift it."""

    config = SimpleNamespace(
        pose=SimpleNamespace(conditions=("a", "b", "c")), unet=SimpleNamespace(in_channels=4)
    )
    compute = SimpleNamespace(mesh=None, dtype=jnp.float32)

    def apply(self, variables, noisy, t, reference, tokens, conditions, keep):
        a, b = (variables["params"]["model"][name] for name in "ab")
        seen = reference.mean((1, 2, 3)) * (1.0 if keep is None else keep)
        shift = seen + conditions.mean((1, 2, 3, 4)) + tokens.mean((1, 2)) + t / 1000
        return noisy * a[0] + a[1] * shift[:, None, None, None, None] * b


def toy_step(accumulate: int = 1, **options):
    networks = Networks(
        Toy(), None, SimpleNamespace(config=SimpleNamespace(scaling=0.5)), ScheduleConfig()
    )
    optimizer = make_optimizer(OptimConfig(lr=0.1), 10)
    loss = LossConfig(drop=0.3, shuffle=0.5, **options)
    return optimizer, jax.jit(make_train_step(networks, loss, optimizer, 7, accumulate))


def toy_batch(batch: int = 8, frames: int = 3) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    shapes = {
        "latent_mean": (batch, frames, 2, 3, 4),
        "latent_std": (batch, frames, 2, 3, 4),
        "reference_mean": (batch, 2, 3, 4),
        "reference_std": (batch, 2, 3, 4),
        "tokens": (batch, 5, 6),
        "conditions": (batch, frames, 4, 6, 9),
    }
    return {name: jnp.asarray(rng.normal(size=at), jnp.float32) for name, at in shapes.items()}


FROZEN = Frozen({}, {}, {}, jnp.zeros((1, 5, 6)))


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_make_the_update_of_the_whole(parts):
    optimizer, whole = toy_step()
    _, split = toy_step(parts)
    one, told = whole(fresh(optimizer), FROZEN, toy_batch())
    other, split_told = split(fresh(optimizer), FROZEN, toy_batch())
    for path, x in one.trainable.items():
        assert not np.array_equal(x, WEIGHTS[path])
        np.testing.assert_allclose(other.trainable[path], x, rtol=1e-5)
    np.testing.assert_allclose(split_told["loss"], told["loss"], rtol=1e-5)
    np.testing.assert_allclose(split_told["mse"], told["mse"], rtol=1e-5)  # in the same order
    np.testing.assert_array_equal(split_told["t"], told["t"])
    assert int(split_told["draws"]) == int(told["draws"])


def test_a_step_draws_no_timestep_below_the_least():
    optimizer, step = toy_step(least_timestep=990)
    _, told = step(fresh(optimizer), FROZEN, toy_batch())
    assert int(told["t"].min()) >= 990


def test_after_twenty_bad_updates_in_a_row_it_gives_up(tmp_path):
    optimizer, step = toy_step()
    batch = {name: np.asarray(x) for name, x in toy_batch().items()}
    batch["latent_mean"] = np.full_like(batch["latent_mean"], np.nan)
    batch["draw_hash"] = np.zeros(8, np.int64)
    steps = []

    def endless():
        while True:
            steps.append(len(steps))
            yield batch

    config = base_config(2)
    config.train.update({"steps": 100, "log_every": 1, "save_every": 5})
    recipe = Recipe.of(config)
    checkpoints = RunCheckpoints(tmp_path, 5, 2)
    writer = RunWriter(tmp_path, 100)
    run = partial(
        train,
        step,
        fresh(optimizer),
        FROZEN,
        batch_sharding(make_mesh({"data": 1}, jax.devices()[:1])),
        endless(),
        checkpoints,
        dict,
        replace(recipe.train, preview_every=0),
        writer,
        Meaning(frames=24, timesteps=1000, lr=lambda step: 0.1),
    )
    with pytest.raises(UserError, match=f"found {MOST_BAD} updates in a row"):
        run()
    writer.close()
    checkpoints.close()
    assert len(steps) == MOST_BAD
    assert checkpoints.latest == 15
