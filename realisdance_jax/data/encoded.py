"""Clips in shards as the bytes of their files: nothing is lost, any crop stays possible."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from realisdance_jax.data.blobs import Blob, Source
from realisdance_jax.data.clips import FileClip, Media
from realisdance_jax.data.images import PICTURE_SUFFIXES
from realisdance_jax.data.sources import ClipSource
from realisdance_jax.data.stored import StoredIndex, open_shards, read_index, readable_record
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.utils.listing import listed_files

CLIPS = "clips"
"""Folder of the shards, one record per clip."""

POINTS = ("body", "body_ok", "hands", "hands_ok", "faces", "faces_ok")


def encoded_features(conditions: Sequence[str]) -> tfds.features.FeaturesDict:
    """What a record holds: per stream its files, and whether they are pictures or one video."""
    text, number = tfds.features.Text(), tfds.features.Scalar(np.int64)
    stream = {"files": tfds.features.Sequence(text), "pictures": number}
    streams = {name: dict(stream) for name in ("video", *conditions)}
    return tfds.features.FeaturesDict({**streams, "keypoints": text})


def encode_clip(clip: FileClip, conditions: Sequence[str]) -> dict[str, Any]:
    """The record of a clip; `keypoints` is empty where DWPose is drawn already."""
    absent = {"files": [], "pictures": 0}
    streams = {name: _pack(clip.rendered[name]) for name in conditions if name in clip.rendered}
    return {
        "video": _pack(clip.media),
        **dict.fromkeys(conditions, absent),
        **streams,
        "keypoints": b"" if clip.keypoints is None else _pack_keypoints(_keypoints(clip)),
    }


def decode_clip(record: dict[str, Any], name: str) -> FileClip:
    """A clip in memory out of its record."""
    streams = {
        stream: _unpack(f"{name}: {stream}", value)
        for stream, value in record.items()
        if stream != "keypoints" and len(value["files"])
    }
    media = streams.pop("video")
    points = record["keypoints"]
    return FileClip(name, media, streams, _unpack_keypoints(points) if points else None)


def _bytes(source: Source) -> bytes:
    return source.getvalue() if isinstance(source, Blob) else Path(source).read_bytes()


def _pack(media: Media) -> dict[str, Any]:
    if not isinstance(media, tuple | Blob) and os.path.isdir(media):
        media = tuple(listed_files(media, PICTURE_SUFFIXES, "pictures"))
    if isinstance(media, tuple):
        return {"files": [_bytes(source) for source in media], "pictures": 1}
    return {"files": [_bytes(media)], "pictures": 0}


def _unpack(where: str, stream: dict[str, Any]) -> Media:
    files = [bytes(file) for file in stream["files"]]
    if stream["pictures"]:
        return tuple(Blob(file, f"{where}: {number}") for number, file in enumerate(files))
    return Blob(files[0], where)


def _keypoints(clip: FileClip) -> KeypointClip:
    if isinstance(clip.keypoints, tuple):
        return join_keypoints([read_dwpose(path) for path in clip.keypoints])
    return clip.pose_clip


def join_keypoints(clips: Sequence[KeypointClip]) -> KeypointClip:
    """Clips behind each other, padded to the most persons; the size is left open."""
    persons = max(clip.persons for clip in clips)

    def joined(name: str) -> np.ndarray:
        arrays = (getattr(clip, name) for clip in clips)
        pad = [(0, 0), (0, persons)]
        padded = (np.pad(a, pad + [(0, 0)] * (a.ndim - 2))[:, :persons] for a in arrays)
        return np.concatenate(list(padded))

    points: dict[str, Any] = {name: joined(name) for name in POINTS}
    return KeypointClip(**points)


def _pack_keypoints(clip: KeypointClip) -> bytes:
    arrays = {name: getattr(clip, name) for name in POINTS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _unpack_keypoints(data: bytes) -> KeypointClip:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        points: dict[str, Any] = {name: arrays[name] for name in POINTS}
        return KeypointClip(**points)


@dataclass(frozen=True)
class EncodedSource(ClipSource):
    """The `encoded` kind of prepared data set."""

    folder: Path
    images: bool
    index: StoredIndex
    records: Any

    def __len__(self) -> int:
        return len(self.index.names)

    def clip(self, number: int) -> FileClip:
        name = self.index.names[number]
        with readable_record(self.folder, name):
            return decode_clip(self.records[number], name)

    def name(self, number: int) -> str:
        return self.index.names[number]

    def frames(self, number: int) -> int:
        return self.index.frames[number]

    def fingerprint(self) -> str:
        return self.index.fingerprint


def open_encoded(folder: Path) -> EncodedSource:
    """Raises `UserError` for a missing or damaged data set."""
    index = read_index(folder)
    records = open_shards(folder / CLIPS, len(index.names))
    return EncodedSource(folder, index.images, index, records)
