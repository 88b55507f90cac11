"""Entries of a zip file, checked, and plain reads of their bytes: no mapping, no open handle."""

import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from realisdance_jax.utils.torch_files.lazy import unexpected

_DEFLATE_GAIN = 1040  # the format itself cannot gain more than 1032


def zip_entries(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Entries by name; `UserError` for a damaged zip, a name given twice or dishonest sizes."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (
        *(zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error),
        *(LookupError, OverflowError, RuntimeError),
    ) as error:
        raise unexpected(path, "a whole file", f"a truncated or damaged zip ({error})") from None
    for name, count in Counter(info.filename for info in infos).items():
        if count > 1:
            raise unexpected(path, "each zip entry once", f"{name!r} {count} times")
    whole = path.stat().st_size
    for info in infos:
        _check_entry(path, info, whole)
    return {info.filename: info for info in infos}


def _check_entry(path: Path, info: zipfile.ZipInfo, whole: int) -> None:
    name, size, packed = info.filename, info.file_size, info.compress_size
    if info.flag_bits & 1:
        raise unexpected(path, "plain zip entries", f"{name!r} encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise unexpected(path, "stored or deflated zip entries", f"{name!r} packed otherwise")
    stored = info.compress_type == zipfile.ZIP_STORED
    dishonest = size != packed if stored else size > _DEFLATE_GAIN * packed
    if dishonest or packed > whole:
        raise unexpected(path, "honest zip entries", f"{name!r}: {packed} bytes for {size}")


def read_entry(path: Path, entry: zipfile.ZipInfo, start: int, length: int) -> np.ndarray:
    """Bytes [start, start + length) of an entry, unpacked (uint8, writable).

    The checksum is compared when the whole entry is read. Raises `UserError` for damage.
    """
    expected = f"the entry {entry.filename!r} whole"
    try:
        with open(path, "rb") as file:
            file.seek(entry.header_offset)
            header = file.read(30)
            if not header.startswith(b"PK\x03\x04"):
                raise unexpected(path, expected, "no such entry at its place")
            names = sum(struct.unpack("<HH", header[26:]))  # local name and extra field
            file.seek(entry.header_offset + 30 + names)
            if entry.compress_type == zipfile.ZIP_DEFLATED:
                raw = _inflate(file.read(entry.compress_size), entry.file_size)
                raw = raw[start : start + length]
            else:
                file.seek(start, 1)
                raw = np.empty(length, np.uint8)
                raw = raw[: file.readinto(raw.data)]
    except (OSError, struct.error, zlib.error) as error:
        raise unexpected(path, expected, f"damage ({error})") from None
    # A checksum of zero is none: torch can be told not to write them.
    comparable = length == entry.file_size and entry.CRC != 0
    if len(raw) != length or (comparable and zlib.crc32(raw.data) != entry.CRC):
        raise unexpected(path, expected, "it cut short or with a wrong checksum")
    return raw


def _inflate(packed: bytes, size: int) -> np.ndarray:
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    return np.frombuffer(bytearray(unpacked), np.uint8)
