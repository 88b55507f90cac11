"""Fused attention kernels: when they take a shape, and how they are called.

Rows are (clip, group) pairs: q `r n k d`, keys and values `r m k d`, own keys first. A row that
does not see the shared keys sees the first `own` only.
"""

import math

import jax
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.models.compute import Compute
from realisdance_jax.shapes import Array

FLASH_BLOCK = 768
"""Longest block of queries and of keys; 6912 and 13824, the lengths at 768x576, divide by it."""


def cudnn_fits(compute: Compute, width: int) -> bool:
    """Half precision, head width a multiple of 8 up to 128, or 256 from Hopper on."""
    if jnp.dtype(compute.dtype) not in (jnp.bfloat16, jnp.float16) or width % 8:
        return False
    return width <= (256 if _hopper_or_later(compute) else 128)


def _hopper_or_later(compute: Compute) -> bool:
    """JAX asks the GPU itself, so that a program for absent ones is held to the lower limit."""
    if jax.default_backend() != "gpu":
        return False
    device = jax.devices()[0] if compute.mesh is None else compute.mesh.devices.flat[0]
    return any(name in device.device_kind for name in ("H100", "H200", "GH200", "B200", "GB200"))


def cudnn_rows(q: Array, k: Array, v: Array, own: int, seen: Array | None, training: bool) -> Array:
    """An odd number of keys has no backward pass: one more is added and masked."""
    rows, keys = k.shape[:2]
    lengths = None
    if seen is not None:
        lengths = jnp.where(seen, keys, own)
    elif training and keys % 2:
        lengths = jnp.full((rows,), keys)
    if training and keys % 2:
        k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (k, v))
    if lengths is not None:
        lengths = lengths.astype(jnp.int32)
    return jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=lengths, implementation="cudnn"
    )


def _query_block(n: int) -> int:
    """A divisor of `n`: large in multiples of 128, else up to 256 in multiples of 64; or 0."""
    for multiple, most in ((128, FLASH_BLOCK), (64, 256)):
        sizes = [size for size in range(multiple, most + 1, multiple) if n % size == 0]
        if sizes:
            return max(sizes)
    return 0


def _key_block(m: int) -> int:
    sizes = [size for size in range(128, FLASH_BLOCK + 1, 128) if m % size == 0]
    return max(sizes, default=0)


def flash_fits(n: int, keys: int, width: int) -> bool:
    """Whether blocks of whole tiles cover the lengths and a head fits a tile."""
    return width <= 128 and _query_block(n) > 0 and _key_block(keys) > 0


def flash_rows(q: Array, k: Array, v: Array, own: int, seen: Array | None) -> Array:
    """Keys that a row does not see belong to a segment of their own."""
    from jax.experimental.pallas.ops.tpu import flash_attention as flash

    n, keys = q.shape[1], k.shape[1]
    bq, bk = _query_block(n), _key_block(keys)
    blocks = flash.BlockSizes(
        block_q=bq,
        block_k_major=bk,
        block_k=bk,
        block_b=1,
        block_q_major_dkv=bq,
        block_k_major_dkv=bk,
        block_k_dkv=bk,
        block_q_dkv=bq,
        block_k_major_dq=bk,
        block_k_dq=bk,
        block_q_dq=bq,
    )
    segments = None
    if seen is not None:
        of_keys = jnp.where(jnp.arange(keys) < own, 1, seen[:, None].astype(jnp.int32))
        segments = flash.SegmentIds(jnp.ones((q.shape[0], n), jnp.int32), of_keys)
    q, k, v = (rearrange(x, "r n k d -> r k n d") for x in (q, k, v))
    scale = 1.0 / math.sqrt(q.shape[-1])
    y = flash.flash_attention(q, k, v, segment_ids=segments, sm_scale=scale, block_sizes=blocks)
    return rearrange(y, "r k n d -> r n k d")
