"""The inputs of one animation, opened one by one: every fault is found, not just the first."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from realisdance_jax.data.video_io import VideoInfo, probe_video
from realisdance_jax.models.config import CONDITIONS
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.dwpose_files import read_dwpose
from realisdance_jax.poses.dwpose_people import one_person
from realisdance_jax.poses.smpl_cs import BodyLook
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.utils.errors import UserError

Size = tuple[int, int]

KEYPOINT_SUFFIXES = (".pkl", ".pickle", ".json")


@dataclass(frozen=True)
class Case:
    """What `sample` would be given, and what to hold it against.

    drivers: files by condition. reference_keypoints: DWPose of the reference. look: the body
    condition that the weights were trained with. memory: bytes of the device, None to ask it.
    verify: read the weights whole and compare their hashes.
    """

    weights: Path | None = None
    reference: Path | None = None
    drivers: dict[str, Path] = field(default_factory=dict)
    reference_keypoints: Path | None = None
    audio: Path | None = None
    config: SampleConfig = field(default_factory=SampleConfig)
    trim: bool = False
    dtype: str = "float32"
    look: BodyLook = "sd"
    memory: int | None = None
    verify: bool = False


@dataclass(frozen=True, eq=False)
class Driver:
    """Those driver files that can be read.

    paths: by condition. videos: rendered ones. keypoints: DWPose as such. failures: why the others
    cannot be read.
    """

    paths: dict[str, Path]
    videos: dict[str, VideoInfo]
    keypoints: KeypointClip | None
    failures: dict[str, str]

    @cached_property
    def dancer(self) -> KeypointClip | None:
        """Keypoints of the one person whom the other conditions show: the largest of each frame."""
        return None if self.keypoints is None else one_person(self.keypoints, "largest")

    @property
    def counts(self) -> dict[str, int]:
        """Frames by condition."""
        counts = {name: info.frames for name, info in self.videos.items()}
        return counts if self.keypoints is None else {"dwpose": self.keypoints.frames, **counts}

    @property
    def sizes(self) -> dict[str, Size]:
        """Height and width of the frames by condition, where known."""
        sizes = {name: (info.height, info.width) for name, info in self.videos.items()}
        known = self.keypoints is not None and self.keypoints.size
        return {"dwpose": known, **sizes} if known else sizes

    @property
    def rates(self) -> dict[str, float]:
        """Frames per second by condition, where known."""
        rates = {name: info.fps for name, info in self.videos.items()}
        rates |= {"dwpose": self.keypoints.fps} if self.keypoints else {}
        return {name: rate for name, rate in rates.items() if rate}

    def used(self, config: SampleConfig) -> tuple[int, ...]:
        """Numbers of the frames that sampling takes."""
        count = min(self.counts.values(), default=0)
        return tuple(range(0, count, config.stride)[: config.max_frames])


def open_driver(drivers: dict[str, Path]) -> Driver:
    """Open every driver file; those that cannot be read are in `failures`."""
    videos, keypoints, failures = {}, None, {}
    for name, path in _in_order(drivers):
        try:
            if name == "dwpose" and holds_keypoints(path):
                keypoints = read_dwpose(path)
            else:
                videos[name] = probe_video(path)
        except UserError as problem:
            failures[name] = str(problem)
    return Driver(dict(drivers), videos, keypoints, failures)


def holds_keypoints(path: Path) -> bool:
    """Whether a DWPose input is keypoints rather than pictures."""
    if os.path.isdir(path):
        return any(path.glob("*.json"))
    return path.suffix.lower() in KEYPOINT_SUFFIXES


def _in_order(drivers: dict[str, Path]) -> Iterator[tuple[str, Path]]:
    return ((name, drivers[name]) for name in CONDITIONS if name in drivers)
