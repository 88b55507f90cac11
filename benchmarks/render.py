"""Speed of skinning and of the rendered conditions on this machine's CPU.

`python -m benchmarks.render [--out FILE]` prints and writes Markdown. Run it on an idle machine.
"""

import argparse
import datetime
import functools
import os
import platform
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from realisdance_jax.poses.body_models import BodyModel, mano_model, smplx_model
from realisdance_jax.poses.frame_pool import paint_frames
from realisdance_jax.poses.hamer_look import (
    close_wrist,
    full_frame_camera,
    mirrored,
    paint_hands,
)
from realisdance_jax.poses.landmarks import landmark_vertices
from realisdance_jax.poses.lbs import make_skin, skin
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import harmonic_colours, paint_smpl_cs
from realisdance_jax.poses.synthetic_models import synthetic_mano, synthetic_smplx
from realisdance_jax.utils.errors import exit_on_user_error
from realisdance_jax.utils.files import atomic_output

SIZES = ((512, 512), (768, 576), (1080, 1920))
ROUNDS, FRAMES, BATCH = 20, 4, 64
BODY_LIMIT, SKIN_LIMIT = 35.0, 12.0  # ms per frame, of a body at 512x512 and of skinning
RESULT = Path(__file__).parent / "results" / "render.md"

Paint = Callable[[np.ndarray], np.ndarray]


def posed(model: BodyModel, frames: int, place: tuple[float, float, float]) -> np.ndarray:
    """(frames v 3) a model upright before the camera, moving a little."""
    random = np.random.default_rng(0)
    pose = (0.1 * random.normal(size=(frames, len(model.parents), 3))).astype(np.float32)
    pose[:, 0] = [np.pi, 0, 0]
    average = np.zeros((frames, 0), np.float32)
    translation = np.tile(np.array(place, np.float32), (frames, 1))
    vertices, _ = skin(make_skin(model, betas=0, expressions=0), average, pose, translation)
    return np.asarray(vertices)


def painters(size: tuple[int, int]) -> Iterator[tuple[str, Paint, np.ndarray]]:
    """Name, painter of a frame, and the frames; a body fills two thirds of the picture's height."""
    body, hand = smplx_model(synthetic_smplx()), mano_model(synthetic_mano())
    colours = harmonic_colours(body.template, body.faces, landmark_vertices())
    focal = 1.2 * size[0]
    camera = Camera((focal, focal), (size[1] / 2, size[0] / 2))
    frames = posed(body, FRAMES, (0.0, -0.45, 3.2))
    for look in ("sd", "dit"):
        paint = functools.partial(
            paint_smpl_cs, faces=body.faces, colours=colours, camera=camera, size=size, look=look
        )
        yield f"body, `{look}`", paint, frames
    right = posed(hand, FRAMES, (0.15, 0.0, 18.0)).astype(np.float64)
    hands = np.stack([mirrored(right), right], axis=1)
    paint = functools.partial(
        paint_hands,
        right=np.array([False, True]),
        faces=close_wrist(hand.faces),
        camera=full_frame_camera(size),
        size=size,
    )
    yield "both hands", paint, hands


def median_ms(work: Callable[[], Any]) -> float:
    """Median time of `ROUNDS` calls after a first one."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def skinning_ms() -> float:
    """Per frame of a full-size body, in batches."""
    model = smplx_model(synthetic_smplx())
    random = np.random.default_rng(0)
    arguments = (
        make_skin(model),
        random.normal(size=(BATCH, 20)).astype(np.float32),
        random.normal(size=(BATCH, 55, 3)).astype(np.float32),
        np.zeros((BATCH, 3), np.float32),
    )
    return median_ms(lambda: jax.block_until_ready(skin(*arguments))) / BATCH


def pooled_ms(paint: Paint, frames: np.ndarray) -> tuple[float, float]:
    """Until two processes have painted their first picture, and per frame from then on."""
    count = ROUNDS * FRAMES
    start = time.perf_counter()
    pictures = paint_frames(paint, islice(cycle(frames), count), processes=2)
    next(pictures)
    first = time.perf_counter()
    rest = sum(1 for _ in pictures)
    return 1000 * (first - start), 1000 * (time.perf_counter() - first) / rest


def rows() -> Iterator[str]:
    """One table row per size and painter."""
    for size in SIZES:
        for name, paint, frames in painters(size):
            covered = np.mean(paint(frames[0]).any(axis=-1))
            one = median_ms(lambda p=paint, f=frames: [p(frame) for frame in f]) / FRAMES
            begun, two = pooled_ms(paint, frames)
            yield (
                f"| {size[0]}x{size[1]} | {name} | {100 * covered:.1f} % "
                f"| {one:.1f} | {1000 / one:.0f} | {two:.1f} | {1000 / two:.0f} | {begun:.0f} |"
            )


def report() -> Iterator[str]:
    """The result file, line by line."""
    cores = len(os.sched_getaffinity(0))
    yield "# Rendering the conditions on a CPU"
    yield ""
    yield (
        f"`python -m benchmarks.render`, {datetime.date.today()}, {cores} cores "
        f"({platform.machine()}), load {os.getloadavg()[0]:.1f} at the start, "
        f"NumPy {np.__version__}, jax {jax.__version__}. Medians of {ROUNDS}."
    )
    yield ""
    yield (
        f"Skinning a body of 10,475 vertices, {BATCH} frames at a time: {skinning_ms():.1f} ms per "
        f"frame (limit {SKIN_LIMIT:g}). A body at 512x512 may take {BODY_LIMIT:g} ms."
    )
    yield ""
    head = "| H x W | picture | covered | ms per frame | frames/s | 2 processes: ms | frames/s |"
    yield f"{head} start, ms |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    yield from rows()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=RESULT, help="Markdown file to write")
    options = parser.parse_args()
    lines = []
    for line in report():
        print(line, flush=True)
        lines.append(line)
    with atomic_output(options.out) as partial:
        partial.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    exit_on_user_error(main)
