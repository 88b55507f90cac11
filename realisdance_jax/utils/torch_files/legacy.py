"""The format of torch.save before PyTorch 1.6: five pickles, then the storages one after another.

The pickles are a magic number, a version, facts about the machine, what was saved, and the keys of
the storages in the order in which these follow: the number of elements (8 bytes), the elements.
"""

import io
import pickletools
import re
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.utils.torch_files.globals import Storage, StoredTensor
from realisdance_jax.utils.torch_files.lazy import LazyTensor, unexpected
from realisdance_jax.utils.torch_files.unpickle import unpickle
from realisdance_jax.utils.torch_files.views import lazy_view

START = re.compile(
    rb"\x80[\x02-\x05](\x95.{8})?\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", re.S
)
"""The pickled magic number of any protocol, but for its last opcode."""

_VERSION = 1001
_PICKLES = 5
_WHOLE = "a whole file of PyTorch before 1.6"


def legacy_content(path: Path, most_pickled: int) -> Any:
    """What such a file holds, with a `LazyTensor` for each tensor; nothing in it is run.

    most_pickled: refuse a file with more bytes than this beside its tensors.
    Raises `UserError` for a damaged file, and for anything but tensors and plain data.
    """
    with open(path, "rb") as file:
        # In memory: a length in the file cannot make a read ask for more than there is.
        data = file.read(most_pickled)
    pickles, end = _pickles(path, data, most_pickled)
    _, version, facts, saved, keys = pickles
    where = str(path)
    if _plain(version, where) != _VERSION:
        raise unexpected(path, f"version {_VERSION} of torch.save", "another one")
    machine = _plain(facts, where)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise unexpected(path, "little-endian tensors", "others")
    mentioned: dict[str, Storage] = {}
    # Once for the sizes of the storages, which alone tell where each begins.
    unpickle(saved, where, partial(_mention, path, mentioned))
    places = _places(path, _plain(keys, where), mentioned, end)
    return unpickle(saved, where, partial(_lazy, path, places))


def _pickles(path: Path, data: bytes, most: int) -> tuple[list[bytes], int]:
    """The bytes of each pickle, and where the last one ends."""
    stream, found = io.BytesIO(data), []
    for _ in range(_PICKLES):
        start = stream.tell()
        try:
            for _ in pickletools.genops(stream):
                pass
        except Exception as error:  # broken text in a pickle makes it raise nearly every class
            if len(data) == most:
                raise unexpected(path, f"at most {most} bytes beside the tensors", "more") from None
            found_what = f"a truncated or damaged one ({ascii(str(error))[:80]})"
            raise unexpected(path, _WHOLE, found_what) from None
        found.append(data[start : stream.tell()])
    return found, stream.tell()


def _plain(pickled: bytes, where: str) -> Any:
    return unpickle(pickled, where, lambda stored: None)


def _mention(path: Path, mentioned: dict[str, Storage], stored: StoredTensor) -> StoredTensor:
    storage = stored.storage
    if mentioned.setdefault(storage.key, storage).nbytes != storage.nbytes:
        raise unexpected(path, f"one size of the storage {storage.key!r}", "several")
    return stored


def _places(path: Path, keys: Any, mentioned: dict[str, Storage], start: int) -> dict[str, int]:
    """Where the elements of each storage begin in the file."""
    plain = type(keys) is list and all(type(key) is str for key in keys)
    if not plain or len(keys) != len(mentioned) or {*keys} != mentioned.keys():
        raise unexpected(path, "the storages of its tensors", "a list of others")
    places, whole = {}, path.stat().st_size
    with open(path, "rb") as file:
        for key in keys:
            storage = mentioned[key]
            file.seek(start)
            head = file.read(8)
            places[key] = start + 8
            start += 8 + storage.nbytes
            if len(head) < 8 or start > whole:
                raise unexpected(path, _WHOLE, f"a truncated one, in storage {key!r}")
            item = 1 if storage.dtype is None else storage.dtype.itemsize
            if struct.unpack("<q", head)[0] * item != storage.nbytes:
                raise unexpected(path, f"{storage.nbytes} bytes in storage {key!r}", "others")
    return places


def _lazy(path: Path, places: dict[str, int], stored: StoredTensor) -> LazyTensor:
    key = stored.storage.key
    return lazy_view(path, f"storage {key}", stored, partial(_read, path, places[key]))


def _read(path: Path, place: int, start: int, length: int) -> np.ndarray:
    """Bytes of a storage; `UserError` if the file has lost them since."""
    raw = np.empty(length, np.uint8)
    try:
        with open(path, "rb") as file:
            file.seek(place + start)
            count = file.readinto(raw.data)
    except OSError as error:
        raise unexpected(path, _WHOLE, f"damage ({error.strerror})") from None
    if count != length:
        raise unexpected(path, _WHOLE, "a truncated one")
    return raw
