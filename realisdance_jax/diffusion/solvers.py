"""The samplers behind one interface: tables made on the host, a pure step for jit or `lax.scan`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from realisdance_jax.diffusion.ddim import ddim_init, ddim_step, ddim_table
from realisdance_jax.diffusion.dpm_solver import dpm_init, dpm_step, dpm_table
from realisdance_jax.diffusion.schedule import (
    ScheduleConfig,
    alphas_cumprod,
    require_choice,
    timesteps,
)
from realisdance_jax.diffusion.unipc import unipc_init, unipc_step, unipc_table
from realisdance_jax.shapes import Int
from realisdance_jax.utils.errors import UserError

SOLVERS = ("ddim", "dpm++", "unipc")


@dataclass(frozen=True, eq=False)
class Solver:
    """A sampler for a given number of steps; start from x of unit variance, nothing is clipped.

    timesteps: what to tell the network at each step, decreasing.
    table: pytree of float32 coefficients per step; pass it to a jitted step as an argument.
    init(x) -> state: pytree of arrays of fixed shape.
    step(table, i, x, model_output, state, noise) -> (x, state): `i` may be traced; `noise` is
        standard normal like x where `stochastic`, else None; results are float32.
    """

    name: str
    timesteps: Int[np.ndarray, "n"]
    table: Any
    init: Callable[..., Any]
    step: Callable[..., Any]
    stochastic: bool = False


def make_solver(
    name: str,
    config: ScheduleConfig,
    steps: int,
    spacing: str = "linspace",
    eta: float = 0.0,
) -> Solver:
    """The solver `name`, one of `SOLVERS`, for `steps` steps; the release uses ddim, 50, eta 0.

    Raises `UserError` on an unknown name, steps out of range, eta outside 0..1 or with a solver
    other than ddim, and on a noise prediction asked for at a timestep of zero signal.
    """
    require_choice("solver", name, SOLVERS)
    if not 0 <= eta <= 1 or (eta and name != "ddim"):
        raise UserError(f"eta: expected 0..1 for ddim and 0 for the others, found {eta} for {name}")
    chosen = timesteps(config, steps, spacing)
    if config.prediction == "epsilon" and alphas_cumprod(config)[chosen[0]] == 0:
        raise UserError(
            f"prediction: epsilon says nothing at timestep {chosen[0]}, which is pure noise; "
            "expected v_prediction or sample, spacing leading, or zero_snr off"
        )
    make = partial(Solver, name, chosen)
    if name == "ddim":
        return make(ddim_table(config, chosen, float(eta)), ddim_init, ddim_step, eta > 0)
    if name == "dpm++":
        return make(dpm_table(config, chosen), dpm_init, dpm_step)
    return make(unipc_table(config, chosen), unipc_init, unipc_step)
