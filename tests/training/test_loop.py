"""The order of the training loop, with stand-ins for everything around it."""

from types import SimpleNamespace

import numpy as np
import pytest

from realisdance_jax.training.loop import Meaning, Outcome, train
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
    names = ("draws", "first_batch", "scalars")
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
