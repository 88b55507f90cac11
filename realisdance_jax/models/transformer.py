"""Spatial transformer of the UNets: self (plus reference), cross to image tokens, feed-forward."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.models.attention import Attention, attend
from realisdance_jax.models.layers import GEGLU, Conv, GroupNorm, LayerNorm
from realisdance_jax.shapes import Array

Features = dict[str, Array]
"""Normed tokens `b n c` of the reference UNet by block path."""

ReferenceKV = Mapping[str, tuple[Array, Array]]
"""Keys and values `b m k d` of the reference by block path."""


def over_frames(x: Array, batch: int, frames: int) -> Array:
    """Per-clip `b m k d` repeated to `(b f) m k d`; one clip serves any batch."""
    x = jnp.broadcast_to(x[:, None], (x.shape[0], frames, *x.shape[1:]))
    x = jnp.broadcast_to(x, (batch, *x.shape[1:]))
    return rearrange(x, "b f m k d -> (b f) m k d")


class TransformerBlock(nn.Module):
    """norm1 -> attn1 -> norm2 -> attn2 -> norm3 -> GEGLU, each residual.

    `key` names the block in reference features; a reader finds its K/V under it (parity.md: H3).
    """

    width: int
    heads: int
    key: str
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.norm1, self.norm2, self.norm3 = (LayerNorm(dtype=self.dtype) for _ in range(3))
        self.attn1 = Attention(self.width, self.heads, self.dtype)
        self.attn2 = Attention(self.width, self.heads, self.dtype)
        self.ff = GEGLU(4 * self.width, self.width, self.dtype)

    def __call__(
        self,
        x: Array,
        context: Array,
        reference: ReferenceKV | None = None,
        keep: Array | None = None,
    ) -> tuple[Array, Array]:
        """Tokens `b f n c`, image tokens `b m c` -> (tokens, normed tokens `b f n c`)."""
        normed = self.norm1(x)
        kv = None if reference is None else reference.get(self.key)
        x = x + self.self_attention(normed, kv, keep)
        x = x + self.cross_attention(self.norm2(x), context)
        return x + self.ff(self.norm3(x)), normed

    def self_attention(self, x: Array, kv: tuple[Array, Array] | None, keep: Array | None) -> Array:
        """Own tokens, then the reference's, as one set of keys (parity.md: H24)."""
        b, f, n, _ = x.shape
        tokens = rearrange(x, "b f n c -> (b f) n c")
        k, v = self.attn1.key_value(tokens)
        mask = None
        if kv is not None:
            reference_k, reference_v = (over_frames(part, b, f) for part in kv)
            if keep is not None:
                own = jnp.ones((b * f, n), bool)
                kept = jnp.repeat(jnp.broadcast_to(keep, (b,)), f)[:, None]
                mask = jnp.concatenate(
                    [own, jnp.broadcast_to(kept, (b * f, reference_k.shape[1]))], axis=1
                )
            k = jnp.concatenate([k, reference_k.astype(k.dtype)], axis=1)
            v = jnp.concatenate([v, reference_v.astype(v.dtype)], axis=1)
        y = self.attn1.output(attend(self.attn1.query(tokens), k, v, mask))
        return rearrange(y, "(b f) n c -> b f n c", f=f)

    def cross_attention(self, x: Array, context: Array) -> Array:
        """All frames of a clip see the same tokens: K/V are made once, frames fold into queries."""
        b, f = x.shape[:2]
        k, v = self.attn2.key_value(jnp.broadcast_to(context, (b, *context.shape[1:])))
        q = self.attn2.query(rearrange(x, "b f n c -> b (f n) c"))
        return rearrange(self.attn2.output(attend(q, k, v)), "b (f n) c -> b f n c", f=f)


class SpatialTransformer(nn.Module):
    """GroupNorm per frame, 1x1 in, one transformer block, 1x1 out, residual."""

    width: int
    heads: int
    groups: int
    key: str
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.norm = GroupNorm(self.groups, eps=1e-6, dtype=self.dtype)
        self.proj_in = Conv(self.width, kernel_size=1, dtype=self.dtype)
        self.block = TransformerBlock(
            self.width,
            self.heads,
            f"{self.key}.transformer_blocks.0",
            self.dtype,
            name="transformer_blocks.0",
        )
        self.proj_out = Conv(self.width, kernel_size=1, dtype=self.dtype)

    def __call__(
        self,
        x: Array,
        context: Array,
        reference: ReferenceKV | None = None,
        keep: Array | None = None,
    ) -> tuple[Array, Features]:
        """`b f h w c` -> (`b f h w c`, {block path: normed tokens `b (f n) c`})."""
        h = x.shape[2]
        tokens = rearrange(self.proj_in(self.norm(x)), "b f h w c -> b f (h w) c")
        tokens, normed = self.block(tokens, context, reference, keep)
        y = self.proj_out(rearrange(tokens, "b f (h w) c -> b f h w c", h=h))
        return x + y, {self.block.key: rearrange(normed, "b f n c -> b (f n) c")}
