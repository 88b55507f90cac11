"""Command lines that fail in one line with exit code 2."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from realisdance_jax.utils.records import nearest


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Default values, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations; an unknown option is answered with the nearest name."""

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        print(f"error: {self.prog}: {line} (--help lists the options)", file=sys.stderr)
        sys.exit(2)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        args = sys.argv[1:] if args is None else args
        # Before argparse, which would first miss the required option that was misspelt.
        for word in itertools.takewhile(lambda word: word != "--", args):
            self._check_name(word.split("=")[0])
        parsed, extra = self.parse_known_args(args, namespace)
        if extra:
            self.error(f"unexpected argument {extra[0]!r}")
        return parsed

    def _check_name(self, name: str) -> None:
        known = self._option_names()
        if name.startswith("--") and name not in known:
            self.error(f"unknown option {name!r}{nearest(name, known)}")

    def _option_names(self) -> list[str]:
        """Long and short options of this parser and its commands."""
        names = [name for action in self._actions for name in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    names += [n for a in command._actions for n in a.option_strings]
        return names
