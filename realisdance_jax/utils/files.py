"""Outputs that are either whole or absent."""

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from realisdance_jax.utils.errors import UserError

_MARK = ".partial-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DRAFT, _WHOLE, _MOVING, _OLD = "draft", "whole", "moving", "old"

Settle = Callable[[Path], None]
"""Brings what a scratch folder still holds to where it belongs, whoever filled it."""


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
    with _scratch_beside(path, partial(_put_back, path=path)) as scratch:
        yield scratch / path.name
        _move(scratch / path.name, path, _replaced(scratch, path))


@contextmanager
def atomic_files(folder: str | Path, names: Collection[str]) -> Iterator[Path]:
    """Yield an empty folder; on success its files take the place of those in `folder`, together.

    names: files of `folder` that belong together. Each is replaced by what the caller made under
        its name, or removed where nothing was made; others in `folder` are left alone.

    On failure `folder` is as it was, and so it is after a kill until the last file is whole. A kill
    between the renames that follow leaves some of the old files or some of the new ones, never both
    kinds; the rest of the new ones is in `.files.partial-*` for the next call, which moves it in.
    Raises `UserError` when `folder` cannot be written or the disk is full, `ValueError` for files
    of other names.
    """
    folder = Path(folder).absolute()
    settle = partial(_move_in, folder=folder, names=names)
    with _scratch_beside(folder / "files", settle) as scratch:
        (scratch / _DRAFT).mkdir()
        yield scratch / _DRAFT
        if other := {path.name for path in (scratch / _DRAFT).iterdir()} - {*names}:
            raise ValueError(f"expected files called {sorted(names)}, got {sorted(other)}")
        os.rename(scratch / _DRAFT, scratch / _WHOLE)
        try:
            settle(scratch)
        except OSError as error:
            _take_back(scratch, folder)
            raise UserError(f"{folder}: cannot write there ({error.strerror})") from None


def _move_in(scratch: Path, folder: Path, names: Collection[str]) -> None:
    """Finish a replacement that was decided on: old files out, then new ones in."""
    if (scratch / _WHOLE).is_dir():
        (scratch / _OLD).mkdir(exist_ok=True)
        for path in (folder / name for name in names):
            if path.is_dir() and not path.is_symlink():
                raise IsADirectoryError(errno.EISDIR, f"{path.name} is a folder")
            if os.path.lexists(path):
                os.rename(path, scratch / _OLD / path.name)
        os.rename(scratch / _WHOLE, scratch / _MOVING)
    if (scratch / _MOVING).is_dir():
        for path in (scratch / _MOVING).iterdir():
            os.replace(path, folder / path.name)


def _take_back(scratch: Path, folder: Path) -> None:
    """Undo a replacement whose old files could not all be moved out."""
    if (scratch / _WHOLE).is_dir():
        os.rename(scratch / _WHOLE, scratch / _DRAFT)
        for path in (scratch / _OLD).iterdir():
            os.replace(path, folder / path.name)


def _replaced(scratch: Path, path: Path) -> Path:
    return scratch / f"{path.name}.replaced"


def _move(made: Path, path: Path, replaced: Path) -> None:
    try:
        if path.is_dir() and made.is_dir():
            os.rename(path, replaced)
        os.replace(made, path)
    except OSError as error:
        raise UserError(f"{path}: cannot write it ({error.strerror})") from None


def _put_back(scratch: Path, path: Path) -> None:
    """What `scratch` holds of `path`, if nothing stands there."""
    replaced = _replaced(scratch, path)
    if os.path.lexists(replaced) and not os.path.lexists(path):
        os.rename(replaced, path)


@contextmanager
def _scratch_beside(path: Path, settle: Settle) -> Iterator[Path]:
    """A folder beside `path` for the time being; `settle` is called before it goes.

    So it is for those that killed processes left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path, settle)
        scratch, lock = _new_scratch(path)
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror})") from None
    try:
        yield scratch
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(f"{path}: cannot write it ({error.strerror})") from None
    finally:
        # What cannot be settled now stays in the scratch folder for the next call.
        with suppress(OSError):
            _discard(scratch, settle)
        os.close(lock)


def _discard(scratch: Path, settle: Settle) -> None:
    settle(scratch)
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


def _clear_leftovers(path: Path, settle: Settle) -> None:
    """Discard scratch folders of `path` that no living process holds."""
    pattern = re.compile(re.escape(f".{path.name}{_MARK}") + r"\w{8}")
    with os.scandir(path.parent) as entries:
        found = [Path(entry.path) for entry in entries if pattern.fullmatch(entry.name)]
    for scratch in found:
        with suppress(OSError):
            lock = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _discard(scratch, settle)
            finally:
                os.close(lock)


def existing_file(path: str | Path, what: str) -> Path:
    """`path` if it is a file that can be read, else a `UserError`: `what` was expected there."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{path}: expected {what}, found a folder")
        if not stat.S_ISREG(mode):
            raise UserError(f"{path}: expected {what}, found no regular file")
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: expected {what}, found no such file") from None
    except OSError as error:
        raise UserError(
            f"{path}: expected {what}, found none that can be read ({error.strerror})"
        ) from None
    return path
