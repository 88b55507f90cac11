"""Rows that are kept while an evaluation goes on, so that a stop costs one clip."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from realisdance_jax.evaluation.measure import Row
from realisdance_jax.utils.files import atomic_output

JOURNAL = "rows.jsonl"


class Journal:
    """OUT/rows.jsonl: settings, then one row per line; of other settings it begins anew.

    Raises `UserError` where it cannot be written.
    """

    def __init__(self, out: Path, settings: Any):
        self._path = out / JOURNAL
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
