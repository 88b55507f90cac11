"""The training loop. Its order is a contract: step, log, save, stop or go on to the next batch."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from realisdance_jax.checkpoints.run import RunCheckpoints
from realisdance_jax.training.setup import Run
from realisdance_jax.training.step import TrainState
from realisdance_jax.utils.errors import UserError

MOST_BAD = 20
"""Updates in a row that may be skipped for a loss or gradient that is not finite."""


INPUTS = (
    *("video", "reference", "encoder_image", "conditions", "tokens"),
    *("latent_mean", "latent_std", "reference_mean", "reference_std"),
)
"""Arrays of a batch that travel to the devices."""


class Writer(Protocol):
    """Receives scalars by name at a step."""

    def __call__(self, step: int, scalars: Mapping[str, float]) -> None: ...


@dataclass(frozen=True)
class LoopConfig:
    """When to stop and to log; saving is the checkpoints' own business."""

    steps: int
    log_every: int


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    step: int
    preempted: bool


def to_devices(batch: Mapping[str, np.ndarray], run: Run) -> dict[str, jax.Array]:
    """A host's share of the global batch as arrays sharded over examples."""
    arrays = {}
    for name, value in batch.items():
        sharding = run.batch_sharding
        arrays[name] = jax.make_array_from_process_local_data(sharding, np.asarray(value))
    return arrays


def train(
    run: Run,
    batches: Iterator[Mapping[str, np.ndarray]],
    checkpoints: RunCheckpoints,
    facts: Callable[[], Mapping[str, Any]],
    config: LoopConfig,
    write: Writer,
    constants: Mapping[str, jax.Array] | None = None,
) -> Outcome:
    """Train from `run.state` until `config.steps`; the last step is always saved.

    `batches` starts at the state's step. Raises `UserError` after `MOST_BAD` bad updates in a row
    and when a checkpoint cannot be written.
    """
    state: TrainState = run.state
    step, meter = int(state.step), _Meter(config.steps)
    while step < config.steps:
        waited = time.perf_counter()
        batch = {**to_devices(_inputs(next(batches)), run), **(constants or {})}
        meter.waited(time.perf_counter() - waited)
        state, metrics = run.step(state, run.frozen, batch)
        step += 1
        if step % config.log_every == 0 or step == config.steps:
            scalars = {name: float(metrics[name]) for name in ("loss", "grad_norm")}
            write(step, scalars | meter.rates(step))
            if int(metrics["bad"]) >= MOST_BAD:
                raise UserError(
                    f"step {step}: expected finite losses, found {MOST_BAD} updates in a row "
                    "that were not; the last checkpoint is from before"
                )
        preempted = checkpoints.preempted(step)
        if preempted or step == config.steps or checkpoints.due(step):
            checkpoints.save(step, state._asdict(), facts(), force=preempted)
        if preempted:
            checkpoints.finish()
            return Outcome(step, True)
    checkpoints.finish()
    return Outcome(step, False)


def _inputs(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the step reads; ids, hashes and failures stay on the host."""
    return {name: batch[name] for name in INPUTS if name in batch}


class _Meter:
    """Seconds per step and their share spent waiting for data."""

    def __init__(self, steps: int):
        self.steps, self.started, self.waiting, self.count = steps, time.perf_counter(), 0.0, 0

    def waited(self, seconds: float) -> None:
        self.waiting += seconds
        self.count += 1

    def rates(self, step: int) -> dict[str, float]:
        """Since the last call: seconds per step, share of data wait, seconds to go."""
        spent = time.perf_counter() - self.started
        each = spent / self.count
        rates = {
            "seconds_per_step": each,
            "data_wait": self.waiting / spent,
            "eta_seconds": each * (self.steps - step),
        }
        self.started, self.waiting, self.count = time.perf_counter(), 0.0, 0
        return rates
