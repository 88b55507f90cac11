"""Frames per second of the input pipeline: `python -m benchmarks.data --out FILE.md`.

Makes 1080p clips of 24 frames per second, stores them in the three ways there are, and reads
examples of 16 frames at stride 4 for 768x576. The cache holds numbers in place of what the networks
would give: how fast it is read does not depend on them.
"""

import argparse
import datetime
import os
import pickle
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.measure import processor
from realisdance_jax.data.builder import write_cached, write_encoded
from realisdance_jax.data.catalogue import open_raw
from realisdance_jax.data.config import CONDITIONS, DataConfig
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.data.synthetic_clips import SyntheticClip
from realisdance_jax.data.validation import Verdict
from realisdance_jax.data.video_io import VideoWriter
from realisdance_jax.utils.errors import exit_on_user_error
from realisdance_jax.utils.files import atomic_output

SOURCE, FPS = (1080, 1920), 24
TARGET = DataConfig(batch=1, frames=16, stride=4, size=(768, 576))
TOKENS, WIDTH = 375, 1024  # of DINOv2-large on a 320x240 picture
REFERENCES = 8
GRAIN, GRAINS = 5.0, 7
"""Deviation in grey levels, and how many different frames of it."""
CRF = 23  # x264's default, as videos from the web
WORKERS = (0, 2)
NAMES = ("raw folder", "ArrayRecord, mp4 bytes", "ArrayRecord, cached")


