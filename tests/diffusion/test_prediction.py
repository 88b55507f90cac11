"""Conversions between noise, velocity and x_0: official values, inverses, and the zero-SNR end."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.diffusion.prediction import add_noise, from_x0_eps, to_x0_eps, velocity
from tests.diffusion.solver_cases import GOLDEN

OFFICIAL = np.load(GOLDEN / "schedule.npz")
KINDS = ("v_prediction", "epsilon", "sample")


def pair(shape=(3, 4, 5)):
    draws = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    return jnp.asarray(draws[0]), jnp.asarray(draws[1])


@pytest.mark.parametrize(("name", "function"), [("add_noise", add_noise), ("velocity", velocity)])
def test_official_values(name, function):
    x0, eps = jnp.asarray(OFFICIAL["x0"]), jnp.asarray(OFFICIAL["eps"])
    alpha_bar = jnp.asarray(OFFICIAL["alphas_cumprod"][OFFICIAL["t"]])
    np.testing.assert_allclose(function(x0, eps, alpha_bar), OFFICIAL[name], rtol=0, atol=5e-7)


@given(alpha_bar=st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3))
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, derandomize=True, deadline=None)
def test_conversions_invert_each_other(kind, alpha_bar):
    x0, eps = pair()
    alpha_bar = jnp.asarray(alpha_bar, jnp.float32)
    output = from_x0_eps(kind, x0, eps, alpha_bar)
    back = to_x0_eps(kind, output, add_noise(x0, eps, alpha_bar), alpha_bar)
    np.testing.assert_allclose(back[0], x0, atol=2e-5)
    np.testing.assert_allclose(back[1], eps, atol=2e-5)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_pure_noise_is_exact(kind):
    x0, eps = pair()
    zero = jnp.float32(0)
    x_t = add_noise(x0, eps, zero)
    np.testing.assert_array_equal(x_t, eps)
    back = to_x0_eps(kind, from_x0_eps(kind, x0, eps, zero), x_t, zero)
    np.testing.assert_array_equal(back[0], x0)
    np.testing.assert_array_equal(back[1], eps)


def test_noise_prediction_keeps_the_noise_at_pure_noise():
    _, eps = pair()
    predicted = to_x0_eps("epsilon", eps, eps, jnp.float32(0))
    np.testing.assert_array_equal(predicted[1], eps)
    assert not np.isfinite(predicted[0]).any()


def test_one_level_per_sample():
    x0, eps = pair()
    levels = jnp.asarray([0.1, 0.5, 0.9], jnp.float32)
    together = velocity(x0, eps, levels)
    for k in range(3):
        alone = velocity(x0[k : k + 1], eps[k : k + 1], levels[k])
        np.testing.assert_array_equal(together[k : k + 1], alone)


def test_half_precision_output_is_converted_in_float32():
    x0, eps = pair()
    alpha_bar = jnp.float32(0.5)
    output = velocity(x0, eps, alpha_bar).astype(jnp.bfloat16)
    back = to_x0_eps("v_prediction", output, add_noise(x0, eps, alpha_bar), alpha_bar)
    assert back[0].dtype == back[1].dtype == jnp.float32
