"""Fused attention kernels: when they take a shape, and how they are called.

Rows are (clip, group) pairs: q `r n k d`, keys and values `r m k d`. For training: own keys first;
a row that does not see the shared keys sees the first `own` only. For inference, `*_part` gives the
log-sum-exp as well (parts.py).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.models.compute import Compute
from realisdance_jax.models.parts import Part
from realisdance_jax.parallel.devices import is_ampere_or_later
from realisdance_jax.shapes import Array

FLASH_BLOCK = 768
"""Longest block of queries and of keys; 6912 and 13824, the lengths at 768x576, divide by it."""

LANES = 128
"""Splash attention takes lengths in multiples of this."""

SPLASH_QUERIES = 8192
"""Most queries of one splash call, whose log-sum-exp comes out `LANES` times over."""


def cudnn_fits(compute: Compute, width: int) -> bool:
    """NVIDIA GPUs since Ampere, half precision, head width a multiple of 8 up to 128, or 256 from
    Hopper on."""
    if jnp.dtype(compute.dtype) not in (jnp.bfloat16, jnp.float16) or width % 8:
        return False
    if not is_ampere_or_later(_first_device(compute)):
        return False
    return width <= (256 if _hopper_or_later(compute) else 128)


def _hopper_or_later(compute: Compute) -> bool:
    """JAX asks the GPU itself, so that a program for absent ones is held to the lower limit."""
    if jax.default_backend() != "gpu":
        return False
    kind = _first_device(compute).device_kind
    return any(name in kind for name in ("H100", "H200", "GH200", "B200", "GB200"))


def _first_device(compute: Compute) -> Any:
    return jax.devices()[0] if compute.mesh is None else compute.mesh.devices.flat[0]


def cudnn_rows(q: Array, k: Array, v: Array, own: int, seen: Array | None) -> Array:
    """An odd number of keys has no backward pass: one more is added and masked."""
    rows, keys = k.shape[:2]
    lengths = None
    if seen is not None:
        lengths = jnp.where(seen, keys, own)
    elif keys % 2:
        lengths = jnp.full((rows,), keys)
    if keys % 2:
        k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (k, v))
    if lengths is not None:
        lengths = lengths.astype(jnp.int32)
    return jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=lengths, implementation="cudnn"
    )


def cudnn_part(q: Array, k: Array, v: Array) -> Part:
    """The private function behind `jax.nn`'s, which rounds the log-sum-exp to the dtype of q.

    In bfloat16, near the log of thousands of keys, that would be an error of several percent in the
    shares of the two parts.
    """
    from jax._src.cudnn.fused_attention_stablehlo import dot_product_attention

    scale = 1.0 / math.sqrt(q.shape[-1])
    found: Any = dot_product_attention(q, k, v, scale=scale, return_residual=True)
    y, lse = found
    return y, rearrange(lse, "r k n -> r n k").astype(jnp.float32)


def _query_block(n: int) -> int:
    """A divisor of `n`: large in multiples of 128, else up to 256 in multiples of 64; or 0."""
    for multiple, most in ((128, FLASH_BLOCK), (64, 256)):
        sizes = [size for size in range(multiple, most + 1, multiple) if n % size == 0]
        if sizes:
            return max(sizes)
    return 0


def _key_block(m: int) -> int:
    sizes = [size for size in range(LANES, FLASH_BLOCK + 1, LANES) if m % size == 0]
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


def splash_fits(n: int, own: int, shared: int, width: int) -> bool:
    """Whether a head fits a tile, and what fills up the tiles is little beside the lengths."""
    return width <= LANES and all(size == 0 or size >= 4 * LANES for size in (n, own, shared))


def splash_part(q: Array, k: Array, v: Array) -> Part:
    """Row by row and, where rows are long, in pieces of their queries, so that little is kept."""
    n = q.shape[1]
    padded = -(-n // LANES) * LANES
    size = max(s for s in range(LANES, min(padded, SPLASH_QUERIES) + 1, LANES) if padded % s == 0)

    def one_row(row: tuple[Array, Array, Array]) -> Part:
        q, k, v = row
        pieces = rearrange(_filled(q), "(i n) k d -> i k n d", n=size)
        k, v = (rearrange(x, "m k d -> k m d") for x in (k, v))
        y, lse = jax.lax.map(lambda piece: _splash(piece, k, v), pieces)
        y, lse = rearrange(y, "i k n d -> (i n) k d"), rearrange(lse, "i k n -> (i n) k")
        return y[:n], lse[:n]

    return jax.lax.map(one_row, (q, k, v))


def _filled(x: Array) -> Array:
    """Rows of zeros after `x` up to a multiple of `LANES`."""
    return jnp.pad(x, ((0, -len(x) % LANES), *((0, 0),) * (x.ndim - 1)))


def _splash(q: Array, k: Array, v: Array) -> Part:
    """`k n d`, `k m d`; keys that fill up the last tile belong to a segment of their own."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    heads, n, width = q.shape
    m = k.shape[1]
    full = -(-m // LANES) * LANES
    segments = None
    if full > m:
        k, v = (jnp.pad(x, ((0, 0), (0, full - m), (0, 0))) for x in (k, v))
        of_keys = (jnp.arange(full) < m).astype(jnp.int32)
        segments = splash.SegmentIds(jnp.ones((n,), jnp.int32), of_keys)
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([masks.FullMask((n, full))] * heads),
        block_sizes=splash.BlockSizes(_key_block(n), _key_block(full)),
        save_residuals=True,
        head_shards=1,
        q_seq_shards=1,
    )
    scaled = (q.astype(jnp.float32) / math.sqrt(width)).astype(q.dtype)
    y, (lse,) = kernel(scaled, k, v, segments)
    return y, lse
