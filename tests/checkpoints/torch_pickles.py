"""Hand-made torch.save files: any pickle, any storages, honest or not."""

import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def fragment(value: Any) -> bytes:
    """Opcodes (protocol 2) that push a picklable value, without memo."""
    return pickletools.optimize(pickle.dumps(value, 2, fix_imports=False))[2:-1]


def mention(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    packed = pickle.MARK + b"".join(arguments) + pickle.TUPLE
    return mention(module, name) + packed + pickle.REDUCE


def storage(kind: str, key: str, count: int, module: str = "torch", more: bytes = b"") -> bytes:
    """more: what follows in the persistent id, as before PyTorch 1.6."""
    parts = fragment("storage") + mention(module, kind) + fragment(key) + fragment("cpu")
    return pickle.MARK + parts + fragment(count) + more + pickle.TUPLE + pickle.BINPERSID


def tensor(
    kind: str, key: str, count: int, offset: int, shape: tuple, strides: tuple, *more: bytes
) -> bytes:
    """A `_rebuild_tensor_v2` call on `count` elements of data/`key`."""
    numbers = (fragment(offset), fragment(shape), fragment(strides))
    hooks = call("collections", "OrderedDict")
    arguments = (storage(kind, key, count), *numbers, pickle.NEWFALSE, hooks, *more)
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def document(entries: Mapping[Any, bytes]) -> bytes:
    """A pickled dict of ready fragments."""
    items = b"".join(fragment(key) + value for key, value in entries.items())
    return pickle.PROTO + b"\x02}(" + items + pickle.SETITEMS + pickle.STOP


ONE = tensor("FloatStorage", "0", 2, 0, (2,), (1,))
"""Two floats; their storage is `ONE_DATA`."""
ONE_DATA = {"0": b"\0\0\x80?\0\0\0@"}


def write(
    path: Path,
    pickled: bytes,
    data: Mapping[str, bytes] = ONE_DATA,
    extra: Mapping[str, bytes] = {"version": b"3\n"},
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A torch zip with this pickle, these storages and these other records."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in extra.items():
            archive.writestr(f"archive/{name}", content)
        for key, content in data.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


MAGIC = 0x1950A86A20F9469CFC6C


def write_legacy(
    path: Path,
    pickled: bytes,
    data: Mapping[str, tuple[int, bytes]] = {"0": (2, ONE_DATA["0"])},
    version: int = 1001,
    facts: Any = None,
    keys: Any = None,
) -> Path:
    """A file as before PyTorch 1.6: this pickle, then storages as (count, bytes) by key."""
    if facts is None:
        facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = [pickle.dumps(part, 2, fix_imports=False) for part in (MAGIC, version, facts)]
    listed = pickle.dumps(list(data) if keys is None else keys, 2, fix_imports=False)
    storages = [struct.pack("<q", count) + content for count, content in data.values()]
    path.write_bytes(b"".join([*head, pickled, listed, *storages]))
    return path
