"""Clips by number, from files or drawn, and one training example out of any of them."""

import abc
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from realisdance_jax.data.clips import Clip, FileClip
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.samples import Sample, Streams, make_sample
from realisdance_jax.data.synthetic_clips import SyntheticClip
from realisdance_jax.data.video_io import probe_video
from realisdance_jax.poses.clips import KeypointClip


class Source(Protocol):
    """What a pipeline needs. Pickled to worker processes."""

    @property
    def images(self) -> bool:
        """Whether clips are lines of an image list."""
        ...

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """What reports call a clip."""
        ...

    def frames(self, number: int) -> int:
        """Length of its film, without decoding."""
        ...

    def fingerprint(self) -> str:
        """Hash that changes when the clips do, but not with the folder they lie in."""
        ...

    def sample(self, number: int, config: DataConfig, streams: Streams) -> Sample:
        """One example; `UserError` when the clip is unreadable or too short."""
        ...


class ClipSource(abc.ABC):
    """A `Source` whose clips can be read whole."""

    images: bool

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def clip(self, number: int) -> Clip:
        """A clip, not yet read."""

    @abc.abstractmethod
    def name(self, number: int) -> str: ...

    @abc.abstractmethod
    def frames(self, number: int) -> int: ...

    @abc.abstractmethod
    def fingerprint(self) -> str: ...

    def successive(self, numbers: Iterable[int]) -> Iterator[Clip]:
        """Clips to be read whole, one after another."""
        return map(self.clip, numbers)

    def sample(self, number: int, config: DataConfig, streams: Streams) -> Sample:
        """Pictures of one example, see `make_sample`."""
        return make_sample(self.clip(number), config, streams, self.images)


@dataclass(frozen=True)
class FileSource(ClipSource):
    """Clips of an official folder or image list."""

    clips: tuple[FileClip, ...]
    images: bool = False

    def __len__(self) -> int:
        return len(self.clips)

    def clip(self, number: int) -> FileClip:
        # A copy, so that the keypoints it caches go when the example is done.
        return dataclasses.replace(self.clips[number])

    def name(self, number: int) -> str:
        return self.clips[number].name

    def frames(self, number: int) -> int:
        media = self.clips[number].media
        return len(media) if isinstance(media, tuple) else probe_video(media).frames

    def fingerprint(self) -> str:
        """From the order, names and sizes of all files."""
        return hashed(line for clip in self.clips for line in _describe(clip))


def _describe(clip: FileClip) -> Iterator[str]:
    for stream, media in clip.streams.items():
        if isinstance(media, KeypointClip):
            continue
        for name, size in _listed(media):
            yield f"{clip.name} {stream} {name} {size}"


def _listed(media: Any) -> Iterator[tuple[str, int]]:
    """Names and sizes of a stream's files, named from the folder that holds them all."""
    if isinstance(media, tuple):
        files = [os.path.abspath(str(file)) for file in media]
        common = os.path.commonpath([os.path.dirname(file) for file in files])
        for file in files:
            yield os.path.relpath(file, common), _size(file)
    elif os.path.isdir(str(media)):
        yield Path(media).name, 0
        for entry in sorted(os.listdir(media)):
            if not entry.startswith("."):
                yield entry, _size(os.path.join(media, entry))
    else:
        yield Path(str(media)).name, _size(str(media))


def _size(path: str) -> int:
    """Bytes of a file, or -1."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


@dataclass(frozen=True)
class SyntheticSource(ClipSource):
    """Drawn clips: how many, of how many frames, of what height and width."""

    count: int
    length: int
    size: tuple[int, int]
    images: bool = False

    def __len__(self) -> int:
        return self.count

    def clip(self, number: int) -> SyntheticClip:
        return SyntheticClip(number, self.length, self.size)

    def name(self, number: int) -> str:
        return self.clip(number).name

    def frames(self, number: int) -> int:
        return self.length

    def fingerprint(self) -> str:
        return hashed([f"synthetic 1 {self.count} {self.length} {self.size}"])


def hashed(lines: Iterable[str] | Sequence[str]) -> str:
    """SHA-256 of text lines."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
