"""Objects that ask an unpickler to run something."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Evil:
    """Pickles into a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.reduced


def evils(mark: Path) -> dict[str, Evil]:
    """Calls that would leave something at `mark`, by the name that a refusal gives."""
    return {
        "posix.system": Evil(os.system, f"touch {mark}"),
        "builtins.exec": Evil(exec, f"open({str(mark)!r}, 'w')"),
        "builtins.eval": Evil(eval, f"open({str(mark)!r}, 'w')"),
        "subprocess.Popen": Evil(subprocess.Popen, ["touch", str(mark)]),
        "posix.mkdir": Evil(os.mkdir, str(mark)),
    }
