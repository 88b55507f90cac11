"""Reading and writing safetensors files one tensor at a time, with plain reads.

The library maps the file, and mapped pages count as memory of the process; the format is 8 bytes of
header length (little-endian), a JSON header of {name: dtype, shape, data_offsets}, then the values.
"""

import json
import math
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.shapes import typechecked
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output, existing_file
from realisdance_jax.utils.torch_files.lazy import (
    SAFETENSORS_DTYPES,
    LazyTensor,
    tensor_of_bytes,
    unexpected,
)

_HEADER_LIMIT = 100_000_000  # bytes, the format's own
_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}


@typechecked
def open_safetensors(path: str | Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """Tensors by name in file order, and the text metadata of a safetensors file.

    Raises `UserError` for a file that is damaged, cut short or no safetensors file.
    """
    path = existing_file(path, "a safetensors file")
    header, start = _header(path)
    metadata = header.pop("__metadata__", {})
    available = path.stat().st_size - start
    try:
        if not all(type(text) is str for text in metadata.values()):
            raise ValueError("metadata that is no text")
        described = {name: _described(entry) for name, entry in header.items()}
        items = sorted(described.items(), key=lambda item: item[1][2])
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise unexpected(path, "a safetensors header", f"a broken one ({error})") from None
    end = 0
    for name, (_, _, first, last) in items:
        if first != end or last > available:
            found = f"{name!r} at {first}..{last} after {end}, of {available} bytes"
            raise unexpected(path, "a whole file with tensors side by side", found)
        end = last
    if end != available:
        raise unexpected(path, f"{end} bytes of tensors", f"{available}")
    return {
        name: LazyTensor(shape, dtype, partial(_read, path, start + first, dtype, shape))
        for name, (shape, dtype, first, _) in items
    }, metadata


def _header(path: Path) -> tuple[dict[str, Any], int]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(_HEADER_LIMIT, size - 8):
            raise unexpected(
                path, "a whole safetensors file", f"{size} bytes, cut or another format"
            )
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise unexpected(path, "a safetensors header", f"broken JSON ({error})") from None
    if type(header) is not dict:
        raise unexpected(path, "a safetensors header", f"a {type(header).__name__}")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name given twice")
    return names


def _described(entry: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype, int, int]:
    dtype, shape = SAFETENSORS_DTYPES[entry["dtype"]], tuple(entry["shape"])
    first, last = entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, first, last)):
        raise ValueError("sizes that are no counts")
    if len(shape) > 32 or math.prod(filter(None, shape)) >= 1 << 59:
        raise ValueError("an impossible shape")
    if last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{last - first} bytes for {entry['dtype']} {list(shape)}")
    return shape, dtype, first, last


def _read(path: Path, start: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    raw = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
    try:
        with open(path, "rb") as file:
            file.seek(start)
            complete = file.readinto(raw.data) == len(raw)
    except OSError as error:
        raise unexpected(path, "a readable file", error.strerror) from None
    if not complete:
        raise unexpected(path, "a whole safetensors file", "one that ends early")
    return tensor_of_bytes(raw, dtype, shape)


@typechecked
def write_safetensors(
    path: str | Path, tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `tensors`, read one after another, and text `metadata`; whole or not at all.

    In the library's order, wide dtypes first and then by name: equal contents give equal files.
    Raises `UserError` when the file cannot be written, `TypeError` for a dtype the format lacks.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header = _written_header(tensors, order, metadata)
    try:
        with atomic_output(path) as partial_path, open(partial_path, "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for name in order:
                file.write(tensors[name].dense_bytes(f"{path}: {name}"))
    except OSError as error:
        raise UserError(f"{path}: cannot write it ({error.strerror})") from None


def _written_header(
    tensors: Mapping[str, LazyTensor], order: list[str], metadata: Mapping[str, str] | None
) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _NAMES:
            raise TypeError(f"{name}: dtype {tensor.dtype} cannot go into a safetensors file")
        first, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [first, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)
