"""Driver files to stacked condition pictures, streamed at the target size."""

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
from realisdance_jax.shapes import Float
from realisdance_jax.utils.errors import UserError

UNKNOWN_FPS = 24.0
"""Driver rate where no file tells one (DWPose alone)."""


@dataclass(frozen=True, eq=False)
class Driver:
    """The opened driver of one clip.

    indices: driver frames to use, ascending. fps: of the driver. size: height and width at which
    DWPose is drawn, that of the HaMeR video where there is one (spec section 4).
    """

    videos: dict[str, Path]
    keypoints: KeypointClip | None
    size: tuple[int, int]
    fps: float
    indices: tuple[int, ...]

    @property
    def present(self) -> tuple[str, ...]:
        """Conditions that have a file, in channel order."""
        return tuple(
            name
            for name in CONDITIONS
            if name in self.videos or (name == "dwpose" and self.keypoints is not None)
        )

    def frames(self, name: str) -> Iterator[np.ndarray]:
        """Source pictures (uint8 RGB) of one condition, one per index."""
        if name == "dwpose" and self.keypoints is not None:
            for index in self.indices:
                yield draw_dwpose(self.keypoints, index, self.size)
        else:
            yield from read_frames(self.videos[name], self.indices)


def open_driver(
    dwpose: Path | None,
    hamer: Path | None,
    smpl: Path | None,
    stride: int = 4,
    max_frames: int = 80,
    trim: bool = False,
) -> Driver:
    """Probe the driver files (any subset of the three, at least one) without decoding them all.

    DWPose may be official keypoints (.pkl, .json, a folder of JSON) or a video of drawn poses.
    Raises `UserError` when none is given, when one is unreadable, and when frame counts differ and
    `trim` is off.
    """
    paths = {"dwpose": dwpose, "hamer": hamer, "smpl": smpl}
    keypoints = None
    if dwpose is not None and _holds_keypoints(dwpose):
        keypoints = read_dwpose(dwpose)
    videos = {
        name: path
        for name, path in paths.items()
        if path is not None and not (name == "dwpose" and keypoints is not None)
    }
    if not videos and keypoints is None:
        raise UserError("expected at least one of --dwpose, --hamer, --smpl, found none")
    infos = {name: probe_video(path) for name, path in videos.items()}
    counts = {name: info.frames for name, info in infos.items()}
    if keypoints is not None:
        counts["dwpose"] = keypoints.frames
    count = _common_count(counts, paths, trim)
    return Driver(
        videos,
        keypoints,
        _drawing_size(infos, keypoints, dwpose),
        _driver_fps(infos, keypoints),
        tuple(range(0, count, stride)[:max_frames]),
    )


def _holds_keypoints(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.json"))
    return path.suffix.lower() in (".pkl", ".pickle", ".json")


def _common_count(counts: dict[str, int], paths: dict[str, Path | None], trim: bool) -> int:
    least = min(counts.values())
    if least < 1:
        name = min(counts, key=lambda name: counts[name])
        raise UserError(f"{paths[name]}: expected frames, found none")
    if len(set(counts.values())) > 1 and not trim:
        listed = ", ".join(f"{counts[name]} in {paths[name]}" for name in counts)
        raise UserError(
            f"expected equal frame counts, found {listed}; --trim uses the first {least}"
        )
    return least


def _drawing_size(
    infos: dict[str, VideoInfo], keypoints: KeypointClip | None, dwpose: Path | None
) -> tuple[int, int]:
    for name in ("hamer", "smpl", "dwpose"):
        if name in infos:
            return infos[name].height, infos[name].width
    if keypoints is None or keypoints.size is None:
        raise UserError(f"{dwpose}: expected H and W beside the keypoints, found neither")
    return keypoints.size


def _driver_fps(infos: dict[str, VideoInfo], keypoints: KeypointClip | None) -> float:
    rates = [info.fps for info in infos.values()]
    rates.append(keypoints.fps if keypoints is not None else None)
    return next((rate for rate in rates if rate), UNKNOWN_FPS)


def stacked_conditions(
    driver: Driver, names: Sequence[str], size: tuple[int, int]
) -> Iterator[Float[np.ndarray, "H W c"]]:
    """Per frame, the pictures of `names` at `size` in [0, 1], stacked on channels; absent ones black.

    Raises `UserError` when the driver holds a condition that is not among `names`.
    """
    if extra := set(driver.present) - set(names):
        raise UserError(
            f"{min(extra)}: expected conditions that the model knows ({', '.join(names)})"
        )
    black = np.zeros((*size, 3), np.float32)
    streams = {name: driver.frames(name) for name in driver.present}
    for _ in driver.indices:
        pictures = {name: crop_resize(next(stream), size) for name, stream in streams.items()}
        yield np.concatenate([pictures.get(name, black) for name in names], axis=-1)