def texture(seed: int) -> np.ndarray:
    """Smooth noise of several sizes, a stand-in for a room; twice as wide as a frame."""
    rng = np.random.default_rng(seed)
    height, width = SOURCE[0], 2 * SOURCE[1]
    layers = [
        cv2.resize(rng.random((height // s, width // s, 3), np.float32), (width, height)) * s
        for s in (4, 16, 64)
    ]
    picture = np.sum(layers, axis=0)
    return (255 * picture / picture.max()).astype(np.uint8)


def film(clip: SyntheticClip) -> Iterator[np.ndarray]:
    """The figure of `clip` before a background that moves two pixels per frame, with film grain."""
    room = texture(clip.number)
    grain = np.random.default_rng(0).normal(0, GRAIN, (GRAINS, *SOURCE, 1)).astype(np.int16)
    for index, frame in enumerate(clip.film(range(clip.frames))):
        plain = np.all(frame == frame[0, 0], axis=-1)
        frame[plain] = room[:, 2 * index : 2 * index + SOURCE[1]][plain]
        yield np.clip(frame + grain[index % GRAINS], 0, 255).astype(np.uint8)


def keypoints(clip: SyntheticClip) -> list[dict[str, Any]]:
    """DWPose of one person, as the official files hold it."""
    frames = []
    for index in range(clip.frames):
        joints, hands = clip.points(index)
        bodies = {"candidate": joints, "subset": np.arange(18.0)[None]}
        faces = -np.ones((1, 68, 2))
        frames.append({"bodies": bodies, "hands": hands, "faces": faces, "H": 1080, "W": 1920})
    return frames


def write_raw(root: Path, clips: int, frames: int) -> None:
    """The official folder layout."""
    for number in range(clips):
        clip = SyntheticClip(number, frames, SOURCE)
        streams = {"video": film(clip)}
        for name in ("hamer", "smpl"):
            streams[name] = clip.condition(name, range(frames), {})
        for name, pictures in streams.items():
            with VideoWriter(root / name / f"{number}.mp4", FPS, SOURCE, crf=CRF) as writer:
                for picture in pictures:
                    writer.write(picture)
        (root / "dwpose").mkdir(exist_ok=True)
        (root / "dwpose" / f"{number}.pkl").write_bytes(pickle.dumps(keypoints(clip)))


class Stand:
    """Numbers of the right shapes in place of the networks."""

    name = "stand-in"

    def posterior(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        f, height, width, _ = pictures.shape
        latents = np.random.default_rng(0).random((2, f, height // 8, width // 8, 4), np.float32)
        return latents[0], latents[1]

    def tokens(self, pictures: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).random((len(pictures), TOKENS, WIDTH), np.float32)


def prepare(root: Path, clips: int, frames: int) -> dict[str, Path]:
    """Write the clips in all three ways."""
    places = dict(zip(NAMES, (root / "raw", root / "encoded", root / "cached"), strict=True))
    raw, encoded, cached = places.values()
    if not raw.exists():
        write_raw(raw, clips, frames)
    source = open_raw(str(raw), TARGET)
    verdicts = [Verdict(source.name(number), frames) for number in range(clips)]
    if not encoded.exists():
        write_encoded(source, verdicts, CONDITIONS, encoded)
    if not cached.exists():
        write_cached(source, verdicts, CONDITIONS, cached, Stand(), TARGET.size, REFERENCES)
    return places


def frames_per_second(folder: Path, workers: int, seconds: float) -> float:
    """Frames of examples delivered, the first batch (start-up) not counted."""
    config = DataConfig(
        sources=(str(folder),),
        batch=1,
        frames=TARGET.frames,
        stride=TARGET.stride,
        size=TARGET.size,
    )
    with make_batches(config, seed=0, workers=workers) as batches:
        for _ in range(2 + 2 * workers):  # what was read ahead during start-up
            next(batches)
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            next(batches)
            count += 1
        return count * TARGET.frames / (time.perf_counter() - begin)


def bytes_per_frame(folder: Path, frames: int) -> float:
    """On disk, all files of `folder` over `frames`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / frames


def report(speeds: dict[str, list[float]], sizes: dict[str, float], load: float, made: str) -> str:
    """Markdown. speeds: frames/s per way and worker count; sizes: bytes per source frame."""
    base = speeds[NAMES[0]]
    rows = []
    for name, found in speeds.items():
        cells = (
            f"{speed:.1f} ({speed / slow:.1f}x)" for speed, slow in zip(found, base, strict=True)
        )
        rows.append(f"| {name} | {' | '.join(cells)} | {sizes[name] / 1e3:.0f} |")
    columns = " | ".join(f"{workers} workers" for workers in WORKERS)
    height, width = TARGET.size
    return f"""# Input pipeline: frames per second

`python -m benchmarks.data`, {datetime.date.today()}, {os.cpu_count()} x {processor()}, load average
{load:.1f} at the start. {made} of {SOURCE[0]}p at {FPS} fps (H.264, CRF {CRF}).
Examples of {TARGET.frames} frames at stride {TARGET.stride} from any place, {height}x{width}, with
three conditions and a reference, batch 1. In brackets: against the raw folder.

| source | {columns} | kB per source frame on disk |
|---|{"---:|" * (len(WORKERS) + 1)}
{chr(10).join(rows)}

The cache keeps latents and conditions of every frame and DINOv2 tokens of {REFERENCES} frames per
clip. Its conditions stay 8-bit until they are on the device.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.data", description=__doc__)
    parser.add_argument("--out", type=Path, help="Markdown file to write as well")
    parser.add_argument("--clips", type=int, default=4, help="videos to make")
    parser.add_argument("--frames", type=int, default=192, help="of each video")
    parser.add_argument("--seconds", type=float, default=30, help="per measurement")
    parser.add_argument("--folder", type=Path, help="keep the data here; reused when present")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        places = prepare(options.folder or Path(scratch), options.clips, options.frames)
        count = options.clips * options.frames
        sizes = {name: bytes_per_frame(folder, count) for name, folder in places.items()}
        load = os.getloadavg()[0]
        speeds = {
            name: [frames_per_second(folder, n, options.seconds) for n in WORKERS]
            for name, folder in places.items()
        }
    text = report(speeds, sizes, load, f"{options.clips} videos, {options.frames} frames")
    print(text, end="")
    if options.out:
        with atomic_output(options.out) as path:
            path.write_text(text, "utf-8")


if __name__ == "__main__":
    exit_on_user_error(main)
