"""Outputs that are either whole or absent."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realisdance_jax.utils.errors import UserError


@contextmanager
def atomic_output(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, same suffix; renamed on success, removed on failure.

    Works for a file or a directory: the caller creates either one at the yielded name. An existing
    directory at `path` is replaced as a whole.
    Raises `UserError` when the folder of `path` cannot be created or written.
    """
    path = Path(path).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror})") from None
    partial = scratch / path.name
    try:
        yield partial
        if path.is_dir() and partial.is_dir():
            os.rename(path, scratch / "replaced")
        os.replace(partial, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def existing_file(path: str | Path, what: str) -> Path:
    """`path` if it is a file, else a `UserError` that says `what` was expected there."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: expected {what}, found a folder")
    if not path.is_file():
        raise UserError(f"{path}: expected {what}, found no such file")
    return path
