"""DINOv2 vision transformer: image -> all tokens after the final norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from realisdance_jax.models.attend import attend
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import DinoConfig
from realisdance_jax.models.layers import LayerNorm, Linear, named, uniform_fan_in
from realisdance_jax.shapes import Array, Float, typechecked

CUBIC_A = -0.75
"""Sharpness of the bicubic kernel that resized the position table in training (parity.md: H9)."""


def _cubic_weights(fraction: np.ndarray) -> np.ndarray:
    """`n` offsets in [0, 1) -> `n 4` weights of the taps at -1, 0, 1, 2."""
    distance = np.abs(fraction[:, None] - np.arange(-1, 3)[None])
    near = ((CUBIC_A + 2) * distance - (CUBIC_A + 3)) * distance**2 + 1
    far = CUBIC_A * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)


def bicubic_matrix(source: int, target: int, step: float) -> np.ndarray:
    """`target source` float32: cubic sampling at (i + 0.5) * step - 0.5, edges clamped."""
    position = (np.arange(target) + 0.5) * step - 0.5
    base = np.floor(position)
    weights = _cubic_weights(position - base)
    taps = np.clip(base[:, None].astype(int) + np.arange(-1, 3), 0, source - 1)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target)[:, None], taps), weights)
    return matrix.astype(np.float32)


def resize_positions(table: Array, height: int, width: int, square_input: bool) -> Array:
    """Position table `1 + s*s c` for `height x width` patches (parity.md: H9).

    The class position stays; the grid is sampled with steps s / (height + 0.1), s / (width + 0.1),
    unless the patch count matches and the picture was square.
    """
    side = round((table.shape[0] - 1) ** 0.5)
    if height * width == side * side and square_input:
        return table
    rows = bicubic_matrix(side, height, side / (height + 0.1))
    columns = bicubic_matrix(side, width, side / (width + 0.1))
    grid = rearrange(table[1:], "(h w) c -> h w c", h=side)
    grid = jnp.einsum("ih,jw,hwc->ijc", rows, columns, grid)
    return jnp.concatenate([table[:1], rearrange(grid, "h w c -> (h w) c")])


class SelfAttention(nn.Module):
    """Attention with biases everywhere."""

    heads: int
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        dtype = self.compute.dtype

        def project(name: str) -> Array:
            y = Linear(x.shape[-1], ("embed", "heads"), dtype=dtype, name=name)(x)
            return rearrange(y, "b n (k d) -> b 1 n k d", k=self.heads)

        q, k, v = (project(f"attention.{part}") for part in ("query", "key", "value"))
        y = rearrange(attend(q, (k, v), compute=self.compute), "b 1 n k d -> b n (k d)")
        out = Linear(x.shape[-1], ("heads", "embed"), dtype=dtype, name="output.dense")
        return out(y)


class EncoderLayer(nn.Module):
    """x + scale1 * attention(norm1 x); x + scale2 * mlp(norm2 x)."""

    config: DinoConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c, dtype = self.config, self.compute.dtype

        def scaled(y: Array, i: int) -> Array:
            scale = self.param(
                f"layer_scale{i}.lambda1", named(nn.initializers.ones, "norm"), (c.width,)
            )
            return y * scale.astype(dtype)

        def norm(i: int) -> Array:
            return LayerNorm(c.norm_eps, dtype, name=f"norm{i}")(x)

        x = x + scaled(SelfAttention(c.heads, self.compute, name="attention")(norm(1)), 1)
        y = Linear(c.mlp_ratio * c.width, ("embed", "mlp"), dtype=dtype, name="mlp.fc1")(norm(2))
        y = nn.gelu(y, approximate=False)
        y = Linear(c.width, ("mlp", "embed"), dtype=dtype, name="mlp.fc2")(y)
        return x + scaled(y, 2)


class DinoV2(nn.Module):
    """All tokens `b 1+h*w c` (class first, then row-major patches) of normalised pictures.

    Rows and columns that do not fill a patch are ignored. Source: Oquab et al. 2023; parity.md: H9.
    """

    config: DinoConfig
    compute: Compute = Compute()

    @nn.compact
    @typechecked
    def __call__(self, image: Float[Array, "b H W c"]) -> Float[Array, "b m d"]:
        c, dtype = self.config, self.compute.dtype
        # Flax refuses a name that stands twice on one array.
        token = named(nn.initializers.normal(0.02), None, "token", "embed")
        cls = self.param("embeddings.cls_token", token, (1, 1, c.width))
        # Unused in the forward pass; kept so that the file of the encoder maps one to one.
        mask = named(nn.initializers.zeros, "token", "embed")
        self.param("embeddings.mask_token", mask, (1, c.width))
        table = self.param(
            "embeddings.position_embeddings", token, (1, 1 + c.table_size**2, c.width)
        )
        b, height, width, channels = image.shape
        rows, columns = height // c.patch, width // c.patch
        patches = rearrange(
            image[:, : rows * c.patch, : columns * c.patch].astype(dtype),
            "b (h p) (w q) c -> b (h w) (p q c)",
            p=c.patch,
            q=c.patch,
        )
        fan_in = c.patch * c.patch * channels
        kernel = self.param(
            "embeddings.patch_embeddings.projection.kernel",
            named(uniform_fan_in(fan_in), "conv_h", "conv_w", "conv_in", "embed"),
            (c.patch, c.patch, channels, c.width),
        )
        bias = self.param(
            "embeddings.patch_embeddings.projection.bias",
            named(uniform_fan_in(fan_in), "embed"),
            (c.width,),
        )
        x = patches @ kernel.reshape(fan_in, c.width).astype(dtype) + bias.astype(dtype)
        x = jnp.concatenate([jnp.broadcast_to(cls.astype(dtype), (b, 1, c.width)), x], axis=1)
        x = x + resize_positions(table[0], rows, columns, height == width).astype(dtype)
        for i in range(c.layers):
            x = EncoderLayer(c, self.compute, name=f"encoder.layer.{i}")(x)
        return LayerNorm(c.norm_eps, dtype, name="layernorm")(x).astype(jnp.float32)


def zero_image(batch: int, height: int, width: int) -> Array:
    """What "image" unconditional guidance shows the encoder: zeros after normalisation (H4)."""
    return jax.numpy.zeros((batch, height, width, 3), jnp.float32)
