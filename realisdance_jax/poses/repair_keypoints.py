"""Keypoints mended and smoothed, point by point."""

from dataclasses import replace

import numpy as np

from realisdance_jax.poses.changes import Change, found
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.tracks import fill_gaps, one_euro, outliers
from realisdance_jax.shapes import typechecked

# fmt: off
JOINTS = ("nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder",
          "left elbow", "left wrist", "right hip", "right knee", "right ankle", "left hip",
          "left knee", "left ankle", "right eye", "left eye", "right ear", "left ear")
# fmt: on
SIDES = ("left", "right")

_LEAP = {"body": 0.03, "hands": 0.02, "faces": 0.015}
"""Smallest leaps, in frame heights."""

_SLOPE = 8.0
"""Hz by which the cutoff of smoothing rises per frame height per second."""


def _aspect(size: tuple[int, int]) -> np.ndarray:
    """From fractions of width and height to frame heights."""
    return np.array([size[1] / size[0], 1.0])


@typechecked
def track_names(part: str, persons: int) -> list[str]:
    """Names of all tracks of `body`, `hands` or `faces`, in the order of the flattened arrays."""
    one = {
        "body": list(JOINTS),
        "hands": [f"{side} hand {point}" for side in SIDES for point in range(21)],
        "faces": [f"face {point}" for point in range(68)],
    }[part]
    return [f"person {person} {name}" for person in range(persons) for name in one]


@typechecked
def mend_keypoints(
    clip: KeypointClip, size: tuple[int, int], gap: int
) -> tuple[KeypointClip, list[Change]]:
    arrays, changes = {}, []
    for part, least in _LEAP.items():
        points, ok = getattr(clip, part), getattr(clip, f"{part}_ok")
        scores = getattr(clip, f"{part}_score")
        tracks = points.reshape(clip.frames, -1, 2) * _aspect(size)
        seen = ok.reshape(clip.frames, -1)
        scores = None if scores is None else scores.reshape(seen.shape)
        leaps = outliers(tracks, seen, least, scores)
        seen = seen & ~leaps
        tracks, filled = fill_gaps(tracks, seen, gap)
        seen = seen | filled
        names = track_names(part, clip.persons)
        changes += found("dwpose", names, "outlier", leaps)
        changes += found("dwpose", names, "gap", filled & ~leaps)
        mended = np.where(seen[..., None], tracks / _aspect(size), 0.0)
        arrays |= {part: mended.reshape(points.shape), f"{part}_ok": seen.reshape(ok.shape)}
    return replace(clip, **arrays), changes


@typechecked
def smooth_keypoints(
    clip: KeypointClip, size: tuple[int, int], fps: float, cutoff: float
) -> KeypointClip:
    arrays = {}
    for part in _LEAP:
        points, ok = getattr(clip, part), getattr(clip, f"{part}_ok")
        tracks = points.reshape(clip.frames, -1, 2) * _aspect(size)
        seen = ok.reshape(clip.frames, -1)
        tracks = one_euro(tracks, seen, fps, cutoff, _SLOPE) / _aspect(size)
        arrays[part] = np.where(seen[..., None], tracks, 0.0).reshape(points.shape)
    return replace(clip, **arrays)
