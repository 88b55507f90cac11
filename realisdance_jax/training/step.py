"""One training step as a pure function: loss, gradients of what trains, guarded update.

Both stages share it; a stage is which parameters train, how many frames, and the rates of drop and
pose shuffle.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from jax.sharding import Mesh

from realisdance_jax.diffusion.loss import Weighting, min_snr_weight
from realisdance_jax.diffusion.prediction import add_noise, from_x0_eps
from realisdance_jax.diffusion.schedule import ScheduleConfig, alphas_cumprod
from realisdance_jax.models.compute import ONE_DEVICE, Compute, exact_products
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.models.vae import VAE
from realisdance_jax.shapes import Array, Float
from realisdance_jax.training.batch import Draws, checksum, draw, reorder
from realisdance_jax.utils.tree import Flat, unflatten

Batch = Mapping[str, Array]


@dataclass(frozen=True)
class LossConfig:
    """Paper section 3: snr_gamma of min-SNR, rates of unconditional drop and of pose shuffle.

    weighting: the paper's `min_snr`, or `min_snr_plus_one`, in which pure noise counts, too; for a
    model without pretrained weights, which must learn from it what a reference is for.
    shuffle_rule: `swap` two frames per example and condition, or the released one-way `copy` (H10).
    least_timestep: training draws no smaller one. Above 0 for samplers of one step from pure noise;
    with `min_snr_plus_one`, for `min_snr` gives large timesteps next to no weight.
    """

    snr_gamma: float = 5.0
    weighting: Weighting = "min_snr"
    drop: float = 1e-2
    shuffle: float = 0.0
    shuffle_rule: Literal["swap", "copy"] = "swap"
    least_timestep: int = 0


@dataclass(frozen=True)
class Networks:
    """The modules of a run; DINOv2 and the VAE are frozen and compute in float32."""

    model: RealisDance
    dino: DinoV2
    vae: VAE
    schedule: ScheduleConfig

    @classmethod
    def of(
        cls, config: RealisDanceConfig, schedule: ScheduleConfig, compute: Compute = ONE_DEVICE
    ) -> "Networks":
        """Networks of `config` whose trained parts compute as `compute` says."""
        dino = DinoV2(config.dino, Compute(mesh=compute.mesh))
        return cls(RealisDance(config, compute), dino, VAE(config.vae), schedule)

    @property
    def mesh(self) -> Mesh | None:
        """Where it all runs; None is one device."""
        return self.model.compute.mesh


class TrainState(NamedTuple):
    """What a run saves. step counts batches; the optimizer's own count skips guarded updates.

    trainable, ema: flat parameters. bad: updates in a row that were not finite.
    """

    step: Array
    trainable: Flat
    opt_state: Any
    ema: Flat
    bad: Array


class Frozen(NamedTuple):
    """What never changes: the model's other leaves (flat) and, where used, DINOv2 and the VAE.

    zero_tokens: `1 m c`, DINOv2 tokens of a zero picture, which dropped examples of cached data
    sets see.
    """

    model: Flat
    dino: dict
    vae: dict
    zero_tokens: Array | None = None


def latents_of(
    networks: Networks, frozen: Frozen, batch: Batch, draws: Draws
) -> tuple[Array, Array]:
    """Scaled posterior samples of the clip `b f h w c` and of its reference `b h w c`."""
    scaling = networks.vae.config.scaling
    if "latent_mean" in batch:
        video = batch["latent_mean"], batch["latent_std"]
        reference = batch["reference_mean"], batch["reference_std"]
    else:
        with exact_products():
            video = posterior_of_clip(networks, frozen.vae, batch["video"])
            reference = networks.vae.posterior(frozen.vae, batch["reference"])
    sample = video[0] + video[1] * draws.posterior
    reference_sample = reference[0] + reference[1] * draws.reference_posterior
    return sample * scaling, reference_sample * scaling


def posterior_of_clip(
    networks: Networks, params: dict, video: Float[Array, "b f H W 3"]
) -> tuple[Array, Array]:
    """Mean and standard deviation of every frame's latents, one frame per device at a time."""
    ways = 1 if networks.mesh is None else networks.mesh.shape["frames"]
    ways = ways if video.shape[1] % ways == 0 else 1
    b = video.shape[0]
    frames = rearrange(video, "b (w i) H W c -> i (b w) H W c", w=ways)
    mean, std = jax.lax.map(lambda x: networks.vae.posterior(params, x), frames)
    back = "i (b w) h w2 c -> b (w i) h w2 c"
    return rearrange(mean, back, b=b), rearrange(std, back, b=b)


def tokens_of(networks: Networks, frozen: Frozen, batch: Batch, keep: Array) -> Array:
    """DINOv2 tokens; a dropped example sees a picture of zeros (parity.md: H4)."""
    if "tokens" in batch:
        assert frozen.zero_tokens is not None
        return jnp.where(keep[:, None, None], batch["tokens"], frozen.zero_tokens)
    image = jnp.where(keep[:, None, None, None], batch["encoder_image"], 0.0)
    with exact_products():
        tokens: Any = networks.dino.apply(frozen.dino, image)
    return tokens


