"""Arrays out of strangers' npz and npy files: no object is made, no size is taken on trust."""

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file
from realisdance_jax.utils.safe_pickle import OBJECT_ARRAY_GLOBALS, load_pickle
from realisdance_jax.utils.torch_files.zip_entries import read_entry, zip_entries

_LETTERS = 1000  # of a text entry


def why_unreadable(error: Exception) -> str:
    """What numpy says of a file; of what is no array it says how to run it, which is left out."""
    text = " ".join(str(error).split())[:160]
    return "no .npy or .npz of plain numbers" if "pickle" in text else text


def npz_names(path: str | Path) -> set[str]:
    """Names of the arrays of an npz file; `UserError` when it is none."""
    entries = zip_entries(existing_file(path, "an .npz file"))
    return {name.removesuffix(".npy") for name in entries if name.endswith(".npy")}


def read_npz(
    path: str | Path, keys: Iterable[str], what: str, most_bytes: int = 1 << 28
) -> dict[str, np.ndarray]:
    """Those of `keys` that an npz file has, as arrays of numbers, booleans or short text.

    most_bytes: of the compressed ones once unpacked, together; the others are as large as the file.
    Raises `UserError`, saying `what` was expected, for damage, objects and dishonest headers.
    """
    path = existing_file(path, what)
    entries = zip_entries(path)
    wanted = {key: entries[f"{key}.npy"] for key in keys if f"{key}.npy" in entries}
    packed = (e for e in wanted.values() if e.compress_type != zipfile.ZIP_STORED)
    total = sum(entry.file_size for entry in packed)
    if total > most_bytes:
        raise UserError(
            f"{path}: expected {what} that unpacks to at most {most_bytes} bytes, found {total}"
        )
    return {
        key: _array(f"{path}: {key}", read_entry(path, entry, 0, entry.file_size))
        for key, entry in wanted.items()
    }


def _array(where: str, raw: np.ndarray) -> np.ndarray:
    shape, fortran, dtype, start = _header(where, io.BytesIO(raw.data))
    plain = dtype.kind in "biuf" or (dtype.kind == "U" and 0 < dtype.itemsize <= 4 * _LETTERS)
    if not plain or not dtype.isnative:
        raise UserError(f"{where}: expected plain numbers, found values of type {dtype!s:.80}")
    if math.prod(shape) * dtype.itemsize != len(raw) - start:
        raise UserError(f"{where}: expected {len(raw) - start} bytes, found shape {shape!s:.80}")
    return np.ndarray(shape, dtype, raw[start:].data, order="F" if fortran else "C")


def _header(where: str, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order and type that the header of an npy file claims, and where its values start."""
    readers: dict[Any, Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = readers[version](file)
        most = 1 << 20 if 0 in shape else 1 << 40  # without numbers no byte bounds the sizes
        if len(shape) > 8 or not all(0 <= n < most for n in shape):
            raise ValueError(f"shape {shape}")
    except Exception as error:  # it evaluates a literal, which fails in many ways
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{where}: expected an array, found a broken one ({reason!a})") from None
    return tuple(map(int, shape)), fortran, dtype, file.tell()


def read_pickled_npy(path: str | Path, what: str) -> list[Any]:
    """The objects that numpy.save pickled into an npy file, through the allow-listed reader.

    Raises `UserError`, saying `what` was expected, for a file of numbers, damage, and whenever the
    pickle mentions anything but arrays of numbers and plain values; nothing in it is run.
    """
    with open(existing_file(path, what), "rb") as file:
        _, _, dtype, _ = _header(str(path), file)
        if dtype != np.dtype(object):
            raise UserError(f"{path}: expected {what}, found an array of type {dtype!s:.80}")
        content = load_pickle(file, OBJECT_ARRAY_GLOBALS, what)
    if not isinstance(content, np.ndarray) or content.dtype != object:
        raise UserError(f"{path}: expected {what}, found {type(content).__name__}")
    return list(content)
