"""What steps may leave out at the price of an error; by default they leave out nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from realisdance_jax.sampling.windows import WindowPlan
from realisdance_jax.utils.errors import UserError


@dataclass(frozen=True)
class Shortcuts:
    """Approximations of the denoising loop.

    interval: between which diffusion times there is guidance, as shares of the schedule: 0 is next
    to no noise, 1 pure noise (Kynkäänniemi et al. 2024). Outside it only the conditional branch is
    run.
    reuse: the whole main UNet runs every so many steps. In between only its outermost layers do,
    with the deep features of the last whole step (Ma et al. 2023, DeepCache). 1 is at every step.
    layers: how many of the outermost level's layers on the way up are run then; 0 is all of them.
    Raises `UserError` on a value out of range.
    """

    interval: tuple[float, float] = (0.0, 1.0)
    reuse: int = 1
    layers: int = 0

    def __post_init__(self):
        if len(self.interval) != 2 or not 0 <= self.interval[0] <= self.interval[1] <= 1:
            found = ",".join(map(str, self.interval))
            raise UserError(
                f"guidance interval: expected LO,HI with 0 <= LO <= HI <= 1, found {found}"
            )
        for name, least in (("reuse", 1), ("layers", 0)):
            if getattr(self, name) < least:
                what = {"reuse": "reuse features", "layers": "reuse layers"}[name]
                raise UserError(f"{what}: expected at least {least}, found {getattr(self, name)}")


NONE = Shortcuts()
"""Exact."""


class Step(NamedTuple):
    """What one denoising step runs.

    guided: both branches, else the conditional one. mode: the whole UNet, the whole UNet keeping
    its deep features, or its outermost `layers` layers reusing these.
    """

    guided: bool
    mode: Literal["plain", "keep", "reuse"] = "plain"
    layers: int = 0


def plan_steps(
    timesteps: Sequence[int] | np.ndarray, last: int, guided: bool, shortcuts: Shortcuts, outer: int
) -> tuple[Step, ...]:
    """What each step runs, at these diffusion times of 0..`last`.

    guided: whether there is guidance at all. outer: layers of the outermost level on the way up.
    Features of one branch cannot stand for two: where guidance begins or ends, a step is whole.
    Raises `UserError` when more layers are wanted than there are.
    """
    if shortcuts.layers > outer:
        found = shortcuts.layers
        raise UserError(f"reuse layers: expected at most {outer} for these weights, found {found}")
    low, high = shortcuts.interval
    layers, age = shortcuts.layers or outer, 0
    steps: list[Step] = []
    for t in timesteps:
        now = guided and low <= t / last <= high
        if shortcuts.reuse == 1:
            steps.append(Step(now))
            continue
        age = age + 1 if steps and steps[-1].guided == now else 0
        age %= shortcuts.reuse
        steps.append(Step(now, "reuse" if age else "keep", layers))
    return tuple(steps)


def hold_windows(plan: WindowPlan, steps: Sequence[Step]) -> WindowPlan:
    """`plan`, where steps that reuse features have the windows that these were made for."""
    source = list(range(len(steps)))
    for i, step in enumerate(steps):
        if step.mode == "reuse":
            source[i] = source[i - 1]
    return WindowPlan(plan.index[source], plan.weight[source], plan.count[source])
