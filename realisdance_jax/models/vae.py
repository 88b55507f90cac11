"""Stable Diffusion autoencoder: diffusers' Flax module behind NHWC arrays, scaling and chunks.

The only file that touches diffusers. Mean and standard deviation come out, so that training can
sample and sampling can take the mode (parity.md: latents).
"""

import functools
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.models.config import VAEConfig
from realisdance_jax.models.layers import group_normalise
from realisdance_jax.shapes import Array, Float, typechecked


@functools.cache
def _flax_vae(config: VAEConfig, dtype: jnp.dtype) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.models.vae_flax import FlaxAutoencoderKL

        # Every Flax class of diffusers announces its end on construction; the pin is in pyproject.
        logging.getLogger("diffusers").setLevel(logging.ERROR)
        levels = len(config.widths)
        return FlaxAutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.widths,
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
            dtype=dtype,
        )


def _two_pass_norm(next_call: Callable, args: tuple, options: dict, context: Any) -> Any:
    """Stands in for Flax's group norm, whose one-pass variance cancels (parity.md: VAE norms)."""
    module = context.module
    if not isinstance(module, nn.GroupNorm) or context.method_name != "__call__":
        return next_call(*args, **options)
    (x,) = args
    params = module.variables["params"]
    groups = cast(int, module.num_groups)  # diffusers never gives a group size instead
    y = group_normalise(x[:, None], groups, module.epsilon)[:, 0]
    return (y * params["scale"] + params["bias"]).astype(x.dtype)


@dataclass(frozen=True)
class VAE:
    """Pure functions of `params`; pictures in [-1, 1], latents multiplied by `config.scaling`."""

    config: VAEConfig
    dtype: jnp.dtype = jnp.float32

    @property
    def module(self) -> Any:
        return _flax_vae(self.config, self.dtype)

    def _apply(self, params: dict, x: Array, method: str) -> Any:
        with nn.intercept_methods(_two_pass_norm):
            return self.module.apply({"params": params}, x, method=method)

    @property
    def factor(self) -> int:
        """Pixels per latent pixel along one side."""
        return 2 ** (len(self.config.widths) - 1)

    def init(self, key: Array) -> dict:
        """Fresh parameters (float32)."""
        size = 4 * self.factor
        image = jnp.zeros((1, 3, size, size), jnp.float32)
        return self.module.init(key, image)["params"]

    @typechecked
    def posterior(
        self, params: dict, image: Float[Array, "b H W 3"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        """Mean and standard deviation of unscaled latents."""
        channels_first = rearrange(image, "b h w c -> b c h w")
        moments = self._apply(params, channels_first, "encode").latent_dist
        return moments.mean, moments.std

    @typechecked
    def encode(self, params: dict, image: Float[Array, "b H W 3"]) -> Float[Array, "b h w c"]:
        """Scaled mode of the posterior."""
        return self.posterior(params, image)[0] * self.config.scaling

    @typechecked
    def decode(self, params: dict, latents: Float[Array, "b h w c"]) -> Float[Array, "b H W 3"]:
        """Pictures of scaled latents, not clamped."""
        # Channels last: diffusers guesses the layout from the last axis, and a latent width of 4
        # would pass for four channels.
        sample = self._apply(params, latents / self.config.scaling, "decode").sample
        return rearrange(sample, "b c h w -> b h w c")
