"""Programs called in this process, as from a shell."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from realisdance_jax.utils.errors import exit_on_user_error


class Run(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line of a command that refused its input."""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert len(lines) == 1, self
        assert lines[0].startswith("error: ")
        return lines[0]


def run_program(main: Callable[[], None], words: tuple, monkeypatch: Any, capfd: Any) -> Run:
    """`main` with these words on its command line."""
    monkeypatch.setattr(sys, "argv", [main.__module__, *map(str, words)])
    capfd.readouterr()
    try:
        exit_on_user_error(main)
        code = 0
    except SystemExit as ended:
        code = ended.code
    return Run(code, *capfd.readouterr())
