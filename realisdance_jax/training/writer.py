"""What a run shows: a console line, TensorBoard files, first pictures, a record of its draws."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.summary import scalar

from realisdance_jax.data.images import contact_sheet, save_png
from realisdance_jax.utils.errors import UserError

LOGS, DRAWS, FIRST_BATCH = "logs", "draws.tsv", "first_batch.png"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def console_line(step: int, steps: int, scalars: Mapping[str, float]) -> str:
    """`step 50/1000  loss 0.1234  grad 0.560  0.80 s/step  wait 1 %  to go 0:12:40`."""
    return (
        f"step {step}/{steps}  loss {scalars['loss']:.4f}  grad {scalars['grad_norm']:.3f}  "
        f"{scalars['seconds_per_step']:.2f} s/step  wait {100 * scalars['data_wait']:.0f} %  "
        f"to go {clock(scalars['eta_seconds'])}"
    )


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write it ({error.strerror})") from None


class RunWriter:
    """Writes on the first host only; on the others every call does nothing.

    Raises `UserError` when the run's folder cannot be written, or the disk is full.
    """

    def __init__(self, run: Path, steps: int, active: bool = True):
        self.run, self.steps, self.active = run, steps, active
        if active:
            with _writable(run):
                (run / LOGS).mkdir(parents=True, exist_ok=True)
                # `SummaryWriter` hands events to a thread, which a full disk ends without a word.
                self._board = EventsWriter(str(run / LOGS / "events"))
                self._draws = (run / DRAWS).open("a", encoding="ascii", buffering=1)

    def compiled(self, seconds: float) -> None:
        """A console line: how long the first call of the step took."""
        if self.active:
            print(f"compiled in {seconds:.1f} s", flush=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One console line, and each value by name."""
        if not self.active:
            return
        print(console_line(step, self.steps, values), flush=True)
        with _writable(self.run / LOGS):
            for name, value in values.items():
                event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                self._board.write_event(event)
            self._board.flush()

    def draws(self, step: int, host: np.ndarray, device: int) -> None:
        """A line: step, hash of what the loader drew (clips, frames, crops), of what the step drew.

        A replayed step writes its line again; equal lines are the proof of an exact resume.
        """
        if self.active:
            loader = "".join(f"{int(value) & (2**64 - 1):016x}" for value in host)
            with _writable(self.run / DRAWS):
                self._draws.write(f"{step}\t{loader}\t{device:08x}\n")

    def first_batch(self, batch: Mapping[str, np.ndarray], rows: int = 4) -> None:
        """The first pictures that the networks see: `first_batch.png`, one example per row."""
        if self.active:
            with _writable(self.run / FIRST_BATCH):
                save_png(self.run / FIRST_BATCH, batch_sheet(batch, rows))

    def close(self) -> None:
        """Finish the files."""
        if self.active:
            with _writable(self.run / LOGS):
                self._board.close()
            with _writable(self.run / DRAWS):
                self._draws.close()

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Closes; an error that is on its way is not replaced by another one."""
        with suppress(UserError) if kind else nullcontext():
            self.close()


def batch_sheet(batch: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """Pictures of up to `rows` examples: reference and frame if there are any, then conditions."""
    conditions = batch["conditions"]
    count = conditions.shape[-1] // 3
    labels = [f"condition {i + 1}" for i in range(count)]
    if "video" in batch:
        labels = ["reference", "first frame", *labels]
    sheet = []
    for i in range(min(rows, len(conditions))):
        first = conditions[i, 0]
        scale = 1 if first.dtype == np.uint8 else 255
        row = [
            (first[..., 3 * k : 3 * k + 3] * scale).round().astype(np.uint8) for k in range(count)
        ]
        if "video" in batch:
            signed = (batch["reference"][i], batch["video"][i, 0])
            row = [((x + 1) * 127.5).round().clip(0, 255).astype(np.uint8) for x in signed] + row
        sheet.append(row)
    return contact_sheet(sheet, labels)
