"""Spatial transformer of the UNets: self (plus reference), cross to image tokens, feed-forward."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.models.attend import attend
from realisdance_jax.models.attention import Attention
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.layers import GEGLU, Conv, GroupNorm, LayerNorm
from realisdance_jax.shapes import Array

Features = dict[str, Array]
"""Normed tokens `b n c` of the reference UNet by block path."""

ReferenceKV = Mapping[str, tuple[Array, Array]]
"""Keys and values `b m k d` of the reference by block path."""

ContextKV = Mapping[str, tuple[Array, Array] | Array]
"""Of image tokens by block path: keys and values `b m k d`, or, where all tokens of a clip are
alike, what cross-attention gives them whatever is asked, `b c`."""

Context = Array | ContextKV
"""Image tokens `b m c`, or what was made of them beforehand."""


def for_each(batch: int, x: Array) -> Array:
    """`b ...` as it is; of one clip, the same for every example."""
    return jnp.broadcast_to(x, (batch, *x.shape[1:]))


class TransformerBlock(nn.Module):
    """norm1 -> attn1 -> norm2 -> attn2 -> norm3 -> GEGLU, each residual.

    `key` names the block in reference features; a reader finds its K/V under it (parity.md: H3).
    """

    width: int
    heads: int
    key: str
    compute: Compute = Compute()

    def setup(self):
        dtype = self.compute.dtype
        self.norm1, self.norm2, self.norm3 = (LayerNorm(dtype=dtype) for _ in range(3))
        self.attn1 = Attention(self.width, self.heads, self.compute)
        self.attn2 = Attention(self.width, self.heads, self.compute)
        self.ff = GEGLU(4 * self.width, self.width, dtype)

    def __call__(
        self,
        x: Array,
        context: Context,
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
        b = x.shape[0]
        if kv is not None:
            kv = for_each(b, kv[0]), for_each(b, kv[1])
            keep = None if keep is None else for_each(b, keep)
        own, q = self.attn1.key_value(x), self.attn1.query(x)
        seen = None if kv is None else keep
        return self.attn1.output(attend(q, own, kv, seen, self.compute))

    def cross_attention(self, x: Array, context: Context) -> Array:
        """All frames of a clip see the same tokens."""
        made = context[self.key] if isinstance(context, Mapping) else self.token_kv(context)
        if not isinstance(made, tuple):
            return made[:, None, None].astype(x.dtype)
        k, v = (for_each(x.shape[0], part) for part in made)
        y = attend(self.attn2.query(x), shared=(k, v), compute=self.compute)
        return self.attn2.output(y)

    def token_kv(self, context: Array) -> tuple[Array, Array]:
        """Keys and values `b m k d` of image tokens `b m c`."""
        return self.attn2.key_value(context)

    def folded(self, context: Array) -> Array:
        """Cross-attention to tokens `b m c` that are all alike: a mean of equal values, `b c`."""
        return self.attn2.output(self.attn2.key_value(context[:, :1])[1])[:, 0]


class SpatialTransformer(nn.Module):
    """GroupNorm per frame, 1x1 in, one transformer block, 1x1 out, residual."""

    width: int
    heads: int
    groups: int
    key: str
    compute: Compute = Compute()

    def setup(self):
        dtype = self.compute.dtype
        self.norm = GroupNorm(self.groups, eps=1e-6, dtype=dtype)
        self.proj_in = Conv(self.width, kernel_size=1, dtype=dtype)
        self.block = TransformerBlock(
            self.width,
            self.heads,
            f"{self.key}.transformer_blocks.0",
            self.compute,
            name="transformer_blocks.0",
        )
        self.proj_out = Conv(self.width, kernel_size=1, dtype=dtype)

    def __call__(
        self,
        x: Array,
        context: Context,
        reference: ReferenceKV | None = None,
        keep: Array | None = None,
    ) -> tuple[Array, Features]:
        """`b f h w c` -> (`b f h w c`, {block path: normed tokens `b (f n) c`})."""
        h = x.shape[2]
        tokens = rearrange(self.proj_in(self.norm(x)), "b f h w c -> b f (h w) c")
        tokens, normed = self.block(tokens, context, reference, keep)
        y = self.proj_out(rearrange(tokens, "b f (h w) c -> b f h w c", h=h))
        return x + y, {self.block.key: rearrange(normed, "b f n c -> b (f n) c")}
