"""Which steps leave out what, and that the loop runs just that."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.models.compute import Compute
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling.denoise import denoise_clip
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import ClipState, Guidance
from realisdance_jax.sampling.shortcuts import (
    NONE,
    Shortcuts,
    Step,
    hold_windows,
    plan_steps,
)
from realisdance_jax.sampling.windows import plan_windows
from realisdance_jax.utils.errors import UserError

TIMES = [999, 799, 599, 400, 200, 0]
SIZE = (2, 3, 4)


def marks(shortcuts: Shortcuts, guided: bool = True) -> str:
    """Per step: capital where guided; whole Plain or Keeping, or Reusing."""
    steps = plan_steps(TIMES, 999, guided, shortcuts, 3)
    return "".join(s.mode[0].upper() if s.guided else s.mode[0] for s in steps)


@pytest.mark.parametrize(
    ("shortcuts", "expected"),
    [
        (NONE, "PPPPPP"),
        (Shortcuts((0.5, 1.0)), "PPPppp"),
        (Shortcuts((0.2, 0.7)), "ppPPPp"),
        (Shortcuts((0.0, 0.0)), "pppppP"),
        (Shortcuts(reuse=2), "KRKRKR"),
        (Shortcuts(reuse=4), "KRRRKR"),
        (Shortcuts(reuse=100), "KRRRRR"),
        (Shortcuts((0.2, 0.7), 2), "krKRKk"),
        (Shortcuts((0.5, 1.0), 3), "KRRkrr"),
    ],
)
def test_what_steps_run(shortcuts, expected):
    """Reused features are those of a step with the same branches."""
    assert marks(shortcuts) == expected
    assert marks(shortcuts, guided=False).islower()


def test_layers():
    def layers(wanted: int) -> set[int]:
        steps = plan_steps(TIMES, 999, True, Shortcuts(reuse=2, layers=wanted), 3)
        return {step.layers for step in steps}

    assert (layers(0), layers(1), layers(3)) == ({3}, {1}, {3})
    with pytest.raises(UserError, match=r"reuse layers: expected at most 3 for .* found 4$"):
        layers(4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"interval": (0.5, 0.2)}, "guidance interval: .* found 0.5,0.2$"),
        ({"interval": (-0.1, 1.0)}, "guidance interval: .* found -0.1,1.0$"),
        ({"interval": (0.0, float("nan"))}, "guidance interval: .* found 0.0,nan$"),
        ({"reuse": 0}, "reuse features: expected at least 1, found 0$"),
        ({"layers": -1}, "reuse layers: expected at least 0, found -1$"),
    ],
)
def test_values_out_of_range_are_named(options, expected):
    with pytest.raises(UserError, match=expected):
        Shortcuts(**options)


def test_reusing_steps_have_the_windows_of_the_step_before():
    plan = plan_windows("official", 6, 11, 4, 1, 1)
    steps = plan_steps(TIMES, 999, True, Shortcuts(reuse=3), 3)
    held = hold_windows(plan, steps)
    for i, source in enumerate((0, 0, 0, 3, 3, 3)):
        for name in ("index", "weight", "count"):
            np.testing.assert_array_equal(getattr(held, name)[i], getattr(plan, name)[source])
    assert not (plan.index[0] == plan.index[1]).all()
    unchanged = hold_windows(plan, plan_steps(TIMES, 999, True, NONE, 3))
    np.testing.assert_array_equal(unchanged.index, plan.index)


class Toy:
    """Deep features are the mean over a window's frames; the branches add their context."""

    compute = Compute()

    def __init__(self):
        self.traced = []

    def apply(self, variables, *inputs, method):
        self.traced.append(method)
        if method == "guide":
            return (inputs[0],)
        latents, t, context, (pose,), _ = inputs[:5]
        fresh = 0.1 * latents + context.mean() + 1e-3 * t[:, None, None, None, None]
        if method == "denoise_reusing":
            return fresh + inputs[5]
        deep = jnp.broadcast_to((latents * pose).mean(axis=1, keepdims=True), latents.shape)
        return (fresh + deep, deep) if method == "denoise_keeping" else fresh + deep


def expected(plan, steps, solver, latents: np.ndarray, pose: np.ndarray, scale: float):
    """The toy's run, window by window."""
    state = solver.init(jnp.asarray(latents))
    kept = {}
    for i, (t, step) in enumerate(zip(solver.timesteps, steps, strict=True)):
        total = np.zeros_like(latents)
        for k, (index, weight) in enumerate(zip(plan.index[i], plan.weight[i], strict=True)):
            if step.mode != "reuse":
                kept[k] = (latents[index] * pose[index]).mean(0)
            one, none = (0.1 * latents[index] + c + 1e-3 * float(t) + kept[k] for c in (2.0, -1.0))
            guided = none + scale * (one - none) if step.guided else one
            for frame, part, value in zip(index, weight, guided, strict=True):
                total[frame] += part * value
        output = jnp.asarray(total / plan.count[i][:, None, None, None], jnp.float32)
        moved, state = solver.step(solver.table, i, jnp.asarray(latents), output, state, None)
        latents = np.asarray(moved)
    return latents


@pytest.mark.parametrize(
    ("shortcuts", "devices", "name"),
    [(Shortcuts((0.4, 1.0)), 1, "unipc"), (Shortcuts((0.4, 1.0), 2), 2, "ddim")],
)
def test_the_loop_runs_what_is_planned(shortcuts, devices, name):
    """Over several windows, which move; one program for each sort of step."""
    random = np.random.default_rng(0)
    latents = random.standard_normal((11, *SIZE)).astype(np.float32)
    pose = random.standard_normal((11, *SIZE)).astype(np.float32)
    solver = make_solver(name, ScheduleConfig(), 6)
    steps = plan_steps(solver.timesteps, 999, True, shortcuts, 3)
    plan = hold_windows(plan_windows("official", 6, 11, 4, 1, 1, 2), steps)
    model: Any = Toy()
    none: Any = SimpleNamespace()
    mesh = make_mesh({"data": -1}, jax.devices()[:devices])
    run = Pipeline(none, model, {}, none, {}, none, {}, mesh)
    seen, unseen = run.everywhere((jnp.full((1, 2, 5), 2.0), jnp.full((1, 2, 5), -1.0)))
    clip = ClipState(seen, unseen, {}, pose)
    guidance, key = Guidance(1.5), jax.random.key(0)
    rest = (clip, latents, plan, solver, guidance, 2, key)
    ours, timing = denoise_clip(run, *rest, steps=steps)
    np.testing.assert_allclose(
        ours, expected(plan, steps, solver, latents, pose, 1.5), atol=2e-5, rtol=2e-5
    )
    assert len(timing.step_seconds) == 6
    sorts = set(steps)
    branches = sum(1 + step.guided for step in sorts)
    assert len([method for method in model.traced if method != "guide"]) == branches
    whole = denoise_clip(run, *rest)[0]
    assert np.abs(np.asarray(whole) - np.asarray(ours)).max() > 1e-3


def test_without_guidance_there_is_one_branch():
    assert Guidance(2.0, 0.5).at(Step(True)) == Guidance(2.0, 0.5)
    assert Guidance(2.0, 0.5).at(Step(False)) == Guidance(1.0)
