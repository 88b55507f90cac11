"""Classifier-free guidance."""

import jax.numpy as jnp

from realisdance_jax.shapes import Array, Float, typechecked


@typechecked
def classifier_free_guidance(
    uncond: Float[Array, "*x"], cond: Float[Array, "*x"], scale: float | Float[Array, ""]
) -> Float[Array, "*x"]:
    """uncond + scale * (cond - uncond) (Ho and Salimans 2022, with scale = 1 + their w)."""
    return uncond + scale * (cond - uncond)


@typechecked
def rescale_guidance(
    guided: Float[Array, "b *rest"],
    cond: Float[Array, "b *rest"],
    phi: float | Float[Array, ""],
) -> Float[Array, "b *rest"]:
    """Pull the spread of `guided` back to that of `cond` by the fraction `phi` in 0..1.

    Standard deviations are per sample over all other axes (Lin et al. 2023, section 3.4).
    """
    axes = tuple(range(1, guided.ndim))
    spread = jnp.std(cond, axes, keepdims=True) / jnp.std(guided, axes, keepdims=True)
    return guided * (phi * spread + (1 - phi))
