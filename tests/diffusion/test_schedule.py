"""Noise schedule and timesteps against the official code's tables, and their general properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.diffusion.schedule import (
    ScheduleConfig,
    alphas_cumprod,
    betas,
    rescale_zero_terminal_snr,
    timesteps,
)
from realisdance_jax.utils.errors import UserError
from tests.diffusion.solver_cases import GOLDEN

OFFICIAL = np.load(GOLDEN / "schedule.npz")
ROUNDING = 2e-7  # the official code rounds square roots differently on different CPUs


def test_released_schedule():
    ours = alphas_cumprod(ScheduleConfig())
    assert ours.dtype == np.float32
    assert ours[999] == 0
    np.testing.assert_allclose(ours, OFFICIAL["alphas_cumprod"], rtol=ROUNDING, atol=0)
    np.testing.assert_allclose(betas(ScheduleConfig()), OFFICIAL["betas"], rtol=0, atol=2.5e-7)


def test_plain_schedule_is_bit_equal():
    ours = alphas_cumprod(ScheduleConfig(zero_snr=False))
    np.testing.assert_array_equal(ours, OFFICIAL["alphas_cumprod_no_zero_snr"])


@given(
    schedule=st.sampled_from(["scaled_linear", "linear", "squaredcos_cap_v2"]),
    count=st.integers(2, 1500),
    zero_snr=st.booleans(),
)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_signal_falls_monotonically(schedule, count, zero_snr):
    config = ScheduleConfig(count, beta_schedule=schedule, zero_snr=zero_snr)
    alpha_bar = alphas_cumprod(config).astype(np.float64)
    assert (np.diff(alpha_bar / (1 - alpha_bar)) < 0).all()
    assert 0 < alpha_bar[0] < 1
    assert (alpha_bar[-1] == 0) == zero_snr


def test_rescaling_keeps_the_first_step():
    plain = betas(ScheduleConfig(zero_snr=False))
    rescaled = rescale_zero_terminal_snr(plain)
    np.testing.assert_allclose(rescaled[0], plain[0], rtol=1e-3)
    assert rescaled[-1] == 1


@pytest.mark.parametrize("steps", [4, 10, 20, 25, 50])
def test_linspace_timesteps_are_the_official_ones(steps):
    ours = timesteps(ScheduleConfig(), steps)
    np.testing.assert_array_equal(ours, OFFICIAL[f"ddim_timesteps_{steps}"])


@pytest.mark.parametrize(
    ("steps", "spacing", "expected"),
    [
        (7, "linspace", [999, 832, 666, 500, 333, 166, 0]),
        (1, "linspace", [0]),
        (4, "leading", [751, 501, 251, 1]),
        (3, "leading", [667, 334, 1]),
        (4, "trailing", [999, 749, 499, 249]),
        (3, "trailing", [999, 666, 332]),
        (1, "trailing", [999]),
    ],
)
def test_timesteps_by_hand(steps, spacing, expected):
    assert timesteps(ScheduleConfig(), steps, spacing).tolist() == expected


@given(steps=st.integers(1, 999), spacing=st.sampled_from(["linspace", "leading", "trailing"]))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_timesteps_decrease_within_range(steps, spacing):
    chosen = timesteps(ScheduleConfig(), steps, spacing)
    assert len(chosen) == steps
    assert (np.diff(chosen) < 0).all()
    assert chosen[0] <= 999
    assert chosen[-1] >= 0


@pytest.mark.parametrize(
    ("steps", "spacing", "message"),
    [
        (0, "linspace", "steps: expected 1..1000, found 0"),
        (1001, "trailing", "steps: expected 1..1000, found 1001"),
        (1000, "leading", "start at timestep 1000"),
        (10, "uniform", "spacing: expected one of linspace, leading, trailing; found 'uniform'"),
    ],
)
def test_bad_timesteps(steps, spacing, message):
    with pytest.raises(UserError, match=message):
        timesteps(ScheduleConfig(), steps, spacing)


@pytest.mark.parametrize(
    "settings",
    [
        {"beta_schedule": "cosine"},
        {"prediction": "v"},
        {"num_train_timesteps": 1},
        {"beta_start": 0.0},
        {"beta_start": 0.1, "beta_end": 0.01},
        {"steps_offset": -1},
    ],
)
def test_bad_config(settings):
    with pytest.raises(UserError, match="expected"):
        ScheduleConfig(**settings)
