"""The training loop. Its order is a contract: step, record, check, log, save, preview, stop."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from realisdance_jax.checkpoints.run import RunCheckpoints
from realisdance_jax.parallel.shard import place_rows
from realisdance_jax.training.recipe import TrainConfig
from realisdance_jax.training.step import Frozen, TrainState
from realisdance_jax.training.writer import RunWriter
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.tree import unflatten

MOST_BAD = 20
"""Updates in a row that may be skipped for a loss or gradient that is not finite."""

INPUTS = (
    *("video", "reference", "encoder_image", "conditions", "tokens"),
    *("latent_mean", "latent_std", "reference_mean", "reference_std"),
)
"""Arrays of a batch that travel to the devices."""

BUCKETS = 4
"""Ranges of diffusion times whose errors are logged apart."""

Preview = Callable[[int, TrainState], None]


@dataclass(frozen=True)
class Meaning:
    """What turns seconds into other units. flops: of one step, peak: FLOP/s of all devices."""

    frames: int
    timesteps: int
    lr: Callable[[int], Any]
    flops: float | None = None
    peak: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How training ended. preempted: before its last step."""

    step: int
    preempted: bool


def saved_form(state: TrainState) -> dict[str, Any]:
    """A state as checkpoints hold it: parameters as trees."""
    trees = {"trainable": unflatten(state.trainable), "ema": unflatten(state.ema)}
    return {**state._asdict(), **trees}


def to_devices(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Global arrays from a host's rows (`host_rows`); what is not for devices stays behind."""
    return {name: place_rows(np.asarray(batch[name]), sharding) for name in INPUTS if name in batch}


def train(
    step_function: Callable,
    state: TrainState,
    frozen: Frozen,
    sharding: NamedSharding,
    batches: Iterator[Mapping[str, np.ndarray]],
    checkpoints: RunCheckpoints,
    facts: Callable[[], Mapping[str, Any]],
    config: TrainConfig,
    writer: RunWriter,
    meaning: Meaning,
    preview: Preview | None = None,
) -> Outcome:
    """Train from `state` until `config.steps`; the last step is always saved.

    `batches` starts at the state's step. `facts` are saved beside the state; asked for at every
    report and save, on all hosts, they may refuse to go on. Raises `UserError` after `MOST_BAD` bad
    updates in a row and when a checkpoint cannot be written.
    """
    step, meter = int(state.step), Meter(config.steps, meaning)
    pending: tuple[int, np.ndarray, dict] | None = None
    started = step
    while step < config.steps:
        waited = time.perf_counter()
        host = next(batches)
        meter.waited(time.perf_counter() - waited)
        if step == started:
            writer.first_batch(host)
        batch = to_devices(host, sharding)
        called = time.perf_counter()
        with jax.transfer_guard("disallow"):
            state, metrics = step_function(state, frozen, batch)
        if step == started:
            first_call = time.perf_counter() - called
            writer.compiled(first_call)
            meter.apart(first_call)
        # The step before is surely done: reading it now never makes the devices wait.
        if pending is not None:
            _record(*pending, writer, meter)
        step += 1
        pending = step, host["draw_hash"], metrics
        preempted = checkpoints.preempted(step)
        last = preempted or step == config.steps
        saves, reports = last or checkpoints.due(step), last or step % config.log_every == 0
        if saves or reports:  # what is saved is never run again: its line comes first
            _record(*pending, writer, meter)
            pending = None
        if reports:
            writer.scalars(step, meter.scalars(step))
            facts()
        if saves:
            checkpoints.save(step, saved_form(state), facts())
        if preempted:
            checkpoints.finish()
            return Outcome(step, step < config.steps)
        if preview is not None and config.preview_every and step % config.preview_every == 0:
            preview(step, state)
            meter.pause()
    checkpoints.finish()
    return Outcome(step, False)


def _record(
    step: int, draw_hash: np.ndarray, metrics: dict, writer: RunWriter, meter: "Meter"
) -> None:
    values = jax.device_get(metrics)
    writer.draws(step, draw_hash, int(values["draws"]))
    meter.add(values)
    if int(values["bad"]) >= MOST_BAD:
        raise UserError(
            f"step {step}: expected finite losses, found {MOST_BAD} updates in a row that were "
            "not; the last checkpoint is from before"
        )


class Meter:
    """Means since the last report, and what they say about speed."""

    def __init__(self, steps: int, meaning: Meaning):
        self.steps, self.meaning = steps, meaning
        self._restart()

    def _restart(self) -> None:
        self._started, self._waiting, self._count = time.perf_counter(), 0.0, 0
        self._values: list[dict] = []

    def pause(self) -> None:
        """Forget the time since the last report: something else than training took it."""
        self._restart()

    def apart(self, seconds: float) -> None:
        """Time since the last report that was not a step's: compiling."""
        self._started += seconds

    def waited(self, seconds: float) -> None:
        """Time spent waiting for a batch."""
        self._waiting += seconds
        self._count += 1

    def add(self, values: dict) -> None:
        """Metrics of one step, on the host."""
        self._values.append(values)

    def scalars(self, step: int) -> dict[str, float]:
        """Means by name since the last call."""
        spent, meaning = time.perf_counter() - self._started, self.meaning
        each = spent / max(1, self._count)
        losses = [float(v["loss"]) for v in self._values if np.isfinite(v["loss"])]
        found = {
            "loss": float(np.mean(losses)) if losses else float("nan"),
            "grad_norm": float(self._values[-1]["grad_norm"]),
            "lr": float(meaning.lr(step)),
            "seconds_per_step": each,
            "frames_per_second": meaning.frames / each,
            "data_wait": self._waiting / spent,
            "eta_seconds": each * (self.steps - step),
            "skipped": float(sum(int(v["bad"]) > 0 for v in self._values)),
        }
        if meaning.flops and meaning.peak:
            found["mfu"] = meaning.flops / each / meaning.peak
        found |= bucket_errors(self._values, meaning.timesteps)
        self._restart()
        return found


def bucket_errors(values: list[dict], timesteps: int) -> dict[str, float]:
    """Mean squared error by range of diffusion times: `mse/t000-249`, ..."""
    t = np.concatenate([np.ravel(v["t"]) for v in values])
    mse = np.concatenate([np.ravel(v["mse"]) for v in values])
    width = timesteps // BUCKETS
    found = {}
    for i in range(BUCKETS):
        last = timesteps - 1 if i == BUCKETS - 1 else (i + 1) * width - 1
        inside = mse[(t >= i * width) & (t <= last)]
        if len(inside):
            found[f"mse/t{i * width:03d}-{last:03d}"] = float(inside.mean())
    return found
