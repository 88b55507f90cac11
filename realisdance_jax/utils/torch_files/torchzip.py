"""Reading and writing the files of torch.save without torch, one tensor in memory at a time."""

import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from realisdance_jax.shapes import typechecked
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output, existing_file
from realisdance_jax.utils.torch_files.globals import StoredTensor
from realisdance_jax.utils.torch_files.lazy import LazyTensor, unexpected
from realisdance_jax.utils.torch_files.legacy import START, legacy_content
from realisdance_jax.utils.torch_files.pickling import pickle_state
from realisdance_jax.utils.torch_files.unpickle import unpickle
from realisdance_jax.utils.torch_files.views import lazy_view
from realisdance_jax.utils.torch_files.zip_entries import read_entry, zip_entries

_PICKLE_LIMIT = 64 << 20  # bytes; the official file needs 0.4 MB
_WRAPPERS = ("state_dict", "module", "model")
_ALIGNMENT = 64


@dataclass(frozen=True)
class TorchFile:
    """A torch file: its whole plain structure, its state dict and the entries beside that.

    content: what was saved, with a `LazyTensor` for each tensor.
    tensors: the state dict, in file order.
    extra: the other entries (epoch, global_step, ...); may hold `LazyTensor`s of an optimizer.
    """

    path: Path
    content: Any
    tensors: dict[str, LazyTensor]
    extra: dict[Any, Any]


@typechecked
def open_torch_zip(path: str | Path) -> TorchFile:
    """Structure of a torch.save file, be it from before PyTorch 1.6; values are read on demand.

    The state dict is the file itself or its entry `state_dict`, `module` or `model`.
    Raises `UserError` for any other file, a damaged one, and for anything but tensors and plain
    data in its pickle, none of which is run.
    """
    path = Path(path)
    content = torch_content(path)
    return TorchFile(path, content, *_split(path, content))


@typechecked
def torch_content(
    path: str | Path, most_unpacked: int | None = None, most_pickled: int = _PICKLE_LIMIT
) -> Any:
    """Whatever torch.save put in a file, with a `LazyTensor` for each tensor.

    most_unpacked: refuse a file whose compressed entries, which torch.save does not write, are
        larger than this many bytes together.
    most_pickled: refuse one with more bytes than this beside its tensors.
    Raises `UserError` as `open_torch_zip` does, but for no lack of tensors.
    """
    path = existing_file(path, "a torch file")
    if _is_legacy(path):
        return legacy_content(path, most_pickled)
    entries = zip_entries(path)
    packed = (e for e in entries.values() if e.compress_type != zipfile.ZIP_STORED)
    total = sum(entry.file_size for entry in packed)
    if most_unpacked is not None and total > most_unpacked:
        raise unexpected(path, f"at most {most_unpacked} compressed bytes once unpacked", total)
    roots = [name for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(roots) != 1:
        raise unexpected(path, "a zip file of torch.save", f"{len(roots)} data.pkl in it")
    root = roots[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        found = "a TorchScript program (save its state_dict() instead)"
        raise unexpected(path, "a state dict", found)
    if f"{root}byteorder" in entries:  # absent before PyTorch 2.1
        order = _small_entry(path, entries[f"{root}byteorder"], most_pickled)
        if order != b"little":
            raise unexpected(path, "little-endian tensors", f"byte order {order[:16]!r}")
    pickled = _small_entry(path, entries[roots[0]], most_pickled)
    return unpickle(pickled, str(path), partial(_lazy, path, entries, root))


def _is_legacy(path: Path) -> bool:
    """Whether a file is of the format before PyTorch 1.6; `UserError` if it is of no known one."""
    with open(path, "rb") as file:
        head = file.read(300)
    expected = "a file of torch.save"
    if head[257:262] == b"ustar":
        resave = "re-save it in a recent PyTorch: torch.save(torch.load(f, weights_only=True), f)"
        raise unexpected(path, expected, f"the tar format before PyTorch 0.2; {resave}")
    legacy = START.match(head) is not None
    if not legacy and not head.startswith(b"PK\x03\x04"):
        raise unexpected(path, expected, f"a file that starts with {head[:8]!r}")
    return legacy


def _small_entry(path: Path, entry: zipfile.ZipInfo, most: int) -> bytes:
    if entry.file_size > most:
        found = f"{entry.filename!r} of {entry.file_size}"
        raise unexpected(path, f"at most {most} bytes beside the tensors", found)
    return read_entry(path, entry, 0, entry.file_size).tobytes()


def _lazy(
    path: Path, entries: Mapping[str, zipfile.ZipInfo], root: str, stored: StoredTensor
) -> LazyTensor:
    name, nbytes = f"{root}data/{stored.storage.key}", stored.storage.nbytes
    entry = entries.get(name)
    if entry is None or entry.file_size != nbytes:
        found = "no such entry" if entry is None else entry.file_size
        raise unexpected(path, f"{nbytes} bytes in {name!r}", found)
    return lazy_view(path, name, stored, partial(read_entry, path, entry))


def _split(path: Path, content: Any) -> tuple[dict[str, LazyTensor], dict[Any, Any]]:
    """State dict and everything beside it."""
    expected = "a dict of tensors"
    if type(content) is not dict:
        raise unexpected(path, expected, f"a {type(content).__name__}")
    wrappers = [n for n in _WRAPPERS if type(content.get(n)) is dict and _tensors(content[n])]
    state = content[wrappers[0]] if wrappers else content
    tensors = _tensors(state)
    if not tensors:
        keys = ", ".join(str(key)[:40] for key in list(content)[:8]) or "nothing"
        raise unexpected(path, expected, f"a dict without tensors (entries: {keys})")
    extra = {k: v for k, v in content.items() if k not in wrappers[:1]} | dict(state)
    return tensors, {k: v for k, v in extra.items() if k not in tensors}


def _tensors(state: Mapping[Any, Any]) -> dict[str, LazyTensor]:
    return {k: v for k, v in state.items() if type(k) is str and isinstance(v, LazyTensor)}


@typechecked
def write_torch_zip(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write `state` so that torch.load(weights_only=True), also with mmap=True, reads it.

    `state` may nest dicts, lists, tuples, text, numbers, booleans, None, arrays and `LazyTensor`s;
    these are read one after another while writing. The file appears whole or not at all, and equal
    states give equal files.
    Raises `UserError` when the file cannot be written, `TypeError` for other contents.
    """
    pickled, tensors = pickle_state(state)
    try:
        with atomic_output(path) as partial_path, zipfile.ZipFile(partial_path, "w") as archive:
            _add(archive, "data.pkl", memoryview(pickled))
            _add(archive, "byteorder", memoryview(b"little"))
            for key, tensor in tensors.items():
                _add(archive, f"data/{key}", tensor.dense_bytes(f"{path}: tensor {key}"))
            _add(archive, "version", memoryview(b"3\n"))
    except OSError as error:
        raise UserError(f"{path}: cannot write it ({error.strerror})") from None


def _add(archive: zipfile.ZipFile, name: str, payload: memoryview) -> None:
    info = zipfile.ZipInfo(f"archive/{name}")  # dated 1980: equal states, equal files
    info.file_size = len(payload)
    large = len(payload) * 1.05 > zipfile.ZIP64_LIMIT
    header = 30 + len(info.filename) + (20 if large else 0) + 4
    padding = -(archive.start_dir + header) % _ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)  # the tag torch pads with
    with archive.open(info, "w", force_zip64=large) as entry:
        entry.write(payload)
