"""Rows that are kept while an evaluation goes on, so that a stop costs one clip."""

import dataclasses
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from realisdance_jax.evaluation.measure import Row
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

JOURNAL = "rows.jsonl"


class Journal:
    """OUT/rows.jsonl: settings, then one row per line; of other settings it begins anew.

    Raises `UserError` where it cannot be written, and while another process has it.
    """

    def __init__(self, out: Path, settings: Any):
        self._path = out / JOURNAL
        self._lock = _locked(out)
        self._rows: dict[tuple[str, str, int], Row] = {}
        head = json.dumps(settings)
        for line in self._lines_behind(head):
            self._remember(line)
        rows = [json.dumps(dataclasses.asdict(row)) for row in self._rows.values()]
        with atomic_output(self._path) as partial:
            partial.write_text("\n".join([head, *rows]) + "\n", "utf-8")

    def _lines_behind(self, head: str) -> list[str]:
        try:
            first, *lines = self._path.read_text("utf-8", errors="replace").splitlines()
        except (OSError, ValueError):
            return []
        return lines if first == head else []

    def _remember(self, line: str) -> None:
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError):
            return  # what a kill left of the last line
        self._rows[row.model, row.case, row.clip] = row

    def find(self, model: str, case: str, clip: int) -> Row | None:
        """What an earlier call measured."""
        return self._rows.get((model, case, clip))

    def add(self, row: Row) -> None:
        """Remember a row on disk."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(row)) + "\n")

    def remove(self) -> None:
        """At the end, when results hold it all."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        """Others may have the folder."""
        os.close(self._lock)


def _locked(out: Path) -> int:
    """Descriptor of the folder `out`, which locks it until it is closed or the process ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{out}: cannot write there ({error.strerror})") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UserError(f"{out}: expected no other evaluation at work there, found one") from None
    except OSError:
        pass  # a file system without locks
    return lock
