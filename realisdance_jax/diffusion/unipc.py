"""UniPC of order 2, B(h) = exp(-h) - 1, on predictions of x_0 (Zhao et al. 2023).

Its predictor is DPM-Solver++ 2M. The corrector redoes the step before once the network has been
asked at the predicted point: x = keep x_before + pull (m_before + curve (m_before - m_older)
+ slope (m - m_before)), at no further network call. The first correction takes the mean of both
predictions; from pure noise that is the trapezoid rule in a / s, exact to second order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.diffusion.dpm_solver import DpmTable, dpm_table, log_snr_steps, step_ratios
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.shapes import Array, Float, Int, typechecked


class UniPCTable(NamedTuple):
    """The predictor's table, and per step the coefficients that correct the step before it."""

    predictor: DpmTable
    keep: Float[np.ndarray, "n"]
    pull: Float[np.ndarray, "n"]
    curve: Float[np.ndarray, "n"]
    slope: Float[np.ndarray, "n"]


class UniPCState(NamedTuple):
    """The corrected x one step before, and the x_0 predicted one and two steps before."""

    x: Float[Array, "b ..."]
    x0: Float[Array, "b ..."]
    x0_older: Float[Array, "b ..."]


@typechecked
def corrector_weights(
    h: Float[np.ndarray, "n"], ratio: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """(curve, slope) for correcting each step of size `h`; `ratio` = h over the step before it.

    Solves rho_1 + rho_2 = b_1, rho_2 - rho_1 / ratio = b_2, written so that
    ratio 0, a step after the one from pure noise, gives its limit: curve 0 and slope b_1.
    """
    inverse = -1 / np.expm1(-h)
    b_1 = inverse - 1 / h
    b_2 = inverse - 2 * b_1 / h
    rho_1 = (b_1 - b_2) * ratio / (1 + ratio)
    curve, slope = rho_1 * ratio, b_1 - rho_1
    slope[:1] = 0.5
    return curve, slope


@typechecked
def unipc_table(config: ScheduleConfig, timesteps: Int[np.ndarray, "n"]) -> UniPCTable:
    """Per-step float32 coefficients, computed in float64."""
    predictor = dpm_table(config, timesteps)
    _, h = log_snr_steps(config, timesteps)
    weights = corrector_weights(h, step_ratios(h))
    shifted = (np.roll(row, 1) for row in (predictor.keep, predictor.pull, *weights))
    return UniPCTable(predictor, *(row.astype(np.float32) for row in shifted))


def unipc_init(x: Float[Array, "b ..."]) -> UniPCState:
    """State before the first step, sharded like `x`; its zeros are never used."""
    return UniPCState(*(jnp.zeros_like(x, jnp.float32) for _ in UniPCState._fields))


def unipc_step(
    table: UniPCTable,
    i: Int[Array, ""] | int,
    x: Float[Array, "b ..."],
    model_output: Float[Array, "b ..."],
    state: UniPCState,
    noise: Float[Array, "b ..."] | None,
) -> tuple[Float[Array, "b ..."], UniPCState]:
    """Correct the step before, then predict; float32, deterministic, `noise` is not looked at."""
    c = jax.tree.map(lambda row: jnp.asarray(row)[i], table)
    p = c.predictor
    x = x.astype(jnp.float32)
    x0 = p.x0_x * x + p.x0_out * model_output.astype(jnp.float32)
    bent = state.x0 + c.curve * (state.x0 - state.x0_older) + c.slope * (x0 - state.x0)
    x = jnp.where(i > 0, c.keep * state.x + c.pull * bent, x)
    predicted = p.keep * x + p.pull * (x0 + p.curve * (x0 - state.x0))
    return predicted, UniPCState(x, x0, state.x0)
