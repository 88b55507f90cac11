"""Sampling runs with a made-up network, shared by the frozen and the live comparison."""

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.diffusion.solvers import make_solver

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Case:
    solver: str
    steps: int
    spacing: str = "linspace"
    prediction: str = "v_prediction"
    zero_snr: bool = False
    eta: float = 0.0
    beta_schedule: str = "scaled_linear"

    @property
    def name(self) -> str:
        snr = "zero" if self.zero_snr else "plain"
        parts = (self.spacing, self.prediction, snr, self.beta_schedule, self.eta)
        return "/".join(map(str, (self.solver, self.steps, *parts)))

    @property
    def config(self) -> ScheduleConfig:
        return ScheduleConfig(
            beta_schedule=self.beta_schedule, prediction=self.prediction, zero_snr=self.zero_snr
        )


CASES = (
    *(Case(solver, n) for solver in ("dpm++", "unipc") for n in (1, 2, 3, 10, 50)),
    *(Case(solver, 8, "leading", "epsilon") for solver in ("dpm++", "unipc")),
    *(Case(solver, 12, "trailing", "sample") for solver in ("dpm++", "unipc")),
    *(Case(solver, 9, beta_schedule="linear") for solver in ("dpm++", "unipc")),
    Case("ddim", 10, zero_snr=True),
    Case("ddim", 7, zero_snr=True, eta=0.6),
    Case("ddim", 5, "trailing", zero_snr=True, eta=1.0),
    Case("ddim", 8, "leading", "epsilon", eta=0.3),
    Case("ddim", 6, "leading", "sample", beta_schedule="squaredcos_cap_v2"),
)


def network(x: np.ndarray, t: int) -> np.ndarray:
    """A smooth, bounded stand-in for the denoiser."""
    return (0.7 * np.sin(1.3 * x + 0.004 * t) - 0.2 * x).astype(np.float32)


def noises(steps: int) -> np.ndarray:
    """Initial x, then the fresh noise of every step: (steps + 1, 2, 3, 4)."""
    return np.random.default_rng(7).standard_normal((steps + 1, 2, 3, 4)).astype(np.float32)


def run(case: Case) -> np.ndarray:
    """x after every step of our solver, (steps, 2, 3, 4)."""
    solver = make_solver(case.solver, case.config, case.steps, case.spacing, case.eta)
    draws = noises(case.steps)
    x, trace = jnp.asarray(draws[0]), []
    state = solver.init(x)
    for i, t in enumerate(solver.timesteps):
        out = jnp.asarray(network(np.asarray(x), int(t)))
        noise = jnp.asarray(draws[i + 1]) if solver.stochastic else None
        x, state = solver.step(solver.table, i, x, out, state, noise)
        trace.append(np.asarray(x))
    return np.stack(trace)
