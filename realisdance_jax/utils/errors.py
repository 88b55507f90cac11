"""Errors a user can mend: one line, exit code 2. All else is a bug and keeps its traceback."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import NoReturn

_STOPPING = (signal.SIGTERM, signal.SIGHUP)


class UserError(Exception):
    """Bad input: the message is one line naming the file, what was expected and what was found."""


class _Signalled(KeyboardInterrupt):
    """A signal that asks the process to end; passes where Ctrl-C does."""


def exit_on_user_error(main: Callable[[], None], *, stop_on_signals: bool = True) -> None:
    """Run `main`; on `UserError` print its line to stderr and exit 2, on Ctrl-C exit 130.

    stop_on_signals: SIGTERM and SIGHUP end `main` like Ctrl-C, so that what it has half written is
    removed, with exit codes 143 and 129. Not for a program that has its own way of being preempted.
    """
    try:
        with _signals_raise() if stop_on_signals else nullcontext():
            main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + (error.args[0] if isinstance(error, _Signalled) else signal.SIGINT))


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Raise `_Signalled` on signals that would end the process, once: cleaning up takes a moment.

    Ignored ones (of nohup) and those that are taken care of stay as they are.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for other in taken:
            signal.signal(other, signal.SIG_IGN)
        raise _Signalled(number)

    taken = [number for number in _STOPPING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
