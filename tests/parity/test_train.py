"""Loss, gradients, AdamW steps and trajectories of both stages against the official code."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realisdance_jax.checkpoints.convert.components import is_buffer, is_motion, model_tables
from realisdance_jax.config import base_config
from realisdance_jax.diffusion.loss import min_snr_weight
from realisdance_jax.diffusion.prediction import add_noise, velocity
from realisdance_jax.diffusion.schedule import ScheduleConfig, alphas_cumprod
from realisdance_jax.training.batch import Draws
from realisdance_jax.training.idle import expanded
from realisdance_jax.training.optim import OptimConfig, make_optimizer, trainable_paths
from realisdance_jax.training.step import Frozen, LossConfig, Networks, loss_fn
from realisdance_jax.utils.tree import flatten, split
from tests import oracle
from tests.parity.report import FORWARD, GRADIENT, LOSS, Table, channels_last, clip, images

CONDITIONS = ("pose", "hamer", "smpl")
NETWORKS = {stage: Networks.of(oracle.config(stage), ScheduleConfig()) for stage in (1, 2)}


@functools.cache
def batch(stage: int) -> tuple[dict, Draws]:
    """The oracle's batch as a cached one (latents with no spread) and its draws."""
    raw = {k[3:]: v for k, v in oracle.arrays("inputs").items() if k.startswith(f"t{stage}.")}
    scaling = oracle.config(stage).vae.scaling
    latents, noise = jnp.asarray(clip(raw["latents"])), jnp.asarray(clip(raw["noise"]))
    reference = jnp.asarray(channels_last(raw["ref_latents"]))
    b, f = latents.shape[:2]
    inputs = {
        "latent_mean": latents / scaling,
        "latent_std": jnp.zeros_like(latents),
        "reference_mean": reference / scaling,
        "reference_std": jnp.zeros_like(reference),
        "tokens": jnp.asarray(raw["clip_latents"]),
        "conditions": jnp.concatenate([clip(raw[name]) for name in CONDITIONS], axis=-1),
    }
    draws = Draws(
        t=jnp.asarray(raw["timesteps"], jnp.int32),
        noise=noise,
        keep=jnp.ones((b,), bool),
        order=jnp.broadcast_to(jnp.arange(f), (b, 3, f)),
        posterior=jnp.zeros_like(latents),
        reference_posterior=jnp.zeros_like(reference),
    )
    return inputs, draws


@functools.cache
def leaves(stage: int) -> dict:
    """Leaf by PyTorch name."""
    tables = model_tables(oracle.config(stage))
    return {name: leaf for table in tables.values() for name, leaf in table.items()}


def path_of(stage: int, name: str) -> str:
    return "/".join(leaves(stage)[name].path)


def parts(stage: int) -> tuple[dict, Frozen]:
    """(trainable, frozen) as `configs/stage*.py` choose them."""
    flat = flatten(oracle.model_variables(stage))
    table = expanded(base_config(stage).train.trainable, oracle.config(stage))
    trainable, frozen = split(flat, trainable_paths(flat, table))
    zero_tokens = jnp.zeros_like(oracle.arrays("inputs")[f"t{stage}.clip_latents"][:1])
    return trainable, Frozen(frozen, {}, {}, zero_tokens)


@functools.cache
def gradient_of_loss(stage: int):
    inputs, draws = batch(stage)

    @jax.jit
    def run(trainable, frozen):
        rates = LossConfig(drop=0.0)
        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        return gradient(trainable, NETWORKS[stage], rates, frozen, inputs, draws)

    return run


def optimizer(lr: float, clip_norm: float) -> optax.GradientTransformation:
    rule = oracle.meta()["optimizer"]
    b1, b2 = rule["betas"]
    config = OptimConfig(
        lr=lr, b1=b1, b2=b2, eps=rule["eps"], weight_decay=rule["weight_decay"], clip_norm=clip_norm
    )
    return make_optimizer(config, 1)


def official(stage: int, name: str, array: np.ndarray) -> np.ndarray:
    return leaves(stage)[name].to_torch(np.asarray(array))


