"""Solvers against diffusers' schedulers, run live on the same timesteps and network outputs.

`python -m tests.cross.test_solvers` writes what diffusers computes to tests/golden/solvers.npz,
which tests/diffusion/test_solvers.py reads.
"""

import numpy as np
import pytest

from realisdance_jax.diffusion.schedule import alphas_cumprod, timesteps
from tests.diffusion.solver_cases import CASES, GOLDEN, Case, network, noises, run

pytestmark = pytest.mark.torch


def scheduler(case: Case):
    """The diffusers scheduler of a case, its timesteps set to ours."""
    import torch
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

    config = case.config
    settings = {
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "prediction_type": config.prediction,
    }
    wanted = timesteps(config, case.steps, case.spacing)
    if case.solver == "ddim":
        made = DDIMScheduler(
            **settings,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            timestep_spacing=case.spacing,
            rescale_betas_zero_snr=case.zero_snr,
        )
        made.set_timesteps(case.steps)
        np.testing.assert_array_equal(made.timesteps.numpy(), wanted)
    elif case.solver == "dpm++":
        made = DPMSolverMultistepScheduler(**settings)
        made.set_timesteps(timesteps=wanted.tolist())
    else:
        made = UniPCMultistepScheduler(**settings)
        made.set_timesteps(case.steps)
        alpha_bar = made.alphas_cumprod[torch.from_numpy(wanted).long()]
        sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5
        made.timesteps = torch.from_numpy(wanted.astype(np.int64))
        made.sigmas = torch.cat([sigma, torch.zeros(1)])
    return made


def official(case: Case) -> np.ndarray:
    """x after every step of the diffusers scheduler, (steps, 2, 3, 4)."""
    import torch

    made = scheduler(case)
    draws = noises(case.steps)
    x, trace = torch.from_numpy(draws[0]), []
    for i, t in enumerate(made.timesteps):
        out = torch.from_numpy(network(x.numpy(), int(t)))
        extra = {"eta": case.eta, "variance_noise": torch.from_numpy(draws[i + 1])}
        x = made.step(out, t, x, **(extra if case.eta else {})).prev_sample
        trace.append(x.numpy())
    return np.stack(trace)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_solvers_follow_diffusers(case):
    theirs = official(case)
    np.testing.assert_allclose(run(case), theirs, rtol=2e-5, atol=2e-5)
    with np.load(GOLDEN / "solvers.npz") as frozen:
        np.testing.assert_allclose(frozen[case.name], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "linear", "squaredcos_cap_v2"])
def test_alphas_cumprod_follow_diffusers(beta_schedule, zero_snr):
    case = Case("ddim", 10, zero_snr=zero_snr, beta_schedule=beta_schedule)
    theirs = scheduler(case).alphas_cumprod.numpy()
    ours = alphas_cumprod(case.config)
    np.testing.assert_allclose(np.sqrt(ours), np.sqrt(theirs), rtol=0, atol=3e-7)


if __name__ == "__main__":
    np.savez_compressed(GOLDEN / "solvers.npz", **{case.name: official(case) for case in CASES})
