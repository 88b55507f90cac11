"""Files of a folder in the order a person expects."""

import re
from pathlib import Path

from realisdance_jax.utils.errors import UserError


def natural_key(path: Path) -> list[str | int]:
    """Sort key: `frame_2` before `frame_10`, the plain order for zero-padded names."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def listed_files(folder: str | Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
    """Visible files of `folder` that end in one of `suffixes` (lower case), in natural order.

    Raises `UserError`, saying `what` was expected, when the folder is unreadable or has none.
    """
    try:
        entries = list(Path(folder).iterdir())
    except OSError as error:
        raise UserError(f"{folder}: expected a folder of {what} ({error.strerror})") from None
    found = [
        entry
        for entry in entries
        if entry.suffix.lower() in suffixes and not entry.name.startswith(".") and entry.is_file()
    ]
    if not found:
        endings = ", ".join(suffixes)
        raise UserError(f"{folder}: expected a folder of {what} ({endings}), found none in it")
    return sorted(found, key=natural_key)
