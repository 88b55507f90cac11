"""Command lines that fail in one line with exit code 2."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from realisdance_jax.utils.records import nearest


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations; an unknown option is answered with the nearest name."""

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        print(f"error: {self.prog}: {message} (--help lists the options)", file=sys.stderr)
        sys.exit(2)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        parsed, extra = self.parse_known_args(args, namespace)
        if extra:
            self.error(f"unknown option {extra[0]!r}{nearest(extra[0], self._option_names())}")
        return parsed

    def _option_names(self) -> list[str]:
        """Long and short options of this parser and its commands."""
        names = [name for action in self._actions for name in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    names += [n for a in command._actions for n in a.option_strings]
        return names
