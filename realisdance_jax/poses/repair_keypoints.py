"""Keypoints mended and smoothed, point by point."""

from dataclasses import replace

import numpy as np

from realisdance_jax.poses.changes import Change, found
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.faults import Faults
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
def keypoint_faults(clip: KeypointClip, size: tuple[int, int]) -> list[Faults]:
    """Of the points of bodies, hands and faces, in this order. size: height and width."""
    parts = []
    for part, least in _LEAP.items():
        places = getattr(clip, part).reshape(clip.frames, -1, 2) * _aspect(size)
        ok = getattr(clip, f"{part}_ok").reshape(clip.frames, -1)
        scores = getattr(clip, f"{part}_score")
        scores = None if scores is None else scores.reshape(ok.shape)
        leaps = outliers(places, ok, least, scores)
        names = track_names(part, clip.persons)
        parts.append(Faults("dwpose", part, names, places, ok, leaps, scores))
    return parts


@typechecked
def mend_keypoints(
    clip: KeypointClip, size: tuple[int, int], gap: int
) -> tuple[KeypointClip, list[Change]]:
    arrays, changes = {}, []
    for faults in keypoint_faults(clip, size):
        part, leaps = faults.part, faults.leaps
        seen = faults.ok & ~leaps
        tracks, filled = fill_gaps(faults.places, seen, gap)
        seen = seen | filled
        changes += found("dwpose", faults.names, "outlier", leaps)
        changes += found("dwpose", faults.names, "gap", filled & ~leaps)
        mended = np.where(seen[..., None], tracks / _aspect(size), 0.0)
        shape = getattr(clip, part).shape
        arrays |= {part: mended.reshape(shape), f"{part}_ok": seen.reshape(shape[:-1])}
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
