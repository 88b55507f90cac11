"""Driver files to stacked condition pictures, streamed at the target size."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realisdance_jax.data.transforms import crop_resize
from realisdance_jax.data.video_io import VideoInfo, probe_video, read_frames
from realisdance_jax.models.config import CONDITIONS
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.sampling.config import FPS_RANGE, SampleConfig
from realisdance_jax.shapes import Float
from realisdance_jax.utils.errors import UserError

ASSUMED_FPS = 24.0
"""Driver rate where no file tells one (as the released keypoints, or folders of pictures)."""

StrPath = str | Path


@dataclass(frozen=True, eq=False)
class Driver:
    """The opened driver of one clip.

    videos: files of rendered conditions. keypoints: DWPose, where it comes as such. size: height
    and width in pixels at which keypoints are drawn (parity.md: preprocessing). source_fps: of the
    driver, None if no file tells. fps: of the output. indices: driver frames to use, ascending.
    """

    videos: dict[str, Path]
    keypoints: KeypointClip | None
    size: tuple[int, int]
    source_fps: float | None
    fps: float
    indices: tuple[int, ...]

    @property
    def present(self) -> tuple[str, ...]:
        """Conditions that have a file, in channel order."""
        given = {*self.videos, *(("dwpose",) if self.keypoints else ())}
        return tuple(name for name in CONDITIONS if name in given)

    def frames(self, name: str) -> Iterator[np.ndarray]:
        """Source pictures (uint8 RGB) of one condition, one per index."""
        if name in self.videos:
            return read_frames(self.videos[name], self.indices)
        assert self.keypoints is not None
        return (draw_dwpose(self.keypoints, index, self.size) for index in self.indices)

    def notes(self, names: Sequence[str]) -> list[str]:
        """What the user should know, given the conditions that the model takes."""
        absent = [name for name in names if name not in self.present]
        lines = [f"{name}: not given, black frames instead" for name in absent]
        if self.source_fps is None:
            lines.append(f"no driver tells its frame rate: {self.fps:g} fps for the output")
        return lines


def open_driver(
    dwpose: StrPath | None,
    hamer: StrPath | None,
    smpl: StrPath | None,
    config: SampleConfig,
    trim: bool = False,
) -> Driver:
    """Probe the driver files (any subset of the three, at least one) without decoding them all.

    DWPose may be official keypoints (.pkl, .json, a folder of JSON) or a video of drawn poses.
    Raises `UserError` when none is given, when one is unreadable or has no frame, when frame
    counts differ and `trim` is off, and when the output's rate would be out of range.
    """
    given = {"dwpose": dwpose, "hamer": hamer, "smpl": smpl}
    paths = {name: Path(path) for name, path in given.items() if path is not None}
    if not paths:
        raise UserError("expected at least one of --dwpose, --hamer, --smpl, found none")
    videos, keypoints = dict(paths), None
    if "dwpose" in paths and _holds_keypoints(paths["dwpose"]):
        keypoints = read_dwpose(videos.pop("dwpose"))
    infos = {name: probe_video(path) for name, path in videos.items()}
    counts = {paths[name]: info.frames for name, info in infos.items()}
    if keypoints is not None:
        counts = {paths["dwpose"]: keypoints.frames, **counts}
    count = _common_count(counts, trim)
    size = _drawing_size(infos, keypoints, paths)
    rate = source_fps(infos, keypoints)
    fps = _output_fps(rate, config)
    indices = tuple(range(0, count, config.stride)[: config.max_frames])
    return Driver(videos, keypoints, size, rate, fps, indices)


def _holds_keypoints(path: Path) -> bool:
    if os.path.isdir(path):
        return any(path.glob("*.json"))
    return path.suffix.lower() in (".pkl", ".pickle", ".json")


def _common_count(counts: dict[Path, int], trim: bool) -> int:
    least = min(counts.values())
    if len(set(counts.values())) > 1 and not trim:
        listed = ", ".join(f"{count} in {path}" for path, count in counts.items())
        raise UserError(
            f"expected equal frame counts, found {listed}; --trim uses the first {least}"
        )
    return least


def _drawing_size(
    infos: dict[str, VideoInfo], keypoints: KeypointClip | None, paths: dict[str, Path]
) -> tuple[int, int]:
    """That of the HaMeR video, as released, else of the next best file."""
    for name in ("hamer", "smpl", "dwpose"):
        if name in infos:
            return infos[name].height, infos[name].width
    if keypoints is None or keypoints.size is None:
        raise UserError(
            f"{paths['dwpose']}: expected H and W beside the keypoints where no video tells the "
            "frame size, found neither"
        )
    return keypoints.size


def source_fps(infos: dict[str, VideoInfo], keypoints: KeypointClip | None) -> float | None:
    """Frames per second of the driver: that of the first video, else of the keypoints."""
    rates = [info.fps for info in infos.values()]
    rates.append(keypoints.fps if keypoints else None)
    return next((rate for rate in rates if rate), None)


def _output_fps(source_fps: float | None, config: SampleConfig) -> float:
    fps = config.fps or (source_fps or ASSUMED_FPS) / config.stride
    low, high = FPS_RANGE
    if not low <= fps <= high:
        raise UserError(
            f"fps: expected {low:g} to {high:g} for driver / stride, found {fps:g}; --fps sets it"
        )
    return fps


def stacked_conditions(
    driver: Driver, names: Sequence[str], size: tuple[int, int]
) -> Iterator[Float[np.ndarray, "H W c"]]:
    """Per frame, pictures of `names` at `size` in [0, 1], stacked on channels; absent ones black.

    Raises `UserError` when the driver holds a condition that is not among `names`, and, while
    iterating, when a file turns out to be damaged.
    """
    if extra := set(driver.present) - set(names):
        raise UserError(
            f"{min(extra)}: expected conditions that these weights know ({', '.join(names)})"
        )
    return _stack(driver, names, size)


def _stack(driver: Driver, names: Sequence[str], size: tuple[int, int]) -> Iterator[np.ndarray]:
    black = np.zeros((*size, 3), np.float32)
    streams = {name: driver.frames(name) for name in driver.present}
    for _ in driver.indices:
        pictures = {name: crop_resize(next(stream), size) for name, stream in streams.items()}
        yield np.concatenate([pictures.get(name, black) for name in names], axis=-1)
