"""Loss, gradients, one AdamW step and five-step runs of both stages against the official code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from realisdance_jax.checkpoints.convert.components import is_buffer, is_motion, model_tables
from realisdance_jax.diffusion.loss import min_snr_weight
from realisdance_jax.diffusion.prediction import add_noise, velocity
from realisdance_jax.diffusion.schedule import ScheduleConfig, alphas_cumprod
from realisdance_jax.models.realisdance import RealisDance
from tests import oracle
from tests.parity.report import FORWARD, GRADIENT, LOSS, Table, channels_last, clip, images

CONDITIONS = ("pose", "hamer", "smpl")


@functools.cache
def batch(stage: int) -> dict:
    raw = {k[3:]: v for k, v in oracle.arrays("inputs").items() if k.startswith(f"t{stage}.")}
    bars = jnp.asarray(alphas_cumprod(ScheduleConfig()))
    t = jnp.asarray(raw["timesteps"], jnp.int32)
    latents, noise = jnp.asarray(clip(raw["latents"])), jnp.asarray(clip(raw["noise"]))
    return {
        "noisy": add_noise(latents, noise, bars[t]),
        "target": velocity(latents, noise, bars[t]),
        "weights": min_snr_weight(bars, t, 5.0, "v_prediction"),
        "t": t,
        "reference": jnp.asarray(channels_last(raw["ref_latents"])),
        "tokens": jnp.asarray(raw["clip_latents"]),
        "conditions": jnp.concatenate([clip(raw[name]) for name in CONDITIONS], axis=-1),
    }


@functools.cache
def leaves(stage: int) -> dict:
    tables = model_tables(oracle.config(stage))
    return {name: leaf for table in tables.values() for name, leaf in table.items()}


def trainable(stage: int, name: str) -> bool:
    return not is_buffer(leaves(stage)[name]) and (stage == 1 or is_motion(name))


def split(stage: int) -> tuple[dict, dict]:
    """Flat variables by PyTorch name: (trainable, frozen)."""
    flat = traverse_util.flatten_dict(oracle.model_variables(stage))
    named = {name: flat[leaf.path] for name, leaf in leaves(stage).items()}
    chosen = {n: v for n, v in named.items() if trainable(stage, n)}
    return chosen, {n: v for n, v in named.items() if n not in chosen}


@functools.cache
def gradient_of_loss(stage: int):
    model, x = RealisDance(oracle.config(stage)), batch(stage)
    table = leaves(stage)

    def loss(params, frozen):
        flat = {table[name].path: value for name, value in {**params, **frozen}.items()}
        inputs = (x["noisy"], x["t"], x["reference"], x["tokens"], x["conditions"])
        pred = model.apply(traverse_util.unflatten_dict(flat), *inputs)
        mse = jnp.square(pred - x["target"]).mean(range(1, pred.ndim))
        return jnp.mean(x["weights"] * mse), (pred, mse)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def optimizer(stage: int, lr: float, max_norm: float) -> optax.GradientTransformation:
    """AdamW that leaves tensors without a gradient alone (parity.md: no gradient)."""
    rule = oracle.meta()["optimizer"]
    b1, b2 = rule["betas"]
    adam = optax.adamw(lr, b1, b2, rule["eps"], weight_decay=rule["weight_decay"])
    used = optax.chain(optax.clip_by_global_norm(max_norm), adam)
    idle = set(oracle.meta()[f"train_stage{stage}"]["no_grad_names"])
    labels = {n: "idle" if n in idle else "used" for n in split(stage)[0]}
    return optax.partition({"used": used, "idle": optax.set_to_zero()}, labels)


def official(stage: int, name: str, array: np.ndarray) -> np.ndarray:
    return leaves(stage)[name].to_torch(np.asarray(array))


@pytest.mark.parametrize("stage", [1, 2])
def test_one_step(stage, record_property):
    file = f"train_stage{stage}"
    table, loss_table = Table(record_property, file, GRADIENT), Table(record_property, file, LOSS)
    forward = Table(record_property, file, FORWARD)
    x, (params, frozen) = batch(stage), split(stage)
    (loss, (pred, mse)), grads = gradient_of_loss(stage)(params, frozen)
    for name, ours in (
        ("noisy_latents", x["noisy"]),
        ("target", x["target"]),
        ("model_pred", pred),
    ):
        forward.row(name, images(ours))
    for name, ours in (("per_sample_mse", mse), ("weights", x["weights"]), ("loss", loss)):
        loss_table.row(name, ours)
    names = sorted(params)
    theirs = oracle.arrays(file)
    norms = np.array([np.linalg.norm(np.asarray(grads[n], np.float64)) for n in names])
    idle = [n for n, norm in zip(names, theirs["grad_norms"], strict=True) if norm < 0]
    assert idle == sorted(oracle.meta()[file]["no_grad_names"])
    assert not any(np.any(np.asarray(grads[n])) for n in idle)
    used = theirs["grad_norms"] >= 0
    table.row("grad_norms", norms[used], theirs["grad_norms"][used])
    table.row("total_grad_norm", np.sqrt(np.sum(norms**2)))
    rule = oracle.meta()["optimizer"]
    optim = optimizer(stage, rule["lr"], rule["clip"])
    updates = jax.jit(optim.update)(grads, optim.init(params), params)[0]
    for name in (k[5:] for k in theirs if k.startswith("grad.")):
        table.row(f"grad.{name}", official(stage, name, grads[name]))
        clear = np.abs(theirs[f"grad.{name}"]) > 1e-6
        delta = official(stage, name, updates[name])
        error = np.abs(delta - theirs[f"delta.{name}"])[clear].max()
        table.measured(f"{file}/delta.{name} (absolute)", float(error), 2e-7)
        after = official(stage, name, params[name] + updates[name])
        forward.row(f"after.{name}", after)
    for rows in (table, loss_table, forward):
        rows.verify()


@pytest.mark.parametrize("stage", [1, 2])
def test_against_float64(stage, record_property):
    """The official run in float64 is the truth; ours may differ by no more than float32 does."""
    table = Table(record_property, f"train_stage{stage}_f64", LOSS)
    (loss, _), _ = gradient_of_loss(stage)(*split(stage))
    table.row("loss", loss)
    table.verify()


@pytest.mark.parametrize("stage", [1, 2])
def test_five_steps(stage, record_property):
    file, rule = f"train_stage{stage}", oracle.meta()["trajectory"]
    table, loss_table = Table(record_property, file, GRADIENT), Table(record_property, file, LOSS)
    params, frozen = split(stage)
    start = params
    optim = optimizer(stage, rule["lr"], rule["clip"])
    state, update = optim.init(params), jax.jit(optim.update)
    losses, norms = [], []
    for step in range(rule["steps"] + 1):
        (loss, _), grads = gradient_of_loss(stage)(params, frozen)
        losses.append(loss)
        if step < rule["steps"]:
            norms.append(optax.global_norm(grads))
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
    loss_table.row("traj_losses", np.array(losses))
    table.row("traj_grad_norms", np.array(norms))
    for key in (k for k in oracle.arrays(file) if k.startswith("traj_delta.")):
        name = key.removeprefix("traj_delta.")
        delta = official(stage, name, params[name] - start[name])
        error = np.abs(delta - oracle.arrays(file)[key]).max()
        bound = 8 * oracle.noise_floor()[f"{file}/{key}"]["max_abs"]
        table.measured(f"{file}/{key} (absolute)", float(error), bound)
    table.verify()
    loss_table.verify()
