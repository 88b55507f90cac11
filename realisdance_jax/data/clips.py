"""One clip, wherever it lies: a film and its pose pictures, frame by frame."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from realisdance_jax.data.blobs import Source
from realisdance_jax.data.images import read_image
from realisdance_jax.data.video_io import probe_video, read_frames
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.utils.errors import UserError

Media = Source | tuple[Source, ...]
"""A video or folder of pictures; or one picture per frame."""

Keypoints = Path | tuple[Path, ...] | KeypointClip
"""DWPose: one file or folder; or one file per frame; or read already."""

Sizes = Mapping[int, tuple[int, int]]
"""Frame number -> height and width of the film there."""


class Clip(Protocol):
    """What an example is made of. Pictures are uint8 RGB, H W 3; indices ascend, no repeats.

    All methods raise `UserError` for what cannot be read.
    """

    @property
    def name(self) -> str:
        """Short and unique within its source."""
        ...

    def length(self) -> int:
        """Frames of the film and of every condition; `UserError` if they differ."""
        ...

    def film(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames of the film."""
        ...

    def condition(self, name: str, indices: Sequence[int], sizes: Sizes) -> Iterator[np.ndarray]:
        """Pictures of one condition; DWPose is drawn at the `sizes` of the film."""
        ...


@dataclass(frozen=True, eq=False)
class FileClip:
    """A `Clip` of files, or of their contents in memory.

    rendered: pictures of a condition. keypoints: DWPose to be drawn.
    """

    name: str
    media: Media
    rendered: Mapping[str, Media]
    keypoints: Keypoints | None = None

    @property
    def streams(self) -> dict[str, Media | Keypoints]:
        """Film and conditions by the names of their folders in the official layout."""
        dwpose = {} if self.keypoints is None else {"dwpose": self.keypoints}
        return {"video": self.media, **dwpose, **self.rendered}

    @cached_property
    def pose_clip(self) -> KeypointClip:
        """Keypoints of all frames."""
        if isinstance(self.keypoints, KeypointClip):
            return self.keypoints
        if isinstance(self.keypoints, Path):
            return read_dwpose(self.keypoints)
        raise TypeError("keypoints in one file per frame are read frame by frame")

    def length(self) -> int:
        counts = {stream: self._count(media) for stream, media in self.streams.items()}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count} in {stream}" for stream, count in counts.items())
            raise UserError(f"{self.name}: expected equal frame counts, found {found}")
        return counts["video"]

    def _count(self, media: Media | Keypoints) -> int:
        if isinstance(media, tuple):
            return len(media)
        if isinstance(media, KeypointClip) or media is self.keypoints:
            return self.pose_clip.frames
        return probe_video(media).frames

    def film(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return media_pictures(self.media, indices)

    def condition(self, name: str, indices: Sequence[int], sizes: Sizes) -> Iterator[np.ndarray]:
        if name in self.rendered:
            yield from media_pictures(self.rendered[name], indices)
            return
        for index in indices:
            if isinstance(self.keypoints, tuple):
                yield draw_dwpose(read_dwpose(self.keypoints[index]), 0, sizes[index])
            else:
                yield draw_dwpose(self.pose_clip, index, sizes[index])


def media_pictures(media: Media, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames by ascending number. Alpha is dropped, as the release does."""
    if isinstance(media, tuple):
        return (read_image(media[index], "drop") for index in indices)
    return read_frames(media, indices)
