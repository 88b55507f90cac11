"""Attention: one arithmetic (`attend`), one module for self, cross, reference and temporal use."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.models.layers import Linear
from realisdance_jax.shapes import Array, Bool, Float, typechecked

LOGIT_BYTES = 256 * 2**20
"""Above this many bytes of float32 logits, queries are processed in chunks."""


def _attend_dense(q: Array, k: Array, v: Array, keep: Array | None) -> Array:
    logits = jnp.einsum("bnkd,bmkd->bknm", q, k, preferred_element_type=jnp.float32)
    logits = logits * (1.0 / math.sqrt(q.shape[-1]))
    if keep is not None:
        logits = jnp.where(keep[:, None, None, :], logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bknm,bmkd->bnkd", weights, v)


def _chunk_length(n: int, bytes_per_query: int) -> int:
    """Longest divisor of `n` whose logits fit the budget (1 at worst)."""
    fitting = max(1, LOGIT_BYTES // bytes_per_query)
    return max(size for size in range(1, min(n, fitting) + 1) if n % size == 0)


@typechecked
def attend(
    q: Float[Array, "b n k d"],
    k: Float[Array, "b m k d"],
    v: Float[Array, "b m k d"],
    keep: Bool[Array, "b m"] | None = None,
) -> Float[Array, "b n k d"]:
    """softmax(q k^T / sqrt(d)) v with logits and softmax in float32.

    `keep` marks the keys that take part (at least one per example). Long inputs are mapped over
    examples and chunks of queries, so that logits never take more than `LOGIT_BYTES`.
    """
    b, n, heads, _ = q.shape
    bytes_per_query = 4 * heads * k.shape[1]
    if b * n * bytes_per_query <= LOGIT_BYTES:
        return _attend_dense(q, k, v, keep)
    size = _chunk_length(n, bytes_per_query)

    def one_example(example):
        q1, k1, v1, keep1 = jax.tree.map(lambda x: x[None], example)

        @jax.checkpoint
        def one_chunk(chunk):
            return _attend_dense(chunk[None], k1, v1, keep1)[0]

        chunks = rearrange(q1[0], "(i n) k d -> i n k d", n=size)
        return rearrange(jax.lax.map(one_chunk, chunks), "i n k d -> (i n) k d")

    return jax.lax.map(one_example, (q, k, v, keep))


class Attention(nn.Module):
    """Multi-head attention with biasless q, k, v and a biased output (parity.md: H20).

    The pieces are public because the reference K/V is made once per clip (`key_value`) and joined
    with each frame's own.
    """

    width: int
    heads: int
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        def projection(name: str) -> Linear:
            axes = ("embed", "heads")
            return Linear(self.width, axes, use_bias=False, dtype=self.dtype, name=name)

        self.to_q = projection("to_q")
        self.to_k = projection("to_k")
        self.to_v = projection("to_v")
        self.to_out = Linear(self.width, ("heads", "embed"), dtype=self.dtype, name="to_out.0")

    def split_heads(self, x: Array) -> Array:
        return rearrange(x, "... (k d) -> ... k d", k=self.heads)

    def query(self, x: Array) -> Array:
        """Queries `... n k d` of tokens `... n c`."""
        return self.split_heads(self.to_q(x))

    def key_value(self, tokens: Array) -> tuple[Array, Array]:
        """Keys and values `... m k d` of tokens `... m c`."""
        return self.split_heads(self.to_k(tokens)), self.split_heads(self.to_v(tokens))

    def output(self, x: Array) -> Array:
        """Heads `... n k d` merged and projected to `... n c`."""
        return self.to_out(rearrange(x, "... k d -> ... (k d)"))

    def __call__(self, x: Array, tokens: Array | None = None) -> Array:
        """Attention of `b n c` to itself or to `tokens` `b m c`."""
        k, v = self.key_value(x if tokens is None else tokens)
        return self.output(attend(self.query(x), k, v))
