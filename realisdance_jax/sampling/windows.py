"""Overlapping windows over the frames of a long video, planned on the host for all steps."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from realisdance_jax.shapes import Float, Int, typechecked
from realisdance_jax.utils.errors import UserError

WINDOW_KINDS = ("official", "blend")


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """Which frames each window of each step holds, and how much each of them counts.

    index: (steps, windows, size) frame numbers. weight: same shape, 0 in windows that only pad the
    count to a multiple of the window batch and on all but the last repeat of a frame in a window.
    The result at a frame is sum(weight * window value) / count; count: (steps, frames), the sum of
    the frame's weights, never 0.
    """

    index: Int[np.ndarray, "n w s"]
    weight: Float[np.ndarray, "n w s"]
    count: Float[np.ndarray, "n f"]

    def batches(self, step: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Index and weight of a step's windows, `size` windows at a time."""
        for start in range(0, self.index.shape[1], size):
            chosen = slice(start, start + size)
            yield self.index[step, chosen], self.weight[step, chosen]


def _require(what: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{what}: expected at least {least}, found {value}")


def _check(num_frames: int, size: int, overlap: int) -> None:
    _require("number of frames", num_frames, 1)
    _require("window size", size, 1)
    _require("window overlap", overlap, 0)
    if overlap >= size:
        raise UserError(f"window overlap: expected less than the size {size}, found {overlap}")


def van_der_corput(step: int) -> float:
    """The 64 bits of `step` mirrored at the binary point: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    return int(f"{step:064b}"[::-1], 2) / 2**64


@typechecked
def official_windows(
    step: int, num_frames: int, size: int, stride: int, overlap: int
) -> list[list[int]]:
    """Windows of the released code at sampling step `step` (parity.md: H16).

    The video is a closed loop; a fraction of it, different at every step, is skipped before the
    first window. Windows of neighbouring frames come first, then (stride > 1) ones that take every
    2nd, 4th, ... frame, `stride` kinds at most. One window if all frames fit.
    Raises `UserError` when size or stride is below 1, or overlap is outside 0..size-1.
    """
    _check(num_frames, size, overlap)
    _require("window stride", stride, 1)
    _require("sampling step", step, 0)
    if num_frames <= size:
        return [list(range(num_frames))]
    shift = van_der_corput(step)
    pad = round(num_frames * shift)
    kinds = min(stride, math.ceil(math.log2(num_frames / size)) + 1)
    return [
        [(start + k * gap) % num_frames for k in range(size)]
        for gap in (2**kind for kind in range(kinds))
        for start in range(int(shift * gap) + pad, num_frames + pad, size * gap - overlap)
    ]


@typechecked
def blend_windows(num_frames: int, size: int, overlap: int) -> list[list[int]]:
    """Windows of neighbouring frames, without wrapping; the last one ends at the last frame.

    One window if all frames fit. Raises `UserError` as `official_windows`.
    """
    _check(num_frames, size, overlap)
    if num_frames <= size:
        return [list(range(num_frames))]
    last = num_frames - size
    starts = [*range(0, last, size - overlap), last]
    return [list(range(start, start + size)) for start in starts]


def triangular_weights(size: int) -> Float[np.ndarray, "f"]:
    """1, 2, ... up to the middle and back to 1: a window counts most where it knows most around."""
    position = np.arange(size)
    return (1 + np.minimum(position, position[::-1])).astype(np.float32)


def last_repeat(window: list[int]) -> Float[np.ndarray, "f"]:
    """1, or 0 at frames that come again later in the window: a value written twice counts once."""
    seen_later = [frame in window[k + 1 :] for k, frame in enumerate(window)]
    return 1 - np.asarray(seen_later, np.float32)


@typechecked
def plan_windows(
    kind: str,
    steps: int,
    num_frames: int,
    size: int,
    stride: int,
    overlap: int,
    window_batch: int = 1,
) -> WindowPlan:
    """Windows and weights of every sampling step, with the same number of windows at each.

    official: `official_windows`, each frame counting 1; if a frame repeats inside a window only
    the last repeat counts (parity.md: H16). blend: `blend_windows`, the same at all steps, weights
    falling off towards the ends of a window; `stride` must be 1.
    Raises `UserError` on an unknown kind or a number out of range.
    """
    if kind not in WINDOW_KINDS:
        raise UserError(f"windows: expected {' or '.join(WINDOW_KINDS)}, found {kind!r}")
    _require("sampling steps", steps, 1)
    _require("window batch", window_batch, 1)
    if kind == "blend":
        if stride != 1:
            raise UserError(f"window stride: expected 1 for blended windows, found {stride}")
        lists = [blend_windows(num_frames, size, overlap)] * steps
    else:
        lists = [official_windows(i, num_frames, size, stride, overlap) for i in range(steps)]
    most = -(-max(map(len, lists)) // window_batch) * window_batch
    length = len(lists[0][0])
    index = np.zeros((steps, most, length), np.int32)
    index[:] = np.arange(length)
    weight = np.zeros((steps, most, length), np.float32)
    for i, windows in enumerate(lists):
        index[i, : len(windows)] = windows
        for k, window in enumerate(windows):
            weight[i, k] = triangular_weights(length) if kind == "blend" else last_repeat(window)
    count = np.zeros((steps, num_frames), np.float32)
    np.add.at(count, (np.arange(steps)[:, None, None], index), weight)
    return WindowPlan(index, weight, count)
