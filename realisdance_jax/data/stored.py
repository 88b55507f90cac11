"""Prepared data sets: `dataset.json` beside folders of ArrayRecord shards, read without TensorFlow.

Two kinds. `encoded`: one record per clip in `clips/`, holding the bytes of its files. `cached`: one
record per frame in `frames/` (latents and conditions at the training size) and one per possible
reference frame in `tokens/`, so that any frames of a clip are as quick to read as any others.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tensorflow_datasets as tfds

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import from_json

INDEX = "dataset.json"
FORMAT = 1
SPLIT = "train"
ENCODERS = ("vae", "image_encoder")
"""Parts of the model of which a cache holds the results."""


@dataclass(frozen=True)
class StoredIndex:
    """`dataset.json`. names, frames: of each clip, in order. fingerprint: of all records.

    size: height and width of cached pictures. references: at most so many frames per clip have
    tokens; 0 is all. encoder: `encoder_name` of the weights that made a cache. skipped: clip and
    reason.
    """

    format: int
    kind: Literal["encoded", "cached"]
    images: bool
    conditions: tuple[str, ...]
    names: tuple[str, ...]
    frames: tuple[int, ...]
    fingerprint: str
    size: tuple[int, ...] = ()
    references: int = 0
    encoder: str = ""
    skipped: dict[str, str] | None = None


def encoder_name(hashes: Mapping[str, str]) -> str:
    """What a cache calls the networks that made it, from the hashes of a weights folder's parts.

    A folder's hash of a part is of its float32 tensors, so copies of it have the same name.
    """
    return " ".join(f"{name} {hashes.get(name, 'none')[:16]}" for name in ENCODERS)


def is_stored(folder: str | Path) -> bool:
    """Whether `folder` is a prepared data set."""
    return (Path(folder) / INDEX).is_file()


def read_index(folder: Path) -> StoredIndex:
    """Raises `UserError` for a damaged `dataset.json`, or one of another format."""
    path = folder / INDEX
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found {error}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT}, found {found!r}; prepare it again")
    index = from_json(StoredIndex, data, str(path))
    if not index.names or len(index.names) != len(index.frames):
        raise UserError(f"{path}: expected clips with their lengths, found {len(index.names)}")
    return index


def open_shards(folder: Path, count: int) -> Any:
    """Random access to `count` records. Raises `UserError` when shards are missing or damaged."""
    try:
        builder: Any = tfds.builder_from_directory(str(folder))
        records = builder.as_data_source(SPLIT)
        found = len(records)
        shards = [Path(str(path)) for path in builder.info.splits[SPLIT].filepaths]
    except Exception as error:  # whatever damaged metadata make the library raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{folder}: expected shards, found {reason}") from None
    for shard in shards:
        if not shard.is_file():
            raise UserError(f"{shard}: expected a shard, found no such file")
    if found != count:
        raise UserError(f"{folder}: expected {count} records, found {found}")
    return records


@contextmanager
def readable_record(folder: Path, name: str) -> Iterator[None]:
    """Turn whatever a damaged record raises into a `UserError` that names the clip."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged record fails in zlib, protobuf, numpy or the reader
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{folder}: {name}: expected a whole record, found {reason}") from None
