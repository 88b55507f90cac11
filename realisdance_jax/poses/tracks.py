"""Numbers over time with gaps: what is missing, what jumps, what trembles, and how to mend it.

A track is one point or one set of parameters through all frames; functions take n of them at once.
"""

from collections.abc import Iterator

import numpy as np

from realisdance_jax.shapes import Bool, Float, typechecked

_REACH = 3
"""Frames on either side that an outlier is compared with."""

_SPREADS = 6.0
"""Deviations of this many robust standard deviations are outliers; points of low score sooner."""

_LOW_SCORE = 0.5
_SPEED_CUTOFF = 1.0  # Hz, of the speed that steers the One-Euro filter, as in its paper


def runs(mask: Bool[np.ndarray, " f"]) -> list[tuple[int, int]]:
    """First and last frame of every stretch of frames in which `mask` holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def gaps(ok: Bool[np.ndarray, " f"]) -> list[tuple[int, int]]:
    """First and last frame of every gap between frames that are there; ends are no gaps."""
    return [(a, b) for a, b in runs(~ok) if a > 0 and b < len(ok) - 1]


@typechecked
def fill_gaps(
    values: Float[np.ndarray, "f n c"], ok: Bool[np.ndarray, "f n"], limit: int
) -> tuple[Float[np.ndarray, "f n c"], Bool[np.ndarray, "f n"]]:
    """Values with gaps of at most `limit` frames interpolated linearly, and where that was."""
    result, filled = values.copy(), np.zeros_like(ok)
    for track in np.flatnonzero(~ok.all(axis=0) & ok.any(axis=0)):
        for first, last in gaps(ok[:, track]):
            if last - first < limit:
                before, after = values[first - 1, track], values[last + 1, track]
                share = np.arange(1, last - first + 2)[:, None] / (last - first + 2)
                result[first : last + 1, track] = before + share * (after - before)
                filled[first : last + 1, track] = True
    return result, filled


@typechecked
def outliers(
    values: Float[np.ndarray, "f n c"],
    ok: Bool[np.ndarray, "f n"],
    least: float,
    scores: Float[np.ndarray, "f n"] | None = None,
) -> Bool[np.ndarray, "f n"]:
    """Points that leap away for a frame or two and come back.

    A point is compared with the middle between the frames 1, 2 and 3 before and after it, and the
    smallest difference counts: steady movement, however fast, is left alone. Frames without two
    such pairs, as at either end, are not judged; a frame beside a leap may be taken along.

    Args:
        values, ok: n tracks of c coordinates; only frames that are ok count.
        least: deviations up to this are never outliers, in the unit of the values.
        scores: below 0.5, half the deviation is enough.
    """
    known = np.where(ok[..., None], values, np.nan)
    padded = np.pad(known, ((_REACH, _REACH), (0, 0), (0, 0)), constant_values=np.nan)
    count, deviations = len(values), []
    for k in range(1, _REACH + 1):
        before, after = (padded[_REACH + step :][:count] for step in (-k, k))
        deviations.append(np.linalg.norm(known - (before + after) / 2, axis=-1))
    judged = np.isfinite(deviations).sum(axis=0) >= 2
    deviation = np.where(np.isfinite(deviations), deviations, np.inf).min(axis=0)
    deviation = np.where(judged, deviation, np.nan)
    limit = np.maximum(least, np.nan_to_num(_SPREADS * 1.4826 * _median(deviation, 0)))
    limit = np.broadcast_to(limit, deviation.shape)
    if scores is not None:
        limit = np.where(scores < _LOW_SCORE, limit / 2, limit)
    return judged & (np.nan_to_num(deviation) > limit)


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """Median of the finite values, NaN where there is none (NumPy would warn)."""
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    ordered = np.sort(values, axis=axis)  # NaN last
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0), axis)
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[axis] - 1), axis)
    return np.where(count > 0, (low + high) / 2, np.nan).squeeze(axis)


@typechecked
def jitter(
    values: Float[np.ndarray, "f n c"], ok: Bool[np.ndarray, "f n"]
) -> Float[np.ndarray, " n"]:
    """Median size of the second difference of every track; NaN without three frames in a row."""
    bend = values[2:] - 2 * values[1:-1] + values[:-2]
    whole = ok[2:] & ok[1:-1] & ok[:-2]
    return _median(
        np.concatenate(
            [
                np.where(whole, np.linalg.norm(bend, axis=-1), np.nan),
                np.full((1, ok.shape[1]), np.nan),
            ]
        ),
        0,
    )


@typechecked
def one_euro(
    values: Float[np.ndarray, "f n c"],
    ok: Bool[np.ndarray, "f n"],
    fps: float,
    cutoff: float,
    slope: float,
) -> Float[np.ndarray, "f n c"]:
    """Smooth by the One-Euro filter (Casiez et al., 2012), forward and backward, so without lag.

    Args:
        values, ok: tracks; a gap starts the filter anew, and nothing in it is changed.
        fps: frames per second.
        cutoff: in Hz, of a point at rest; lower is smoother.
        slope: by how many Hz the cutoff rises per unit of speed (units of the values per second).
    """
    forward = _one_way(values, ok, fps, cutoff, slope)
    backward = _one_way(values[::-1], ok[::-1], fps, cutoff, slope)[::-1]
    return np.where(ok[..., None], (forward + backward) / 2, values)


def _one_way(
    values: np.ndarray, ok: np.ndarray, fps: float, cutoff: float, slope: float
) -> np.ndarray:
    result = values.copy()
    if len(values) == 0:
        return result
    speed = np.zeros_like(values[0])
    steering = _share(np.full((1,), _SPEED_CUTOFF), fps)
    for frame in range(1, len(values)):
        going = (ok[frame] & ok[frame - 1])[:, None]
        change = (values[frame] - result[frame - 1]) * fps
        speed = np.where(going, speed + steering * (change - speed), 0)
        share = _share(cutoff + slope * np.linalg.norm(speed, axis=-1, keepdims=True), fps)
        smooth = result[frame - 1] + share * (values[frame] - result[frame - 1])
        result[frame] = np.where(going, smooth, values[frame])
    return result


def _share(cutoff: np.ndarray, fps: float) -> np.ndarray:
    """Weight of a new value in an exponential mean with this cutoff."""
    return 1 / (1 + fps / (2 * np.pi * cutoff))


def frames_of(mask: Bool[np.ndarray, "f n"]) -> Iterator[tuple[int, int, int]]:
    """(track, first frame, last frame) of every stretch in which `mask` holds."""
    for track in np.flatnonzero(mask.any(axis=0)).tolist():
        for first, last in runs(mask[:, track]):
            yield track, first, last
