"""Errors a user can mend: one line, exit code 2. All else is a bug and keeps its traceback."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGHUP)
_QUIET_SECONDS = 2.0


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
    """Raise `_Signalled` on signals that would end the process.

    Those that follow at once are ignored, for cleaning up takes a moment; later ones raise again,
    for an exception raised in a callback may have been lost there. Signals that are ignored (by
    nohup) or taken care of stay as they are.
    """
    quiet_until = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal quiet_until
        if (now := time.monotonic()) >= quiet_until:
            quiet_until = now + _QUIET_SECONDS
            raise _Signalled(number)

    taken = [number for number in _STOPPING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
