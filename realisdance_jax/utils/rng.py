"""Named random streams: a draw depends on the seed, the stream's name and the step only."""

import zlib

import jax

from realisdance_jax.shapes import Array


def stream(seed: int, name: str, step: int | Array) -> Array:
    """Key of stream `name` at `step`; resuming and re-sharding do not change it."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(key, step)