def loss_fn(
    trainable: Flat,
    networks: Networks,
    loss: LossConfig,
    frozen: Frozen,
    batch: Batch,
    draws: Draws,
) -> tuple[Array, dict[str, Array]]:
    """Min-SNR weighted error of the prediction, float32 (parity.md: min-SNR).

    Returns the loss, and per example the prediction and its squared error.
    """
    latents, reference = latents_of(networks, frozen, batch, draws)
    tokens = jax.lax.stop_gradient(tokens_of(networks, frozen, batch, draws.keep))
    conditions = batch["conditions"]
    if conditions.dtype == jnp.uint8:
        conditions = conditions.astype(jnp.float32) / 255
    bars = jnp.asarray(alphas_cumprod(networks.schedule))
    noisy = add_noise(latents, draws.noise, bars[draws.t])
    target = from_x0_eps(networks.schedule.prediction, latents, draws.noise, bars[draws.t])
    keep = draws.keep if loss.drop > 0 else None
    pred: Any = networks.model.apply(
        unflatten({**frozen.model, **trainable}),
        noisy,
        draws.t,
        reference,
        tokens,
        reorder(conditions, draws.order),
        keep,
    )
    mse = jnp.square(pred - target).mean(range(1, pred.ndim))
    kind = networks.schedule.prediction
    weights = min_snr_weight(bars, draws.t, loss.snr_gamma, kind, loss.weighting)
    value = jnp.mean(weights * mse)
    return value, {"pred": pred, "mse": mse}


def _chosen(ok: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)


def ema_decay_at(step: Array, decay: float) -> Array:
    """Of a moving average at a step k, counted from 0: at most (1 + k) / (10 + k).

    So it forgets the start, of which decay ** n would be left after n steps.
    """
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def apply_gradients(
    state: TrainState,
    grads: Flat,
    loss: Array,
    optimizer: optax.GradientTransformation,
    ema_decay: float | None,
) -> tuple[TrainState, dict[str, Array]]:
    """Update unless loss or gradients are not finite; the batch counts either way."""
    norm = optax.tree.norm(grads)
    ok = jnp.isfinite(loss) & jnp.isfinite(norm)
    safe = jax.tree.map(lambda g: jnp.where(ok, g, 0.0), grads)
    updates, opt_state = optimizer.update(safe, state.opt_state, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    ema = state.ema
    if ema_decay is not None:
        decay = ema_decay_at(state.step, ema_decay)
        ema = optax.incremental_update(trainable, state.ema, 1 - decay)
    new = TrainState(
        state.step + 1,
        _chosen(ok, trainable, state.trainable),
        _chosen(ok, opt_state, state.opt_state),
        _chosen(ok, ema, state.ema),
        jnp.where(ok, 0, state.bad + 1),
    )
    return new, {"grad_norm": norm, "bad": new.bad}


def make_train_step(
    networks: Networks,
    loss: LossConfig,
    optimizer: optax.GradientTransformation,
    seed: int,
    accumulate: int = 1,
    ema_decay: float | None = None,
) -> Callable[[TrainState, Frozen, Batch], tuple[TrainState, dict[str, Array]]]:
    """The step (state, frozen, batch) -> (state, metrics).

    With `accumulate` > 1 the batch is run in that many equal parts whose gradients are averaged:
    the same update as in one part, with the same draws.
    """
    conditions = len(networks.model.config.pose.conditions)
    gradient = jax.value_and_grad(loss_fn, has_aux=True)

    def step(state: TrainState, frozen: Frozen, batch: Batch):
        shape = _latent_shape(networks, batch)
        timesteps = networks.schedule.num_train_timesteps
        rates, least = (loss.drop, loss.shuffle, loss.shuffle_rule), loss.least_timestep
        draws = draw(seed, state.step, shape, conditions, timesteps, *rates, least_timestep=least)

        def run(part: Batch, part_draws: Draws):
            with exact_products(networks.model.compute.dtype):
                return gradient(state.trainable, networks, loss, frozen, part, part_draws)

        if accumulate == 1:
            (value, aux), grads = run(batch, draws)
        else:
            (value, aux), grads = _accumulated(run, (batch, draws), accumulate)
        new, metrics = apply_gradients(state, grads, value, optimizer, ema_decay)
        told = {"loss": value, "mse": aux["mse"], "t": draws.t, "draws": checksum(draws)}
        return new, told | metrics

    return step


def _latent_shape(networks: Networks, batch: Batch) -> tuple[int, ...]:
    if "latent_mean" in batch:
        return batch["latent_mean"].shape
    b, f, height, width, _ = batch["video"].shape
    factor = networks.vae.factor
    return b, f, height // factor, width // factor, networks.model.config.unet.in_channels


def _accumulated(run: Callable, inputs: tuple, parts: int) -> tuple:
    """Mean of `run` over equal parts of the leading axis of `inputs`; per-example values joined.

    A part takes every `parts`-th example, so that each device keeps its own.
    """
    split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), inputs)
    first = jax.tree.map(lambda x: x[0], split)
    (value, _), grads = jax.eval_shape(run, *first)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (value, grads))

    def body(total: tuple, part: tuple):
        (value, aux), grads = run(*part)
        return jax.tree.map(jnp.add, total, (value, grads)), aux

    (value, grads), aux = jax.lax.scan(body, zero, split)
    mean = jax.tree.map(lambda x: x / parts, (value, grads))
    joined = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), aux)
    return (mean[0], joined), mean[1]
