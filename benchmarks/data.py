"""Frames per second of the input pipeline: `python -m benchmarks.data --preset tiny|small|full`.

Makes clips of 24 frames per second (`full`: 1080p), stores them in the three ways there are, and
reads examples of 16 frames at stride 4 (`full`: for 768x576) with three conditions and a reference.
The cache holds numbers in place of what the networks would give, for latents and conditions of all
frames and tokens of 8 per clip: how fast it is read does not depend on them.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

from benchmarks.films import CRF, FPS, NAMES, Films, prepare
from benchmarks.measure import Report, Row, finish, machine, make_parser, parse
from benchmarks.presets import PRESETS
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.utils.errors import UserError, exit_on_user_error

SOURCES = {"tiny": (72, 128), "small": (360, 640), "full": (1080, 1920)}
"""Height and width of the videos."""
FRAMES, STRIDE = 16, 4
SHARE = 10
"""How many times the raw folder's frames per second a cache should give."""


def example_seconds(
    folder: Path, target: DataConfig, workers: int, seconds: float, runs: int
) -> tuple[float, ...]:
    """Per example, a mean of each run; all runs together take `seconds`, or an example each.

    What is read while the workers start is not counted.
    """
    config = dataclasses.replace(target, sources=(str(folder),))
    found = []
    with make_batches(config, seed=0, workers=workers) as batches:
        for _ in range(2 + 2 * workers):
            next(batches)
        for _ in range(runs):
            begin, count = time.perf_counter(), 0
            while count == 0 or time.perf_counter() - begin < seconds / runs:
                next(batches)
                count += 1
            found.append((time.perf_counter() - begin) / count)
    return tuple(found)


def bytes_per_frame(folder: Path, films: Films) -> float:
    """On disk, all files of `folder` over the frames of the videos."""
    sizes = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return sum(sizes) / (films.clips * films.frames)


def way_rows(places: dict[str, Path], films: Films, options: argparse.Namespace) -> list[Row]:
    """Of each way and number of workers."""
    rows = []
    for name, folder in places.items():
        size = bytes_per_frame(folder, films) / 1e3
        for workers in options.workers:
            seconds = example_seconds(folder, films.target, workers, options.seconds, options.runs)
            row = Row(f"{name}, {workers} workers", seconds)
            row.more.update({"frames/s": FRAMES / row.median, "kB per source frame": size})
            rows.append(row)
    return rows


def conclusions(rows: list[Row]) -> dict[str, float]:
    """Frames per second of the packed ways over those of the raw folder."""
    medians = {row.name: row.median for row in rows}
    found = {}
    for row in rows:
        name, _, workers = row.name.rpartition(", ")
        if name != NAMES[0]:
            least = f" (at least {SHARE})" if name == NAMES[-1] else ""
            label = f"frames/s, {name} / {NAMES[0]}, {workers}{least}"
            found[label] = medians[f"{NAMES[0]}, {workers}"] / row.median
    return found


def run(name: str, options: argparse.Namespace) -> Report:
    """All measurements of a preset."""
    preset, needed = PRESETS[name], STRIDE * (FRAMES - 1) + 1
    if options.frames < needed:
        raise UserError(f"--frames: expected at least {needed}, found {options.frames}")
    target = DataConfig(batch=1, frames=FRAMES, stride=STRIDE, size=preset.size)
    width = preset.model.dino.width
    films = Films(SOURCES[name], options.clips, options.frames, width, target)
    device = machine("float32")
    with tempfile.TemporaryDirectory() as scratch:
        places = prepare(options.folder or Path(scratch), films)
        rows = way_rows(places, films, options)
    settings = {
        "videos": films.clips,
        "frames of each": films.frames,
        "pixels": f"{films.source[1]}x{films.source[0]}",
        "fps": f"{FPS} (H.264, CRF {CRF})",
        "example": f"{FRAMES} frames at stride {STRIDE}",
        "size": f"{preset.size[0]}x{preset.size[1]}",
    }
    record = "data" if name == "full" else ""
    return Report("data", name, settings, device, rows, conclusions(rows), record=record)


def main() -> None:
    parser = make_parser("data", __doc__)
    parser.add_argument("--clips", type=int, default=4, help="videos to make")
    parser.add_argument("--frames", type=int, default=192, help="of each video")
    parser.add_argument("--seconds", type=float, default=20, help="per measurement, of all runs")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="processes")
    parser.add_argument("--folder", type=Path, help="keep the data here; reused when present")
    options = parse(parser)
    finish(run(options.preset, options), options)


if __name__ == "__main__":
    exit_on_user_error(main)
