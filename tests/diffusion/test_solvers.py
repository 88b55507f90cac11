"""Solvers: frozen runs of other implementations, an exactly solvable case, and the zero-SNR end.

golden/solvers.npz holds diffusers' trajectories (see tests/cross/test_solvers.py).
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.diffusion.ddim import previous_timesteps
from realisdance_jax.diffusion.dpm_solver import dpm_init, dpm_step, dpm_table
from realisdance_jax.diffusion.schedule import ScheduleConfig, alphas_cumprod, timesteps
from realisdance_jax.diffusion.solvers import SOLVERS, make_solver
from realisdance_jax.diffusion.unipc import unipc_init, unipc_step, unipc_table
from realisdance_jax.utils.errors import UserError
from tests.diffusion.solver_cases import CASES, GOLDEN, noises, run

MEAN, SPREAD = 0.3, 0.5  # of the Gaussian data in the exactly solvable case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_trajectories_of_diffusers(case):
    with np.load(GOLDEN / "solvers.npz") as official:
        np.testing.assert_allclose(run(case), official[case.name], rtol=2e-5, atol=2e-5)


def test_official_ddim_steps():
    with np.load(GOLDEN / "schedule.npz") as official:
        solver = make_solver("ddim", ScheduleConfig(), 10)
        goes_to = previous_timesteps(ScheduleConfig(), solver.timesteps)
        np.testing.assert_array_equal(goes_to, official["ddim10_prev_timestep"])
        for i in range(10):
            x, v = (jnp.asarray(official[f"ddim10_{name}"][i]) for name in ("x", "v"))
            ours, _ = solver.step(solver.table, i, x, v, solver.init(x), None)
            np.testing.assert_allclose(ours, official["ddim10_prev_sample"][i], atol=1e-6)


def gaussian_velocity(x: np.ndarray, alpha_bar: float) -> np.ndarray:
    """The best possible v prediction for data distributed as N(MEAN, SPREAD^2)."""
    signal, noise = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    standard = (x - signal * MEAN) / (alpha_bar * SPREAD**2 + 1 - alpha_bar)
    return signal * noise * standard - noise * (MEAN + signal * SPREAD**2 * standard)


def gaussian_flow(z: np.ndarray, alpha_bar: float) -> np.ndarray:
    """Where the probability flow carries the point that is z at pure noise."""
    return np.sqrt(alpha_bar) * MEAN + np.sqrt(alpha_bar * SPREAD**2 + 1 - alpha_bar) * z


def flow_error(steps: int, table, init, step) -> float:
    """Error at timestep 359 after `steps` equal steps from pure noise, timestep 999."""
    config = ScheduleConfig()
    chosen = (999 - np.arange(steps + 1) * (640 // steps)).astype(np.int32)
    alpha_bar = alphas_cumprod(config)[chosen].astype(np.float64)
    assert alpha_bar[0] == 0
    coefficients = table(config, chosen)
    z = np.linspace(-2, 2, 9)[None]
    x = jnp.asarray(z, jnp.float32)
    state = init(x)
    for i in range(steps):
        v = jnp.asarray(gaussian_velocity(np.asarray(x, np.float64), alpha_bar[i]), jnp.float32)
        x, state = step(coefficients, i, x, v, state, None)
    return float(np.abs(x - gaussian_flow(z, alpha_bar[-1])).max())


@pytest.mark.parametrize(
    ("parts", "factor", "bound"),
    [
        ((dpm_table, dpm_init, dpm_step), 3.4, 5e-4),  # second order: 4
        ((unipc_table, unipc_init, unipc_step), 6.8, 2e-5),  # third, by the corrector: 8
    ],
    ids=["dpm++", "unipc"],
)
def test_order_from_pure_noise(parts, factor, bound):
    errors = [flow_error(steps, *parts) for steps in (5, 10, 20, 40)]
    assert errors[-1] < bound
    for coarse, fine in pairwise(errors):
        assert coarse / fine > factor


def sample_gaussian(name: str, steps: int, spacing: str) -> float:
    """Error of a whole run against the exact flow to where the solver ends."""
    config = ScheduleConfig()
    alpha_bar = alphas_cumprod(config).astype(np.float64)
    solver = make_solver(name, config, steps, spacing)
    z = np.linspace(-2, 2, 9)[None]
    x = jnp.asarray(gaussian_flow(z, alpha_bar[solver.timesteps[0]]), jnp.float32)
    state = solver.init(x)
    for i, t in enumerate(solver.timesteps):
        v = jnp.asarray(gaussian_velocity(np.asarray(x, np.float64), alpha_bar[t]), jnp.float32)
        x, state = solver.step(solver.table, i, x, v, state, None)
    end = alpha_bar[0] if name == "ddim" else 1.0
    return float(np.abs(x - gaussian_flow(z, end)).max())


@pytest.mark.parametrize("name", SOLVERS)
def test_whole_runs_converge(name):
    coarse, fine = (sample_gaussian(name, steps, "leading") for steps in (25, 200))
    assert fine < coarse / 6
    assert fine < 0.02


def test_first_step_from_pure_noise_is_the_first_order_limit():
    config = ScheduleConfig()
    alpha_bar = alphas_cumprod(config)[timesteps(config, 10)[1]]
    x, v = jnp.asarray(noises(1))
    for name in ("dpm++", "unipc"):
        solver = make_solver(name, config, 10)
        after, _ = solver.step(solver.table, 0, x, v, solver.init(x), None)
        np.testing.assert_allclose(
            after, np.sqrt(1 - alpha_bar) * x - np.sqrt(alpha_bar) * v, atol=1e-6
        )


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 3, 999])
def test_tables_are_finite_at_zero_snr(name, spacing, steps):
    for prediction in ("v_prediction", "sample"):
        solver = make_solver(name, ScheduleConfig(prediction=prediction), steps, spacing)
        for row in jax.tree.leaves(solver.table):
            assert row.shape == (steps,)
            assert row.dtype == np.float32
            assert np.isfinite(row).all()


@pytest.mark.parametrize(("name", "eta"), [("ddim", 0.5), ("dpm++", 0.0), ("unipc", 0.0)])
def test_scan_with_traced_step_equals_the_loop(name, eta):
    steps = 6
    solver = make_solver(name, ScheduleConfig(), steps, eta=eta)
    draws = jnp.asarray(noises(steps))

    def body(carry, i, noise):
        x, state = carry
        return solver.step(solver.table, i, x, jnp.sin(x), state, noise)

    def scanned(x):
        def tick(carry, inputs):
            return body(carry, *inputs), None

        return jax.lax.scan(tick, (x, solver.init(x)), (jnp.arange(steps), draws[1:]))[0][0]

    carry = (draws[0], solver.init(draws[0]))
    for i in range(steps):
        carry = body(carry, i, draws[i + 1])
    np.testing.assert_allclose(jax.jit(scanned)(draws[0]), carry[0], atol=1e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_one_compiled_step_serves_all_steps_and_may_reuse_its_buffers(name):
    solver = make_solver(name, ScheduleConfig(), 4)
    traces = []

    def step(table, i, x, out, state):
        traces.append(i)
        return solver.step(table, i, x, out, state, None)

    compiled = jax.jit(step, donate_argnums=(2, 4))
    x = jnp.asarray(noises(1)[0])
    state = solver.init(x)
    for i in range(4):
        x, state = compiled(solver.table, jnp.int32(i), x, jnp.sin(x), state)
    assert len(traces) == 1
    assert np.isfinite(x).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_state_is_sharded_like_x(name):
    mesh = jax.make_mesh((2,), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x = jax.device_put(noises(1)[0], sharding)
    state = make_solver(name, ScheduleConfig(), 4).init(x)
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", SOLVERS)
def test_half_precision_outputs_leave_x_in_float32(name):
    solver = make_solver(name, ScheduleConfig(), 4)
    x = jnp.asarray(noises(1)[0])
    after, state = solver.step(solver.table, 0, x, x.astype(jnp.bfloat16), solver.init(x), None)
    assert {leaf.dtype for leaf in jax.tree.leaves((after, state))} == {jnp.dtype("float32")}


def test_fresh_noise_is_asked_for_only_with_eta():
    assert make_solver("ddim", ScheduleConfig(), 4, eta=0.1).stochastic
    assert not any(make_solver(name, ScheduleConfig(), 4).stochastic for name in SOLVERS)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("euler", {}, "solver: expected one of ddim, dpm\\+\\+, unipc; found 'euler'"),
        ("ddim", {"eta": 1.5}, "eta: expected 0..1"),
        ("unipc", {"eta": 0.5}, "and 0 for the others, found 0.5 for unipc"),
        ("ddim", {"steps": 0}, "steps: expected 1..1000, found 0"),
        ("ddim", {"config": ScheduleConfig(prediction="epsilon")}, "timestep 999"),
    ],
)
def test_bad_requests(name, settings, message):
    with pytest.raises(UserError, match=message):
        make_solver(name, **{"config": ScheduleConfig(), "steps": 4, **settings})
