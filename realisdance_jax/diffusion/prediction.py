"""Conversions between x_0, noise and velocity at x_t = sqrt(a) x_0 + sqrt(1 - a) noise.

a is alpha_bar; velocity is v = sqrt(a) noise - sqrt(1 - a) x_0 (Salimans and Ho 2022). All are
linear, and finite at a = 0 except `to_x0_eps` from a noise prediction: pure noise says nothing
about x_0.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from realisdance_jax.diffusion.schedule import Prediction
from realisdance_jax.shapes import Array, Float, typechecked


class Conversion(NamedTuple):
    """Coefficients of x_0 = x0_x x_t + x0_out output and eps = eps_x x_t + eps_out output."""

    x0_x: Any
    x0_out: Any
    eps_x: Any
    eps_out: Any


def conversion(
    prediction: Prediction, alpha_bar: Float[Array, "..."] | Float[np.ndarray, "..."]
) -> Conversion:
    """Coefficients that turn a network output into x_0 and noise, in the type of `alpha_bar`."""
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    zero, one = 0 * alpha_bar, 0 * alpha_bar + 1
    if prediction == "v_prediction":
        return Conversion(signal, -noise, noise, signal)
    if prediction == "epsilon":
        return Conversion(1 / signal, -noise / signal, zero, one)
    return Conversion(zero, one, 1 / noise, -signal / noise)


def _levels(
    alpha_bar: Float[Array, "..."], x: Float[Array, "b ..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """sqrt(a) and sqrt(1 - a), shaped to multiply `x` per sample."""
    alpha_bar = _per_sample(alpha_bar, x)
    return jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar)


def _per_sample(alpha_bar: Float[Array, "..."], x: Float[Array, "b ..."]) -> Float[Array, "..."]:
    alpha_bar = jnp.asarray(alpha_bar, jnp.float32)
    return alpha_bar.reshape(alpha_bar.shape + (1,) * (x.ndim - 1)) if alpha_bar.ndim else alpha_bar


@typechecked
def to_x0_eps(
    prediction: Prediction,
    model_output: Float[Array, "b *rest"],
    x_t: Float[Array, "b *rest"],
    alpha_bar: Float[Array, "b"] | Float[Array, ""],
) -> tuple[Float[Array, "b *rest"], Float[Array, "b *rest"]]:
    """(x_0, noise) that a network output stands for, float32.

    At alpha_bar = 0 a noise prediction leaves x_0 undefined: it comes out infinite or nan.
    """
    c = conversion(prediction, _per_sample(alpha_bar, x_t))
    x_t, out = x_t.astype(jnp.float32), model_output.astype(jnp.float32)
    return c.x0_x * x_t + c.x0_out * out, c.eps_x * x_t + c.eps_out * out


@typechecked
def from_x0_eps(
    prediction: Prediction,
    x0: Float[Array, "b *rest"],
    eps: Float[Array, "b *rest"],
    alpha_bar: Float[Array, "b"] | Float[Array, ""],
) -> Float[Array, "b *rest"]:
    """What a perfect network would output for (x_0, noise): the training target."""
    if prediction == "v_prediction":
        return velocity(x0, eps, alpha_bar)
    return eps if prediction == "epsilon" else x0


@typechecked
def add_noise(
    x0: Float[Array, "b *rest"],
    eps: Float[Array, "b *rest"],
    alpha_bar: Float[Array, "b"] | Float[Array, ""],
) -> Float[Array, "b *rest"]:
    """x_t = sqrt(a) x_0 + sqrt(1 - a) eps."""
    signal, noise = _levels(alpha_bar, x0)
    return signal * x0 + noise * eps


@typechecked
def velocity(
    x0: Float[Array, "b *rest"],
    eps: Float[Array, "b *rest"],
    alpha_bar: Float[Array, "b"] | Float[Array, ""],
) -> Float[Array, "b *rest"]:
    """v = sqrt(a) eps - sqrt(1 - a) x_0 (Salimans and Ho 2022, section 4)."""
    signal, noise = _levels(alpha_bar, x0)
    return signal * eps - noise * x0
