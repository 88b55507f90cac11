"""Attention over a query's own and its shared keys apart, joined by their log-sum-exps.

For inference: shared keys are never copied per group, and without them the own part is all there
is. Training wants one call over all keys, because fused kernels give the log-sum-exp no gradient.

A part is (y, lse): softmax(q k^T / sqrt(d)) v over its keys, float32 or the kernel's dtype, and the
log of the sum of its exponentials, float32.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.shapes import Array

Part = tuple[Array, Array]
"""y `... n k d` and lse `... n k`."""

Rows = Callable[[Array, Array, Array], Part]
"""A kernel: queries `r n k d`, keys and values `r m k d` -> the part of these keys."""


def dense_part(q: Array, k: Array, v: Array) -> Part:
    """Queries `... n k d`, keys and values `... m k d`; y is float32."""
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    logits = product("...nkd,...mkd->...knm", q, k.astype(q.dtype)) / math.sqrt(q.shape[-1])
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    y = product("...knm,...mkd->...knd", weights.astype(q.dtype), v.astype(q.dtype)) / total
    lse = jnp.squeeze(top + jnp.log(total), axis=-1)
    return jnp.swapaxes(y, -3, -2), jnp.swapaxes(lse, -2, -1)


def merge(own: Part, shared: Part, keep: Array | None = None) -> Array:
    """y over both sets of keys, float32; where `keep` (of lse's rank) is False, over its own."""
    share = jax.nn.sigmoid(shared[1] - own[1])
    if keep is not None:
        share = jnp.where(keep, share, 0.0)
    y, other = (part[0].astype(jnp.float32) for part in (own, shared))
    return y + share[..., None] * (other - y)


def in_parts(
    q: Array,
    own: tuple[Array, Array] | None,
    shared: tuple[Array, Array] | None,
    keep: Array | None,
    rows: Rows,
) -> Array:
    """Queries `b g n k d` over own keys `b g m k d` and shared ones `b s k d`, by a kernel.

    To the shared keys, the queries of all groups of a clip are one long row.
    """
    b, g = q.shape[:2]
    parts: list[Part] = []
    if own is not None:
        y, lse = rows(*(rearrange(x, "b g n k d -> (b g) n k d") for x in (q, *own)))
        parts.append((y.reshape(q.shape), lse.reshape(q.shape[:-1])))
    if shared is not None:
        k, v = (x.astype(q.dtype) for x in shared)
        y, lse = rows(rearrange(q, "b g n k d -> b (g n) k d"), k, v)
        parts.append((y.reshape(q.shape), lse.reshape(q.shape[:-1])))
    if len(parts) == 1:
        return parts[0][0].astype(q.dtype)
    mask = None if keep is None else jnp.broadcast_to(keep[:, None, None, None], (b, g, 1, 1))
    return merge(parts[0], parts[1], mask).astype(q.dtype)
