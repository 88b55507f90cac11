"""The order of the training loop, with stand-ins for everything around it."""

from types import SimpleNamespace

import numpy as np
import pytest

from realisdance_jax.training import loop
from realisdance_jax.training.loop import Meaning, Meter, Outcome, train
from realisdance_jax.training.step import Frozen, TrainState

LAST = 3
METRICS = {
    **{"loss": 1.0, "grad_norm": 1.0, "bad": 0, "draws": 0},
    **{"t": np.zeros(1, int), "mse": np.ones(1)},
}


def run(preempted_at: int | None) -> tuple[Outcome, list[int]]:
    """How it ended and which steps were saved."""
    saved: list[int] = []
    checkpoints = SimpleNamespace(
        preempted=lambda step: step == preempted_at,
        due=lambda step: False,
        save=lambda step, state, facts: saved.append(step),
        finish=lambda: None,
    )
    names = ("draws", "first_batch", "compiled", "scalars")
    writer = SimpleNamespace(**{name: lambda *args: None for name in names})
    config = SimpleNamespace(steps=LAST, log_every=1, preview_every=0)

    def step(state: TrainState, frozen: Frozen, batch: dict) -> tuple[TrainState, dict]:
        return state._replace(step=state.step + 1), METRICS

    batches = iter(lambda: {"draw_hash": np.zeros(1, int)}, None)
    state = TrainState(0, {}, (), {}, 0)
    meaning = Meaning(1, 1000, lambda step: 0.0)
    frozen = Frozen({}, {}, {})
    rest = (checkpoints, dict, config, writer, meaning)
    return train(step, state, frozen, None, batches, *rest), saved


@pytest.mark.parametrize(
    ("at", "expected"),
    [(None, Outcome(LAST, False)), (2, Outcome(2, True)), (LAST, Outcome(LAST, False))],
)
def test_how_it_ends(at, expected):
    """A signal in the last step has nothing left to preempt: nothing is to be requeued."""
    assert run(at) == (expected, [expected.step])


def test_compiling_is_no_step(monkeypatch):
    """Neither the speed nor the time to go is of the first call."""
    ticks = iter((0.0, 35.0, 35.0))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(ticks))
    meter = Meter(LAST, Meaning(frames=10, timesteps=1000, lr=lambda step: 0.0))
    meter.waited(1.0)
    meter.apart(30.0)
    meter.add(METRICS)
    found = meter.scalars(1)
    assert (found["seconds_per_step"], found["eta_seconds"]) == (5.0, 10.0)
    assert (found["frames_per_second"], found["data_wait"]) == (2.0, 0.2)