@functools.cache
def first_step(stage: int) -> tuple:
    """((loss, aux), gradients) at the oracle's weights."""
    return gradient_of_loss(stage)(*parts(stage))


def named(stage: int, start: str) -> dict[str, str]:
    """Path by official name of the tensors stored as `start` and that name."""
    stored = [key for key in oracle.arrays(f"train_stage{stage}") if key.startswith(start)]
    names = [key.removeprefix(start) for key in stored]
    return {name: path_of(stage, name) for name in names}


REST = "rest"


def bundled(flat: dict, apart: Iterable[str]) -> dict:
    """The leaves `apart`, and all others as one vector.

    The rule treats numbers alike wherever they are, and compiles per leaf, of which there are 1400.
    """
    rest = [np.ravel(flat[path]) for path in sorted(flat.keys() - set(apart))]
    return {path: np.asarray(flat[path]) for path in apart} | {REST: np.concatenate(rest)}


def unbundled(bundle: dict, like: dict) -> dict:
    """The leaves of a bundle, in the shapes of `like`."""
    rest = sorted(like.keys() - bundle.keys())
    ends = np.cumsum([like[path].size for path in rest])
    vectors = np.split(np.asarray(bundle[REST]), ends[:-1])
    flat = {path: x.reshape(like[path].shape) for path, x in zip(rest, vectors, strict=True)}
    return flat | {path: x for path, x in bundle.items() if path != REST}


def test_the_optimizer_treats_leaves_alike():
    """Whatever their names and ranks, so that they may be bundled."""
    rng = np.random.default_rng(0)
    shapes = {"a/kernel": (3, 2, 4), "a/bias": (4,), "b/scale": (4,), "c": ()}
    params, *grads = (
        {path: np.float32(rng.normal(size=shape)) for path, shape in shapes.items()}
        for _ in range(3)
    )
    optim, apart = optimizer(1e-2, 1.0), ["a/bias"]
    update, bundle = jax.jit(optim.update), bundled(params, apart)
    state, other = optim.init(params), optim.init(bundle)
    for grad in grads:
        wanted, state = update(grad, state, params)
        updates, other = update(bundled(grad, apart), other, bundle)
        updates = unbundled(updates, params)
        assert updates.keys() == params.keys()
        for path, x in updates.items():
            np.testing.assert_allclose(x, wanted[path], rtol=1e-5)


@pytest.mark.parametrize("stage", [1, 2])
def test_what_trains(stage):
    """Stage 1: everything that has a gradient. Stage 2: the motion tensors less their tables."""
    trainable, _ = parts(stage)
    idle = set(oracle.meta()[f"train_stage{stage}"]["no_grad_names"])
    expected = {
        path_of(stage, name)
        for name, leaf in leaves(stage).items()
        if not is_buffer(leaf) and name not in idle and (stage == 1 or is_motion(name))
    }
    assert set(trainable) == expected


@pytest.mark.parametrize("stage", [1, 2])
def test_targets(stage, record_property):
    file = f"train_stage{stage}"
    table, loss_table = Table(record_property, file, FORWARD), Table(record_property, file, LOSS)
    inputs, draws = batch(stage)
    bars = jnp.asarray(alphas_cumprod(ScheduleConfig()))
    latents = inputs["latent_mean"] * oracle.config(stage).vae.scaling
    table.row("noisy_latents", images(add_noise(latents, draws.noise, bars[draws.t])))
    table.row("target", images(velocity(latents, draws.noise, bars[draws.t])))
    loss_table.row("weights", min_snr_weight(bars, draws.t, 5.0, "v_prediction"))
    table.verify()
    loss_table.verify()


def clear_of_noise(gradient: np.ndarray) -> np.ndarray:
    """Where the first gradient is not itself rounding: its sign is what AdamW's first step takes.

    As the notes of the oracle say of steps. On one kind of processor one element of a kernel had a
    gradient of 5e-8, and 3e-6 of error in five steps; the others had 5e-8 at most.
    """
    return np.abs(gradient) > 1e-6


