"""Curves as a PNG, drawn with OpenCV: what the results folder needs and no more."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from realisdance_jax.data.images import save_png

SIZE, MARGIN = (480, 720), (40, 60)
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189))
FONT = cv2.FONT_HERSHEY_SIMPLEX

Curve = tuple[Sequence[float], Sequence[float]]


def _write(canvas: np.ndarray, text: str, x: float, y: float, colour=(60, 60, 60)) -> None:
    cv2.putText(canvas, text, (int(x), int(y)), FONT, 0.42, colour, 1, cv2.LINE_AA)


def plot(path: Path, title: str, curves: Mapping[str, Curve], axes: tuple[str, str]) -> None:
    """Curves (x values, y values) by name on linear axes; y starts at 0."""
    height, width = SIZE
    top, left = MARGIN
    inner = height - 2 * top, width - left - 20
    canvas = np.full((height, width, 3), 255, np.uint8)
    longest = max(float(np.max(x)) for x, _ in curves.values())
    highest = 1.05 * max(float(np.max(y)) for _, y in curves.values())
    _write(canvas, title, left, top - 16, (0, 0, 0))
    for i in range(6):
        y = top + inner[0] * (1 - i / 5)
        cv2.line(canvas, (left, int(y)), (left + inner[1], int(y)), (225, 225, 225), 1)
        _write(canvas, f"{highest * i / 5:.3g}", 8, y + 4)
        x = left + inner[1] * i / 5
        _write(canvas, f"{longest * i / 5:.0f}", x - 8, height - top + 18)
    _write(canvas, axes[0], left + inner[1] / 2, height - 6)
    _write(canvas, axes[1], 8, top - 16)
    for number, (name, (x, y)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        across = left + inner[1] * np.asarray(x, float) / longest
        down = top + inner[0] * (1 - np.asarray(y, float) / highest)
        points = np.stack([across, down], axis=1).round().astype(np.int32)
        cv2.polylines(canvas, [points], False, colour, 2, cv2.LINE_AA)
        _write(canvas, name, left + inner[1] - 230, top + 16 * (number + 1), colour)
    save_png(path, canvas)
