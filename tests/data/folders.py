"""Small data sets in the official layouts, and clips without files."""

import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realisdance_jax.data.synthetic_clips import SyntheticClip
from realisdance_jax.data.video_io import VideoWriter

FRAMES, SIZE = 9, (48, 64)
RENDERED = ("hamer", "smpl")


def write_video(path: Path, frames, fps: float = 24) -> None:
    frames = list(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps, frames[0].shape[:2]) as writer:
        for frame in frames:
            writer.write(frame)


def keypoint_frames(frames: int, size=SIZE, persons: int = 1) -> list[dict]:
    """DWPose of a figure that walks to the right; empty frames for no persons."""
    out = []
    for number in range(frames):
        body = np.linspace(0.2, 0.8, 36).reshape(18, 2) * (1, 1 - 0.02 * number)
        out.append(
            {
                "bodies": {
                    "candidate": np.tile(body, (persons, 1)),
                    "subset": np.arange(18.0 * persons).reshape(persons, 18),
                },
                "hands": np.tile(np.linspace(0.3, 0.6, 42).reshape(21, 2), (2 * persons, 1, 1)),
                "faces": -np.ones((persons, 68, 2)),
                "H": size[0],
                "W": size[1],
            }
        )
    return out


def write_clip(root: Path, name: str, number: int = 0, frames: int = FRAMES, size=SIZE) -> None:
    """One clip of the official folder layout, all four files."""
    clip = SyntheticClip(number, frames, size)
    every = range(frames)
    write_video(root / "video" / f"{name}.mp4", clip.film(every))
    for kind in RENDERED:
        write_video(root / kind / f"{name}.mp4", clip.condition(kind, every, {}))
    (root / "dwpose").mkdir(exist_ok=True)
    with (root / "dwpose" / f"{name}.pkl").open("wb") as file:
        pickle.dump(keypoint_frames(frames, size), file)


def write_folder(root: Path, clips: int, frames: int = FRAMES, size=SIZE) -> Path:
    """`clips` different clips named 000, 001, ..."""
    for number in range(clips):
        write_clip(root, f"{number:03}", number, frames, size)
    return root


def copy_clip(root: Path, old: str, new: str) -> None:
    for kind, suffix in (("video", "mp4"), ("hamer", "mp4"), ("smpl", "mp4"), ("dwpose", "pkl")):
        shutil.copy(root / kind / f"{old}.{suffix}", root / kind / f"{new}.{suffix}")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@dataclass(frozen=True)
class RampClip:
    """A `Clip` that shows where each pixel comes from: red is the column, green the row.

    scales: condition -> how many times smaller than the film its pictures are.
    """

    size: tuple[int, int]
    frames: int
    scales: dict[str, int]
    name: str = "ramp"

    def length(self) -> int:
        return self.frames

    def film(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        for index in indices:
            yield self._picture(index)

    def condition(self, name, indices, sizes) -> Iterator[np.ndarray]:
        for index in indices:
            picture = self._picture(index)
            height, width = (side // self.scales[name] for side in self.size)
            yield cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)

    def _picture(self, index: int) -> np.ndarray:
        rows, columns = np.indices(self.size)
        return np.stack([columns, rows, np.full(self.size, 10 * index)], -1).astype(np.uint8)
