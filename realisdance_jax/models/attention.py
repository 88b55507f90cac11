"""Multi-head attention: one module for self, cross, reference and temporal use."""

import flax.linen as nn
from einops import rearrange

from realisdance_jax.models.compute import Compute
from realisdance_jax.models.layers import Linear
from realisdance_jax.shapes import Array


class Attention(nn.Module):
    """Multi-head attention with biasless q, k, v and a biased output (parity.md: H20).

    The pieces are public because the reference K/V is made once per clip (`key_value`) and joined
    with each frame's own.
    """

    width: int
    heads: int
    compute: Compute = Compute()

    def setup(self):
        dtype = self.compute.dtype

        def projection(name: str) -> Linear:
            axes = ("embed", "heads")
            return Linear(self.width, axes, use_bias=False, dtype=dtype, name=name)

        self.to_q = projection("to_q")
        self.to_k = projection("to_k")
        self.to_v = projection("to_v")
        self.to_out = Linear(self.width, ("heads", "embed"), dtype=dtype, name="to_out.0")

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
