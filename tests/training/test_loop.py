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


def run(preempted_at: int | None, log_every: int = 1, due: int = 0) -> tuple[Outcome, list[str]]:
    """How it ended, and what was recorded and saved in which order."""
    written: list[str] = []
    checkpoints = SimpleNamespace(
        preempted=lambda step: step == preempted_at,
        due=lambda step: step == due,
        save=lambda step, state, facts: written.append(f"save {step}"),
        finish=lambda: None,
    )
    names = ("first_batch", "compiled", "scalars")
    writer = SimpleNamespace(**{name: lambda *args: None for name in names})
    writer.draws = lambda step, *_: written.append(f"draws {step}")
    config = SimpleNamespace(steps=LAST, log_every=log_every, preview_every=0)

    def step(state: TrainState, frozen: Frozen, batch: dict) -> tuple[TrainState, dict]:
        return state._replace(step=state.step + 1), METRICS

    batches = iter(lambda: {"draw_hash": np.zeros(1, int)}, None)
    state = TrainState(0, {}, (), {}, 0)
    meaning = Meaning(1, 1000, lambda step: 0.0)
    frozen = Frozen({}, {}, {})
    rest = (checkpoints, dict, config, writer, meaning)
    return train(step, state, frozen, None, batches, *rest), written


@pytest.mark.parametrize(
    ("at", "expected"),
    [(None, Outcome(LAST, False)), (2, Outcome(2, True)), (LAST, Outcome(LAST, False))],
)
def test_how_it_ends(at, expected):
    """A signal in the last step has nothing left to preempt: nothing is to be requeued."""
    outcome, written = run(at)
    assert outcome == expected
    assert [line for line in written if "save" in line] == [f"save {expected.step}"]


def test_what_is_saved_was_recorded():
    """A step that is saved is never run again: a line that is missing then is missing for ever."""
    record = ["draws 1", "draws 2", "save 2"]
    assert run(2, log_every=9)[1] == record
    assert run(None, log_every=9, due=2)[1] == [*record, "draws 3", "save 3"]


def test_compiling_is_no_step(monkeypatch):
    """Neither the speed nor the time to go is of the first call."""
    ticks = iter((0.0, 35.0, 35.0))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(ticks))
    meaning = Meaning(frames=10, timesteps=1000, lr=lambda step: 0.0, flops=100.0, peak=40.0)
    meter = Meter(LAST, meaning)
    meter.waited(1.0)
    meter.apart(30.0)
    meter.add(METRICS)
    found = meter.scalars(1)
    assert (found["seconds_per_step"], found["eta_seconds"]) == (5.0, 10.0)
    assert (found["frames_per_second"], found["data_wait"]) == (2.0, 0.2)
    assert (found["mfu"], found["mse/t000-249"]) == (0.5, 1.0)
