"""Errors a user can mend: one line, exit code 2. All else is a bug and keeps its traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input: the message is one line naming the file, what was expected and what was found."""


def exit_on_user_error(main: Callable[[], None]) -> None:
    """Run `main`; on `UserError` print its line to stderr and exit 2, on Ctrl-C exit 130."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
