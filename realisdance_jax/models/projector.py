"""Residual feed-forward projector from DINOv2 tokens to the cross-attention width."""

import flax.linen as nn
import jax.numpy as jnp

from realisdance_jax.models.layers import GEGLU, LayerNorm, Linear
from realisdance_jax.shapes import Array


class Projector(nn.Module):
    """post_proj(LN(identity(x) + GEGLU(x))), inner width 2 c; zero when new (parity.md: H23)."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`b m c` -> `b m features`."""
        y = Linear(self.features, ("embed", "embed_out"), dtype=self.dtype, name="identity")(x)
        y = y + GEGLU(2 * x.shape[-1], self.features, self.dtype, name="ff")(x)
        y = LayerNorm(dtype=self.dtype, name="post_norm")(y)
        return Linear(
            self.features,
            ("embed", "embed_out"),
            zero_init=True,
            dtype=self.dtype,
            name="post_proj",
        )(y)
