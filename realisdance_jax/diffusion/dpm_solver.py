"""DPM-Solver++ 2M (Lu et al. 2022, algorithm 2), midpoint, ending at zero noise.

Written with signal a = sqrt(alpha_bar), noise s = sqrt(1 - alpha_bar) and l = log(a / s):
x' = (s'/s) x + a' (1 - exp(-h)) (m + curve (m - m_before)), m the prediction of x_0, h = l' - l,
curve = h / (2 h_before). From pure noise l and h are infinite: the step becomes x' = s' x + a' m,
exact for constant m, and the following `curve` is 0. Both are first order, but there a / s grows by
O(1/steps) only, so the whole run stays second order. The last step has s' = 0 and gives x' = m.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.diffusion.prediction import conversion
from realisdance_jax.diffusion.schedule import ScheduleConfig, alphas_cumprod
from realisdance_jax.shapes import Array, Float, Int, typechecked


class DpmTable(NamedTuple):
    """Per step: m from (x_t, output), then x' = keep x + pull (m + curve (m - m_before))."""

    x0_x: Float[np.ndarray, "n"]
    x0_out: Float[np.ndarray, "n"]
    keep: Float[np.ndarray, "n"]
    pull: Float[np.ndarray, "n"]
    curve: Float[np.ndarray, "n"]


class DpmState(NamedTuple):
    """The x_0 predicted one step before (zeros at first, where `curve` is 0)."""

    x0: Float[Array, "b ..."]


@typechecked
def log_snr_steps(
    config: ScheduleConfig, timesteps: Int[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """alpha_bar at each timestep and the step h in l = log(a / s) from it to the next, float64.

    The last step ends at zero noise: its h is infinite, as is the first from pure noise.
    """
    alpha_bar = alphas_cumprod(config)[timesteps].astype(np.float64)
    with np.errstate(divide="ignore"):
        half_log_snr = (np.log(alpha_bar) - np.log1p(-alpha_bar)) / 2
    return alpha_bar, np.diff(half_log_snr, append=np.inf)


@typechecked
def step_ratios(h: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """h of a step over h of the step before; 0 for the first and last, which are first order."""
    ratios = np.zeros_like(h)
    ratios[1:-1] = h[1:-1] / h[:-2]
    return ratios


@typechecked
def dpm_table(config: ScheduleConfig, timesteps: Int[np.ndarray, "n"]) -> DpmTable:
    """Per-step float32 coefficients, computed in float64."""
    alpha_bar, h = log_snr_steps(config, timesteps)
    after = np.append(alpha_bar[1:], 1.0)
    to_x0 = conversion(config.prediction, alpha_bar)
    keep = np.sqrt((1 - after) / (1 - alpha_bar))
    pull = -np.sqrt(after) * np.expm1(-h)
    rows = (to_x0.x0_x, to_x0.x0_out, keep, pull, step_ratios(h) / 2)
    return DpmTable(*(np.asarray(row, np.float32) for row in rows))


def dpm_init(x: Float[Array, "b ..."]) -> DpmState:
    """State before the first step, sharded like `x`."""
    return DpmState(jnp.zeros_like(x, jnp.float32))


def dpm_step(
    table: DpmTable,
    i: Int[Array, ""] | int,
    x: Float[Array, "b ..."],
    model_output: Float[Array, "b ..."],
    state: DpmState,
    noise: Float[Array, "b ..."] | None,
) -> tuple[Float[Array, "b ..."], DpmState]:
    """One step in float32; deterministic, `noise` is not looked at."""
    c = jax.tree.map(lambda row: jnp.asarray(row)[i], table)
    x = x.astype(jnp.float32)
    x0 = c.x0_x * x + c.x0_out * model_output.astype(jnp.float32)
    return c.keep * x + c.pull * (x0 + c.curve * (x0 - state.x0)), DpmState(x0)
