"""Videos and data sets of `benchmarks.data`: the same clips in the three ways of storing them."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from realisdance_jax.data.builder import write_cached, write_encoded
from realisdance_jax.data.catalogue import open_raw
from realisdance_jax.data.config import CONDITIONS, DataConfig
from realisdance_jax.data.synthetic_clips import SyntheticClip
from realisdance_jax.data.validation import Verdict
from realisdance_jax.data.video_io import VideoWriter

FPS = 24
CRF = 23  # x264's default, as videos from the web
TOKENS = 375  # of DINOv2 on a 320x240 picture
REFERENCES = 8
GRAIN, GRAINS = 5.0, 7
"""Deviation in grey levels, and how many different frames of it."""
NAMES = ("raw folder", "ArrayRecord, mp4 bytes", "ArrayRecord, cached")


@dataclass(frozen=True)
class Films:
    """source: height and width of the videos, `clips` of them with `frames` each. width: of the
    tokens. target: what examples are read as."""

    source: tuple[int, int]
    clips: int
    frames: int
    width: int
    target: DataConfig


def texture(seed: int, source: tuple[int, int]) -> np.ndarray:
    """Smooth noise of several sizes, a stand-in for a room; twice as wide as a frame."""
    rng = np.random.default_rng(seed)
    height, width = source[0], 2 * source[1]
    layers = [
        cv2.resize(rng.random((height // s, width // s, 3), np.float32), (width, height)) * s
        for s in (4, 16, 64)
    ]
    picture = np.sum(layers, axis=0)
    return (255 * picture / picture.max()).astype(np.uint8)


def film(clip: SyntheticClip, source: tuple[int, int]) -> Iterator[np.ndarray]:
    """The figure of `clip` before a background that moves two pixels per frame, with film grain."""
    room = texture(clip.number, source)
    grain = np.random.default_rng(0).normal(0, GRAIN, (GRAINS, *source, 1)).astype(np.int16)
    for index, frame in enumerate(clip.film(range(clip.frames))):
        plain = np.all(frame == frame[0, 0], axis=-1)
        left = 2 * index % source[1]
        frame[plain] = room[:, left : left + source[1]][plain]
        yield np.clip(frame + grain[index % GRAINS], 0, 255).astype(np.uint8)


def keypoints(clip: SyntheticClip, source: tuple[int, int]) -> list[dict[str, Any]]:
    """DWPose of one person, as the official files hold it."""
    frames = []
    for index in range(clip.frames):
        joints, hands = clip.points(index)
        bodies = {"candidate": joints, "subset": np.arange(18.0)[None]}
        size = {"H": source[0], "W": source[1]}
        frames.append({"bodies": bodies, "hands": hands, "faces": -np.ones((1, 68, 2)), **size})
    return frames


def write_raw(root: Path, films: Films) -> None:
    """The official folder layout."""
    size = films.source
    for number in range(films.clips):
        clip = SyntheticClip(number, films.frames, size)
        streams = {"video": film(clip, size)}
        for name in ("hamer", "smpl"):
            streams[name] = clip.condition(name, range(films.frames), {})
        for name, pictures in streams.items():
            with VideoWriter(root / name / f"{number}.mp4", FPS, size, crf=CRF) as writer:
                for picture in pictures:
                    writer.write(picture)
        (root / "dwpose").mkdir(exist_ok=True)
        (root / "dwpose" / f"{number}.pkl").write_bytes(pickle.dumps(keypoints(clip, size)))


@dataclass(frozen=True)
class Stand:
    """Numbers of the right shapes in place of the networks."""

    width: int
    name: str = "stand-in"

    def posterior(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        f, height, width, _ = pictures.shape
        latents = np.random.default_rng(0).random((2, f, height // 8, width // 8, 4), np.float32)
        return latents[0], latents[1]

    def tokens(self, pictures: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(0)
        return random.random((len(pictures), TOKENS, self.width), np.float32)


def prepare(root: Path, films: Films) -> dict[str, Path]:
    """Write the clips in all three ways, those that are not there yet."""
    places = dict(zip(NAMES, (root / "raw", root / "encoded", root / "cached"), strict=True))
    raw, encoded, cached = places.values()
    if not raw.exists():
        write_raw(raw, films)
    source = open_raw(str(raw), films.target)
    verdicts = [Verdict(source.name(number), films.frames) for number in range(films.clips)]
    if not encoded.exists():
        write_encoded(source, verdicts, CONDITIONS, encoded)
    if not cached.exists():
        networks = Stand(films.width)
        size = films.target.size
        write_cached(source, verdicts, CONDITIONS, cached, networks, size, REFERENCES)
    return places
