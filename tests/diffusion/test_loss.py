"""Min-SNR weights against the official code, and the weighted error by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.diffusion.loss import min_snr_weight, snr, weighted_mse
from realisdance_jax.diffusion.schedule import ScheduleConfig, alphas_cumprod
from tests.diffusion.solver_cases import GOLDEN

OFFICIAL = np.load(GOLDEN / "schedule.npz")
EVERY = jnp.arange(1000)


@pytest.mark.parametrize(("suffix", "zero_snr"), [("", True), ("_no_zero_snr", False)])
def test_official_weights(suffix, zero_snr):
    table = jnp.asarray(alphas_cumprod(ScheduleConfig(zero_snr=zero_snr)))
    np.testing.assert_allclose(snr(table, EVERY), OFFICIAL["snr" + suffix], rtol=2e-4)
    for kind, name in (("v_prediction", "v"), ("epsilon", "epsilon")):
        ours = min_snr_weight(table, EVERY, 5.0, kind)
        theirs = OFFICIAL[f"min_snr_weight_{name}{suffix}"]
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-9)


def test_pure_noise_and_clipping():
    table = jnp.asarray(alphas_cumprod(ScheduleConfig()))
    ratio = np.asarray(snr(table, EVERY))
    assert int(np.argmax(ratio < 5)) == 139
    for kind in ("v_prediction", "epsilon", "sample"):
        assert min_snr_weight(table, EVERY, 5.0, kind)[999] == 0
    weights = np.asarray(min_snr_weight(table, EVERY, 5.0, "sample"))
    np.testing.assert_array_equal(weights, np.minimum(ratio, 5))


def test_plus_one_keeps_pure_noise():
    """With velocity: 1 up to a signal-to-noise ratio of gamma - 1, then gamma / (ratio + 1)."""
    table = jnp.asarray(alphas_cumprod(ScheduleConfig()))
    ratio = np.asarray(snr(table, EVERY))
    weights = min_snr_weight(table, EVERY, 5.0, "v_prediction", "min_snr_plus_one")
    np.testing.assert_allclose(weights, np.minimum(1, 5 / (ratio + 1)), rtol=1e-5)
    assert weights[999] == 1


def test_weighted_error_by_hand():
    pred = jnp.asarray([[[1.0, 3.0]], [[0.0, 2.0]]])
    target = jnp.asarray([[[0.0, 0.0]], [[0.0, 0.0]]])
    loss = weighted_mse(pred, target, jnp.asarray([0.5, 2.0]))
    assert loss == (0.5 * 5.0 + 2.0 * 2.0) / 2


def test_error_is_taken_in_float32():
    pred = jnp.full((2, 3000), 1.0, jnp.bfloat16)
    loss = weighted_mse(pred, jnp.zeros((2, 3000), jnp.bfloat16), jnp.ones(2))
    assert loss.dtype == jnp.float32
    assert loss == 1


def test_gradient_of_a_weightless_sample_is_zero():
    pred = jnp.ones((2, 4))
    gradient = jax.grad(lambda p: weighted_mse(p, jnp.zeros((2, 4)), jnp.asarray([0.0, 1.0])))(pred)
    np.testing.assert_array_equal(gradient, [[0.0] * 4, [0.25] * 4])
