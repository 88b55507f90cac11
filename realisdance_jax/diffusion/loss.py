"""Training loss: squared error weighted by the signal-to-noise ratio."""

from typing import Literal

import jax.numpy as jnp

from realisdance_jax.diffusion.schedule import Prediction
from realisdance_jax.shapes import Array, Float, Int, typechecked

Weighting = Literal["min_snr", "min_snr_plus_one"]


@typechecked
def snr(alphas_cumprod: Float[Array, "t"], timestep: Int[Array, "b"]) -> Float[Array, "b"]:
    """alpha_bar / (1 - alpha_bar) of each sample's timestep; 0 at pure noise."""
    alpha_bar = alphas_cumprod[timestep]
    return alpha_bar / (1 - alpha_bar)


@typechecked
def min_snr_weight(
    alphas_cumprod: Float[Array, "t"],
    timestep: Int[Array, "b"],
    gamma: float,
    prediction: Prediction,
    weighting: Weighting = "min_snr",
) -> Float[Array, "b"]:
    """Min-SNR loss weight per sample (Hang et al. 2023, section 3.4; parity.md: min-SNR).

    The weight on the error of x_0 is min(snr, gamma); in units of the network's output that is
    divided by snr + 1 for velocity and by snr for noise. `min_snr_plus_one`: min(snr + 1, gamma),
    so that with velocity pure noise (zero terminal SNR) has weight 1, not 0.
    """
    ratio = snr(alphas_cumprod, timestep)
    clipped = jnp.minimum(ratio + 1 if weighting == "min_snr_plus_one" else ratio, gamma)
    if prediction == "v_prediction":
        return clipped / (ratio + 1)
    if prediction == "epsilon":
        return clipped / jnp.maximum(ratio, 1e-8)
    return clipped


@typechecked
def weighted_mse(
    pred: Float[Array, "b *rest"], target: Float[Array, "b *rest"], weights: Float[Array, "b"]
) -> Float[Array, ""]:
    """Mean over the batch of weight times the mean squared error of the sample, in float32."""
    error = pred.astype(jnp.float32) - target.astype(jnp.float32)
    per_sample = jnp.mean(jnp.square(error).reshape(error.shape[0], -1), axis=1)
    return jnp.mean(weights.astype(jnp.float32) * per_sample)
