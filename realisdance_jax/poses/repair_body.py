"""A body mended and smoothed: rotations as quaternions, its place and size as in the picture."""

from dataclasses import replace

import numpy as np

from realisdance_jax.poses.changes import Change, found
from realisdance_jax.poses.clips import BodyClip
from realisdance_jax.poses.faults import Faults
from realisdance_jax.poses.rotations import axis_angles, continuous, quaternions
from realisdance_jax.poses.tracks import fill_gaps, one_euro, outliers
from realisdance_jax.shapes import Float, typechecked

_PLACE, _SIZE, _TURN = 0.05, 0.15, 0.25
"""Smallest leaps: frame heights, natural logarithm of the size, quaternions (half angles)."""

_PLACE_SLOPE, _SIZE_SLOPE, _TURN_SLOPE = 8.0, 4.0, 4.0
"""Hz by which the cutoffs of smoothing rise per unit of the above and second."""

_ROTATIONS = {
    "global_orient": 1,
    "body_pose": 21,
    "jaw_pose": 1,
    "leye_pose": 1,
    "reye_pose": 1,
    "left_hand_pose": 15,
    "right_hand_pose": 15,
}
_VECTORS = ("betas", "expression", "transl", "focal", "princpt")


@typechecked
def body_place(
    clip: BodyClip, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "f 2"], Float[np.ndarray, " f"]]:
    """Where the body's origin is in the picture (frame heights), and the logarithm of its size."""
    depth = np.where(clip.present & (clip.transl[:, 2] > 0), clip.transl[:, 2], 1.0)[:, None]
    place = (clip.focal * clip.transl[:, :2] / depth + clip.princpt) / size[0]
    wide = np.where(clip.present, clip.focal[:, 0], 1.0) / depth[:, 0] / size[0]
    return place.astype(np.float64), np.log(np.maximum(wide, 1e-9)).astype(np.float64)


def _turns(clip: BodyClip) -> Float[np.ndarray, "f 55 4"]:
    """All rotations; absent frames repeat the last one before them, so that signs carry over."""
    parts = [getattr(clip, name).reshape(clip.frames, -1, 3) for name in _ROTATIONS]
    turns = quaternions(np.concatenate(parts, axis=1))
    number = np.where(clip.present, np.arange(clip.frames), -1)
    return continuous(turns[np.maximum(np.maximum.accumulate(number), 0)])


def _with_turns(clip: BodyClip, turns: np.ndarray) -> BodyClip:
    vectors, start, parts = axis_angles(turns), 0, {}
    for name, count in _ROTATIONS.items():
        old = getattr(clip, name)
        new = vectors[:, start : start + count].reshape(old.shape)
        here = clip.present.reshape(-1, *[1] * (old.ndim - 1))
        parts[name] = np.where(here, new, 0.0).astype(old.dtype)
        start += count
    return replace(clip, **parts)


@typechecked
def body_faults(clip: BodyClip, size: tuple[int, int]) -> list[Faults]:
    """Of the body as one: a leap of its place, its size or its turn. size: height and width."""
    place, wide = body_place(clip, size)
    ok, turns = clip.present[:, None], _turns(clip)
    leaps = outliers(place[:, None], ok, _PLACE) | outliers(wide[:, None, None], ok, _SIZE)
    leaps |= outliers(turns[:, :1], ok, _TURN)
    return [Faults("smpl", "body", ["body"], place[:, None], ok, leaps)]


@typechecked
def mend_body(clip: BodyClip, size: tuple[int, int], gap: int) -> tuple[BodyClip, list[Change]]:
    (faults,) = body_faults(clip, size)
    leaps, ok = faults.leaps, faults.ok & ~faults.leaps
    cleaned = replace(clip, present=ok[:, 0])
    turns = _turns(cleaned)
    turns, filled = fill_gaps(turns, np.repeat(ok, turns.shape[1], axis=1), gap)
    ok = ok | filled[:, :1]
    vectors = {}
    for name in _VECTORS:
        old = getattr(clip, name)
        new, _ = fill_gaps(old[:, None].astype(np.float64), ok & ~filled[:, :1], gap)
        vectors[name] = np.where(ok, new[:, 0], 0.0).astype(old.dtype)
    mended = _with_turns(replace(cleaned, present=ok[:, 0], **vectors), turns)
    changes = found("smpl", faults.names, "outlier", leaps)
    return mended, changes + found("smpl", faults.names, "gap", filled[:, :1] & ~leaps)


@typechecked
def smooth_body(clip: BodyClip, size: tuple[int, int], fps: float, cutoff: float) -> BodyClip:
    """The camera is kept: its focal length and the depth jump together with the detector's box."""
    place, wide = body_place(clip, size)
    ok, turns = clip.present[:, None], _turns(clip)
    seen = np.repeat(ok, turns.shape[1], axis=1)
    turns = one_euro(turns, seen, fps, cutoff, _TURN_SLOPE)
    place = one_euro(place[:, None], ok, fps, cutoff, _PLACE_SLOPE)[:, 0]
    wide = one_euro(wide[:, None, None], ok, fps, cutoff, _SIZE_SLOPE)[:, 0, 0]
    depth = clip.focal[:, :1] / (np.exp(wide)[:, None] * size[0])
    focal = np.where(ok, clip.focal, 1.0)
    across = (place * size[0] - clip.princpt) * depth / focal
    transl = np.where(ok, np.concatenate([across, depth], axis=1), 0.0)
    return _with_turns(replace(clip, transl=transl.astype(clip.transl.dtype)), turns)
