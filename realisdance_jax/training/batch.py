"""What the data pipeline delivers and the random choices made from it on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from realisdance_jax.shapes import Array, Bool, Float, Int
from realisdance_jax.utils.rng import stream


class Draws(NamedTuple):
    """Everything random in a step, from named streams of (seed, step).

    t: `b` timesteps. noise: like the latents. keep: `b`, which examples see their reference.
    order: `b k f`, which frame of each condition goes where. posterior, reference_posterior:
    standard normals of the VAE samples.
    """

    t: Int[Array, "b"]
    noise: Float[Array, "b f h w c"]
    keep: Bool[Array, "b"]
    order: Int[Array, "b k f"]
    posterior: Float[Array, "b f h w c"]
    reference_posterior: Float[Array, "b h w c"]


def shuffled_order(key: Array, batch: int, conditions: int, frames: int, rate: float) -> Array:
    """`b k f` frame numbers: with probability `rate`, two distinct frames swapped, else in order.

    Paper section 2: each example and condition draws on its own (parity.md: H10).
    """
    happens, first, second = jax.random.split(key, 3)
    shape = (batch, conditions)
    a = jax.random.randint(first, shape, 0, frames)
    b = (a + jax.random.randint(second, shape, 1, max(frames, 2))) % frames
    swap = jax.random.bernoulli(happens, rate, shape)
    order = jnp.broadcast_to(jnp.arange(frames), (*shape, frames))
    swapped = jnp.where(order == a[..., None], b[..., None], order)
    swapped = jnp.where(order == b[..., None], a[..., None], swapped)
    return jnp.where(swap[..., None], swapped, order)


def copied_order(key: Array, batch: int, conditions: int, frames: int, rate: float) -> Array:
    """The released variant: one frame is overwritten by another, alike in the whole batch (H10).

    The destination is uniform over all frames; frame 0 as destination changes nothing.
    """
    happens, first, second = jax.random.split(key, 3)
    destination = jax.random.randint(first, (conditions, 1), 0, frames)
    other = jax.random.randint(second, (conditions, 1), 1, max(frames, 2))
    source = jnp.where(destination == 0, 0, (destination + other) % frames)
    shuffle = jax.random.bernoulli(happens, rate, (conditions, 1))
    order = jnp.broadcast_to(jnp.arange(frames), (conditions, frames))
    order = jnp.where((order == destination) & shuffle, source, order)
    return jnp.broadcast_to(order, (batch, conditions, frames))


def draw(
    seed: int,
    step: Array,
    latent_shape: tuple[int, ...],
    conditions: int,
    timesteps: int,
    drop: float,
    shuffle: float,
    shuffle_rule: str = "swap",
    *,
    least_timestep: int = 0,
) -> Draws:
    """All draws of `step` for latents `b f h w c`; t from `least_timestep` to `timesteps` - 1."""
    batch, frames = latent_shape[:2]
    reference_shape = (batch, *latent_shape[2:])
    order = shuffled_order if shuffle_rule == "swap" else copied_order
    return Draws(
        jax.random.randint(stream(seed, "timestep", step), (batch,), least_timestep, timesteps),
        jax.random.normal(stream(seed, "noise", step), latent_shape),
        ~jax.random.bernoulli(stream(seed, "drop", step), drop, (batch,)),
        order(stream(seed, "shuffle", step), batch, conditions, frames, shuffle),
        jax.random.normal(stream(seed, "posterior", step), latent_shape),
        jax.random.normal(stream(seed, "reference", step), reference_shape),
    )


def checksum(draws: Draws) -> Array:
    """uint32 that changes with any bit of `draws`; the same on every mesh."""
    total = jnp.uint32(0)
    for leaf in draws:
        bits = leaf.astype(jnp.uint32) if leaf.dtype != jnp.float32 else leaf.view(jnp.uint32)
        weights = 2 * jax.lax.iota(jnp.uint32, bits.size).reshape(bits.shape) + 1
        total = total * jnp.uint32(1_000_003) + jnp.sum(bits * weights, dtype=jnp.uint32)
    return total


def reorder(conditions: Float[Array, "b f H W c"], order: Int[Array, "b k f"]) -> Array:
    """Each condition's frames (3 channels apiece) in its own order."""
    parts = jnp.split(conditions, order.shape[1], axis=-1)
    picked = [
        jnp.take_along_axis(part, order[:, k, :, None, None, None], axis=1)
        for k, part in enumerate(parts)
    ]
    return jnp.concatenate(picked, axis=-1)
