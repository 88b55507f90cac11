"""What training runs logged: scalars of TensorBoard files and of `curve.tsv`, by name and step."""

import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event

from realisdance_jax.training.writer import LOGS
from realisdance_jax.utils.errors import UserError

Scalars = dict[str, dict[int, float]]
"""name -> step -> value, steps ascending."""


def read_run(run: Path) -> Scalars:
    """Scalars of a training run; where it was resumed from an older step, the later call counts.

    A run that has just begun has none. Raises `UserError` for a file that is something else.
    """
    found: Scalars = {}
    # A file per call; their names hold the time.
    for path in sorted((run / LOGS).glob("events.out.tfevents.*")):
        this: Scalars = {}
        for event in _events(path):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    this.setdefault(value.tag, {})[event.step] = value.simple_value
        for name, points in this.items():
            before = found.get(name, {})
            kept = {step: x for step, x in before.items() if step < min(points)}
            found[name] = kept | dict(sorted(points.items()))
    return found


def _events(path: Path) -> Iterator[Event]:
    """Records of a file; one that was cut off by a kill ends it."""
    data, at = path.read_bytes(), 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        record = data[at + 12 : at + 12 + length]
        if len(record) < length:
            return
        at += 16 + length
        try:
            yield Event.FromString(record)
        except DecodeError:
            raise UserError(f"{path}: expected a TensorBoard file, found other bytes") from None


def read_table(path: Path) -> Scalars:
    """Columns of a `curve.tsv` by name; of a step that comes twice the later row counts.

    Raises `UserError` for anything else.
    """
    try:
        head, *lines = path.read_text("utf-8").splitlines()
        names = head.split("\t")
        rows = [[float(cell) for cell in line.split("\t")] for line in lines]
        if names[0] != "step" or any(len(row) != len(names) for row in rows) or not rows:
            raise ValueError("other columns")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path}: expected a table of losses by step, found {reason}") from None
    columns = zip(*rows, strict=True)
    steps = [int(step) for step in next(columns)]
    return {
        name: dict(sorted(dict(zip(steps, column, strict=True)).items()))
        for name, column in zip(names[1:], columns, strict=True)
    }