@pytest.mark.parametrize("stage", [1, 2])
def test_one_step(stage, record_property):
    file = f"train_stage{stage}"
    table, loss_table = Table(record_property, file, GRADIENT), Table(record_property, file, LOSS)
    forward = Table(record_property, file, FORWARD)
    truth = Table(record_property, f"{file}_f64", LOSS)
    params, (loss, aux), grads = parts(stage)[0], *first_step(stage)
    forward.row("model_pred", images(aux["pred"]))
    loss_table.row("per_sample_mse", aux["mse"])
    loss_table.row("loss", loss)
    truth.row("loss", loss)
    truth.row("per_sample_mse", aux["mse"])
    bars = jnp.asarray(alphas_cumprod(ScheduleConfig()))
    weights = min_snr_weight(bars, batch(stage)[1].t, 5.0, "v_prediction")
    truth.row("weights", weights)
    theirs = oracle.arrays(file)
    trained = sorted(n for n, leaf in leaves(stage).items() if stage == 1 or is_motion(n))
    trained = [name for name in trained if not is_buffer(leaves(stage)[name])]
    used = {n: t for n, t in zip(trained, theirs["grad_norms"], strict=True) if t >= 0}
    norms = [np.linalg.norm(np.asarray(grads[path_of(stage, n)], np.float64)) for n in used]
    assert len(norms) == len(grads)
    table.row("grad_norms", np.array(norms), np.array(list(used.values())))
    table.row("total_grad_norm", np.linalg.norm(norms))
    truth_norm = Table(record_property, f"{file}_f64", GRADIENT)
    truth_norm.row("total_grad_norm", np.linalg.norm(norms))
    rule = oracle.meta()["optimizer"]
    optim = optimizer(rule["lr"], rule["clip"])
    compared = named(stage, "grad.")
    start = bundled(params, compared.values())
    gradient = bundled(grads, compared.values())
    updates = jax.jit(optim.update)(gradient, optim.init(start), start)[0]
    for name, path in compared.items():
        table.row(f"grad.{name}", official(stage, name, grads[path]))
        clear = clear_of_noise(theirs[f"grad.{name}"])
        error = np.abs(official(stage, name, updates[path]) - theirs[f"delta.{name}"])[clear].max()
        table.measured(f"{file}/delta.{name} (absolute)", float(error), 2e-7)
        after = official(stage, name, params[path] + updates[path])
        forward.row(f"after.{name}", after)
    for rows in (table, loss_table, forward, truth, truth_norm):
        rows.verify()


@pytest.mark.parametrize("stage", [1, 2])
def test_five_steps(stage, record_property):
    file, rule = f"train_stage{stage}", oracle.meta()["trajectory"]
    table, loss_table = Table(record_property, file, GRADIENT), Table(record_property, file, LOSS)
    start, frozen = parts(stage)
    compared = named(stage, "traj_delta.")
    params = bundled(start, compared.values())
    optim = optimizer(rule["lr"], rule["clip"])
    state, update = optim.init(params), jax.jit(optim.update)
    (loss, _), grads = first_step(stage)
    losses, norms = [loss], []
    for _ in range(rule["steps"]):
        gradient = bundled(grads, compared.values())
        norms.append(optax.tree.norm(gradient))
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        (loss, _), grads = gradient_of_loss(stage)(unbundled(params, start), frozen)
        losses.append(loss)
    loss_table.row("traj_losses", np.array(losses))
    table.row("traj_grad_norms", np.array(norms))
    truth = Table(record_property, f"{file}_f64", LOSS)
    truth.row("traj_losses", np.array(losses))
    truth.verify()
    truth = Table(record_property, f"{file}_f64", GRADIENT)
    truth.row("traj_grad_norms", np.array(norms))
    truth.verify()
    for name, path in compared.items():
        key = f"traj_delta.{name}"
        delta = official(stage, name, params[path] - start[path])
        clear = clear_of_noise(oracle.arrays(file)[f"grad.{name}"])
        error = np.abs(delta - oracle.arrays(file)[key])[clear].max()
        bound = 8 * oracle.noise_floor()[f"{file}/{key}"]["max_abs"]
        table.measured(f"{file}/{key} (absolute)", float(error), bound)
    table.verify()
    loss_table.verify()
