"""Outputs that are either whole or absent."""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from realisdance_jax.utils.errors import UserError

_MARK = ".partial-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, same suffix; renamed on success, removed on failure.

    Works for a file or a directory: the caller creates either one at the yielded name. An existing
    directory at `path` is replaced as a whole, and is back in its place if that fails. What a
    killed process left behind is cleared up by the next one that writes `path`: its scratch folder,
    `.NAME.partial-*`, goes, and a directory that it was about to replace is put back.
    Raises `UserError` when `path` cannot be written or the disk is full.
    """
    path = Path(path).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        scratch, lock = _new_scratch(path)
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror})") from None
    partial = scratch / path.name
    try:
        yield partial
        _move(partial, path, _replaced(scratch, path))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(f"{path}: cannot write it ({error.strerror})") from None
    finally:
        # A directory that cannot be put back now stays in the scratch folder for the next call.
        with suppress(OSError):
            _discard(scratch, path)
        os.close(lock)


def _replaced(scratch: Path, path: Path) -> Path:
    return scratch / f"{path.name}.replaced"


def _move(partial: Path, path: Path, replaced: Path) -> None:
    try:
        if path.is_dir() and partial.is_dir():
            os.rename(path, replaced)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path}: cannot write it ({error.strerror})") from None


def _discard(scratch: Path, path: Path) -> None:
    """Remove `scratch`, after putting back what it holds of `path` if nothing stands there."""
    replaced = _replaced(scratch, path)
    if os.path.lexists(replaced) and not os.path.lexists(path):
        os.rename(replaced, path)
    shutil.rmtree(scratch, ignore_errors=True)


def _new_scratch(path: Path) -> tuple[Path, int]:
    """A new folder beside `path`, and the descriptor that locks it as long as this process lives.

    A lock, for process numbers repeat and mean nothing on another machine or in another container.
    """
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}{_MARK}", dir=path.parent))
        lock = os.open(scratch, os.O_RDONLY)
        with suppress(OSError):  # without locks nobody will take it for a leftover either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if scratch.is_dir():
            return scratch, lock
        os.close(lock)  # another process was faster to lock it, and cleared it up


def _clear_leftovers(path: Path) -> None:
    """Discard scratch folders of `path` that no living process holds."""
    pattern = re.compile(re.escape(f".{path.name}{_MARK}") + r"\w{8}")
    with os.scandir(path.parent) as entries:
        found = [Path(entry.path) for entry in entries if pattern.fullmatch(entry.name)]
    for scratch in found:
        with suppress(OSError):
            lock = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _discard(scratch, path)
            finally:
                os.close(lock)


def existing_file(path: str | Path, what: str) -> Path:
    """`path` if it is a file, else a `UserError` that says `what` was expected there."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: expected {what}, found a folder")
    if not path.is_file():
        raise UserError(f"{path}: expected {what}, found no such file")
    return path
