"""What teaches the two frozen networks of a small world: losses as pure functions of arrays.

The paper takes both ready-made. Where there are none, the VAE learns to repeat pictures and the
image encoder to know a person again in another frame.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.vae import VAE
from realisdance_jax.shapes import Array, Float
from realisdance_jax.training.step import TrainState, apply_gradients
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.rng import stream
from realisdance_jax.utils.tree import Flat, unflatten

Part = Literal["vae", "image_encoder", "decoder"]
PARTS: tuple[Part, ...] = ("vae", "image_encoder")
DECODER: Part = "decoder"
"""Of a VAE that is there, whose latents stay what they are."""

DECODER_PATHS = ("params/decoder/", "params/post_quant_conv/")
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of pictures in [0, 1] for DINOv2."""


@dataclass(frozen=True)
class PartConfig:
    """How the two are trained.

    vae_batch, image_encoder_batch: pairs of frames in a step; those of the image encoder are people
    to be told apart. kl, edges: weights of the divergence from a normal distribution and of
    differences between neighbouring pixels, beside the mean absolute error. hands: how much more
    errors count where HaMeR shows a hand. crop: side of the square of each picture that the VAE
    learns from, another one in every step; 0 is all of it. temperature: of the contrast between
    people. noise: largest deviation of noise on scaled latents where the decoder alone learns, see
    `expected_latents`, as those that are sampled are not exact either.
    Raises `UserError` for a value out of range.
    """

    vae_steps: int = 20_000
    image_encoder_steps: int = 4_000
    vae_batch: int = 8
    image_encoder_batch: int = 32
    lr: float = 2e-3
    warmup_steps: int = 200
    kl: float = 1e-5
    edges: float = 1.0
    hands: float = 3.0
    crop: int = 0
    temperature: float = 0.1
    noise: float = 0.8
    save_every: int = 500
    log_every: int = 50

    def __post_init__(self):
        for name in ("vae_steps", "image_encoder_steps", "vae_batch", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if (people := self.image_encoder_batch) < 2:
            raise UserError(f"image_encoder_batch: expected at least 2 people, found {people}")
        if self.crop < 0:
            raise UserError(f"crop: expected pixels, 0 for all, found {self.crop}")
        for name in ("noise", "kl", "edges", "hands", "warmup_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name}: expected at least 0, found {getattr(self, name)}")
        for name in ("lr", "temperature"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: expected a positive number, found {getattr(self, name)}")

    def steps(self, part: Part) -> int:
        """Of one of the two."""
        return self.image_encoder_steps if part == "image_encoder" else self.vae_steps

    def batch(self, part: Part) -> int:
        """Of one of the two."""
        return self.image_encoder_batch if part == "image_encoder" else self.vae_batch


def weighted_mean(values: Float[Array, "b h w c"], weights: Float[Array, "b h w"]) -> Array:
    """Mean over all, pixels weighted."""
    return jnp.sum(values.mean(axis=-1) * weights) / jnp.sum(weights)


def vae_loss(
    params: dict,
    vae: VAE,
    config: PartConfig,
    pictures: Float[Array, "b H W 3"],
    weights: Float[Array, "b H W"],
    noise: Float[Array, "b h w c"],
) -> tuple[Array, dict[str, Array]]:
    """Absolute error of pictures in [-1, 1] and of their edges, and the divergence of latents."""
    mean, std = vae.posterior(params, pictures)
    scaled = (mean + std * noise) * vae.config.scaling
    value, told = picture_error(vae.decode(params, scaled) - pictures, weights, config.edges)
    kl = 0.5 * jnp.mean(jnp.square(mean) + jnp.square(std) - 1 - 2 * jnp.log(std))
    return value + config.kl * kl, told | {"kl": kl}


def decoder_loss(
    params: dict,
    vae: VAE,
    config: PartConfig,
    pictures: Float[Array, "b H W 3"],
    weights: Float[Array, "b H W"],
    noise: Float[Array, "b h w c"],
) -> tuple[Array, dict[str, Array]]:
    """The same error of pictures decoded from scaled latents that `noise` made unsure."""
    latents = expected_latents(vae.encode(params, pictures), noise)
    return picture_error(vae.decode(params, latents) - pictures, weights, config.edges)


def expected_latents(latents: Float[Array, "b h w c"], noise: Float[Array, "b h w c"]) -> Array:
    """The mean of normal latents (0, 1) given `latents + noise`, by the variance of each example's
    noise: what a model that is unsure predicts lies nearer to 0 than the truth."""
    variance = jnp.mean(jnp.square(noise), axis=(1, 2, 3), keepdims=True)
    return (latents + noise) / (1 + variance)


def picture_error(
    error: Float[Array, "b H W 3"], weights: Float[Array, "b H W"], edges: float
) -> tuple[Array, dict[str, Array]]:
    """Mean absolute error, and that of differences between neighbours times `edges`."""
    l1 = weighted_mean(jnp.abs(error), weights)
    down = weighted_mean(jnp.abs(error[:, 1:] - error[:, :-1]), weights[:, 1:])
    right = weighted_mean(jnp.abs(error[:, :, 1:] - error[:, :, :-1]), weights[:, :, 1:])
    return l1 + edges * (down + right) / 2, {"l1": l1}


def embedded(tokens: Float[Array, "b m c"]) -> Float[Array, "b d"]:
    """The class token and the mean of the others, of length 1 together."""
    both = jnp.concatenate([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=-1)
    return both / (jnp.linalg.norm(both, axis=-1, keepdims=True) + 1e-6)


def contrast(
    a: Float[Array, "b d"], b: Float[Array, "b d"], temperature: float
) -> tuple[Array, Array]:
    """Cross-entropy of finding row i of one among the rows of the other, and the share found."""
    alike = a @ b.T / temperature
    right = jnp.arange(len(a))
    entropy = optax.softmax_cross_entropy_with_integer_labels
    loss = (entropy(alike, right).mean() + entropy(alike.T, right).mean()) / 2
    return loss, jnp.mean(alike.argmax(axis=1) == right)


def encoder_loss(
    variables: dict,
    dino: DinoV2,
    config: PartConfig,
    one: Float[Array, "b h w 3"],
    other: Float[Array, "b h w 3"],
) -> tuple[Array, dict[str, Array]]:
    """Two normalised frames of each person are to be closer than frames of different people."""
    a, b = (embedded(jnp.asarray(dino.apply(variables, x))) for x in (one, other))
    loss, found = contrast(a, b, config.temperature)
    return loss, {"found": found}


def encoder_picture(
    video: Float[Array, "b H W 3"], size: tuple[int, int]
) -> Float[Array, "b h w 3"]:
    """Pictures in [-1, 1] as DINOv2 takes them."""
    shape = (video.shape[0], *size, 3)
    resized = jax.image.resize(video / 2 + 0.5, shape, "linear")
    return (resized - jnp.asarray(IMAGE_MEAN)) / jnp.asarray(IMAGE_STD)


def random_squares(key: Array, values: Float[Array, "b H W c"], side: int) -> Array:
    """`b side side c`: from each picture a square, all places equally likely."""
    room = jnp.array([size - side + 1 for size in values.shape[1:3]])
    corners = jax.random.randint(key, (len(values), 2), 0, room)

    def square(picture: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(picture, (*corner, 0), (side, side, picture.shape[-1]))

    return jax.vmap(square)(values, corners)


def make_part_step(
    part: Part,
    network: VAE | DinoV2,
    config: PartConfig,
    optimizer: optax.GradientTransformation,
    seed: int,
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """The step (state, batch, frozen) -> (state, metrics) of one of the two networks.

    Batches are those of the image stage: a frame, another one as the reference, HaMeR alone.
    frozen: parameters of the network that do not train, none by default.
    """

    def loss(flat: Flat, frozen: Flat, batch: Mapping[str, Array], step: Array) -> tuple:
        variables = unflatten({**frozen, **flat})
        video = batch["video"][:, 0]
        if isinstance(network, DinoV2):
            one = batch["encoder_image"]
            other = encoder_picture(video, (one.shape[1], one.shape[2]))
            return encoder_loss(variables, network, config, one, other)
        pictures = jnp.concatenate([video, batch["reference"]])
        hands = 1 + config.hands * (batch["conditions"][:, 0].max(axis=-1) > 0)
        weights = jnp.concatenate([hands, jnp.ones_like(hands)])
        if config.crop:
            weighted = jnp.concatenate([pictures, weights[..., None]], axis=-1)
            squares = random_squares(stream(seed, "crop", step), weighted, config.crop)
            pictures, weights = squares[..., :-1], squares[..., -1]
        h, w = (side // network.factor for side in pictures.shape[1:3])
        shape = (len(pictures), h, w, network.config.latent_channels)
        noise = jax.random.normal(stream(seed, "posterior", step), shape)
        given = variables["params"], network, config, pictures, weights
        if part != DECODER:
            return vae_loss(*given, noise)
        strength = jax.random.uniform(stream(seed, "strength", step), (len(pictures), 1, 1, 1))
        return decoder_loss(*given, config.noise * strength * noise)

    def step(
        state: TrainState, batch: Mapping[str, Array], frozen: Flat | None = None
    ) -> tuple[TrainState, dict]:
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, told), grads = gradient(state.trainable, frozen or {}, batch, state.step)
        new, metrics = apply_gradients(state, grads, value, optimizer, 0.999)
        return new, {"loss": value} | told | metrics

    return step


def normalised(params: dict, mean: Array, std: Array, scaling: float) -> dict:
    """The same VAE with scaled latents of mean 0 and deviation 1 in every channel.

    mean, std: `c`, of its unscaled latents now. The first layer behind the latents undoes what the
    last one before them does, so that pictures stay what they are.
    """
    factor = 1 / (std * scaling)
    before, behind = params["quant_conv"], params["post_quant_conv"]
    channels = len(mean)
    stretch = jnp.concatenate([factor, jnp.ones(channels)])
    shift = jnp.concatenate([-mean * factor, 2 * jnp.log(factor)])
    kernel = behind["kernel"]
    return {
        **params,
        "quant_conv": {
            "kernel": before["kernel"] * stretch,
            "bias": before["bias"] * stretch + shift,
        },
        "post_quant_conv": {
            "kernel": kernel / factor[:, None],
            "bias": behind["bias"] + mean @ kernel[0, 0],
        },
    }


def latent_statistics(
    vae: VAE, params: dict, pictures: Float[Array, "b H W 3"]
) -> tuple[Array, Array]:
    """Mean and mean square `c` of samples of unscaled latents."""
    mean, std = vae.posterior(params, pictures)
    axes = (0, 1, 2)
    return mean.mean(axes), (jnp.square(mean) + jnp.square(std)).mean(axes)
