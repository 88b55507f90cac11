"""Dancers by number as a source of training data, and their clips as files in memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from realisdance_jax.data.blobs import Blob
from realisdance_jax.data.clips import FileClip
from realisdance_jax.data.corruptions import KINDS, Corruption
from realisdance_jax.data.dancer_clips import DancerClip, split_seeds
from realisdance_jax.data.sources import ClipSource, hashed
from realisdance_jax.poses.frame_pool import in_pool

DRAWING = 2
"""Raised when the same numbers give other pictures."""


@dataclass(frozen=True)
class DancerSource(ClipSource):
    """count clips of `length` frames, height and width `size`, of a split, see `split_seeds`."""

    count: int
    length: int
    size: tuple[int, int]
    split: str = "train"
    corruption: Corruption = field(default_factory=Corruption)
    images: bool = False

    def __post_init__(self) -> None:
        self.clip(self.count - 1)

    def __len__(self) -> int:
        return self.count

    def clip(self, number: int) -> DancerClip:
        seeds = split_seeds(self.split, number)
        return DancerClip(*seeds, self.length, self.size, self.corruption)

    def name(self, number: int) -> str:
        return self.clip(number).name

    def frames(self, number: int) -> int:
        return self.length

    def fingerprint(self) -> str:
        what: tuple = (self.count, self.length, self.size, self.split, self.corruption)
        if self.corruption.kinds != KINDS:
            what = (*what, self.corruption.kinds)
        return hashed([f"dancer {DRAWING} {what}"])


@dataclass(frozen=True)
class PackedSource(ClipSource):
    """The clips of dancers as lossless pictures in memory, for `write_encoded` and `write_cached`.

    processes: that draw when many clips are wanted; 1 draws here.
    """

    drawn: DancerSource
    conditions: tuple[str, ...]
    images: bool = False
    processes: int = 1

    def __len__(self) -> int:
        return len(self.drawn)

    def clip(self, number: int) -> FileClip:
        return packed_clip(self.drawn.clip(number), self.conditions)

    def successive(self, numbers: Iterable[int]) -> Iterator[FileClip]:
        """As `clip`, each drawn by a process of its own."""
        if self.processes == 1:
            return map(self.clip, numbers)
        return in_pool(self.clip, numbers, self.processes)

    def name(self, number: int) -> str:
        return self.drawn.name(number)

    def frames(self, number: int) -> int:
        return self.drawn.frames(number)

    def fingerprint(self) -> str:
        return self.drawn.fingerprint()


def packed_clip(clip: DancerClip, conditions: Sequence[str]) -> FileClip:
    """All pictures of a clip as PNG files in memory; corruptions are drawn in for good."""
    every = range(clip.length())
    rendered = {name: _files(clip.condition(name, every, {}), name) for name in conditions}
    return FileClip(clip.name, _files(clip.film(every), "video"), rendered)


def _files(pictures: Iterable[np.ndarray], name: str) -> tuple[Blob, ...]:
    return tuple(
        Blob(cv2.imencode(".png", picture[..., ::-1])[1].tobytes(), f"{name} {number}.png")
        for number, picture in enumerate(pictures)
    )
