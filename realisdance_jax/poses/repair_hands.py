"""Hand meshes mended and smoothed, one track per side."""

from dataclasses import replace

import numpy as np

from realisdance_jax.poses.changes import Change, found
from realisdance_jax.poses.clips import HandClip
from realisdance_jax.poses.faults import Faults
from realisdance_jax.poses.hamer_look import full_frame_camera
from realisdance_jax.poses.tracks import fill_gaps, one_euro, outliers
from realisdance_jax.shapes import typechecked

_PLACE, _SIZE = 0.05, 0.15
"""Smallest leaps: frame heights, natural logarithm of the depth."""

_PLACE_SLOPE, _SIZE_SLOPE, _MESH_SLOPE = 8.0, 4.0, 40.0
"""Hz by which the cutoffs of smoothing rise per unit of the above, or metre, and second."""


@typechecked
def by_side(clip: HandClip) -> HandClip:
    """The same hands, the first left one of each frame in slot 0, the first right one in slot 1.

    Further hands keep their order in slots behind.
    """
    count = clip.hands
    order = np.full((clip.frames, count + 2), -1)
    for frame in range(clip.frames):
        here = np.flatnonzero(clip.present[frame]).tolist()
        for side in range(2):
            mine = [slot for slot in here if clip.right[frame, slot] == bool(side)]
            if mine:
                order[frame, side] = mine[0]
                here.remove(mine[0])
        order[frame, 2 : 2 + len(here)] = here
    used = np.flatnonzero(np.any(order >= 0, axis=0))
    slots = max(2, int(used.max(initial=1)) + 1)
    order = order[:, :slots]
    taken, rows = order >= 0, np.arange(clip.frames)[:, None]

    def moved(array: np.ndarray) -> np.ndarray:
        if count == 0:
            return np.zeros((clip.frames, slots, *array.shape[2:]), array.dtype)
        picked = array[rows, np.maximum(order, 0)]
        return np.where(taken.reshape(*taken.shape, *[1] * (picked.ndim - 2)), picked, 0)

    return replace(
        clip,
        present=taken,
        right=moved(clip.right).astype(bool),
        vertices=moved(clip.vertices),
        translation=moved(clip.translation),
    )


def _hand_places(
    clip: HandClip, size: tuple[int, int]
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Focal length in frame heights, places from the picture's centre, log depth, which hold."""
    focal = full_frame_camera(size, clip.focal).focal[0] / size[0]
    ok = clip.present & (clip.translation[..., 2] > 0)
    depth = np.where(ok, clip.translation[..., 2], 1.0).astype(np.float64)
    return focal, focal * clip.translation[..., :2] / depth[..., None], np.log(depth), ok


@typechecked
def hand_faults(clip: HandClip, size: tuple[int, int]) -> list[Faults]:
    """Of the left and the right hand of a clip `by_side`; whose further ones are is not known."""
    _, place, depth, ok = _hand_places(clip, size)
    place, depth, ok = place[:, :2], depth[:, :2], ok[:, :2]
    leaps = outliers(place, ok, _PLACE) | outliers(depth[..., None], ok, _SIZE)
    middle = np.array([size[1] / size[0], 1.0]) / 2
    return [Faults("hamer", "hands", ["left hand", "right hand"], place + middle, ok, leaps)]


@typechecked
def mend_hands(clip: HandClip, size: tuple[int, int], gap: int) -> tuple[HandClip, list[Change]]:
    (faults,) = hand_faults(clip, size)
    ok = clip.present.copy()
    ok[:, :2] &= ~faults.leaps
    tracks = ok.copy()
    tracks[:, 2:] = True
    mesh = clip.vertices.reshape(*ok.shape, -1)
    both = np.concatenate([mesh, clip.translation], axis=-1).astype(np.float64)
    both, filled = fill_gaps(both, tracks, gap)
    ok = ok | filled
    both = np.where(ok[..., None], both, 0.0)
    right = clip.right.copy()
    right[:, 1] = ok[:, 1]
    mended = replace(
        clip,
        present=ok,
        right=right,
        vertices=both[..., :-3].reshape(clip.vertices.shape).astype(clip.vertices.dtype),
        translation=both[..., -3:].astype(clip.translation.dtype),
    )
    changes = found("hamer", faults.names, "outlier", faults.leaps)
    return mended, changes + found("hamer", faults.names, "gap", filled[:, :2] & ~faults.leaps)


@typechecked
def smooth_hands(clip: HandClip, size: tuple[int, int], fps: float, cutoff: float) -> HandClip:
    focal, place, depth, ok = _hand_places(clip, size)
    tracks = ok.copy()
    tracks[:, 2:] = False
    place = one_euro(place, tracks, fps, cutoff, _PLACE_SLOPE)
    depth = np.exp(one_euro(depth[..., None], tracks, fps, cutoff, _SIZE_SLOPE))
    moved = np.concatenate([place * depth / focal, depth], axis=-1)
    flat = clip.vertices.reshape(clip.frames, -1, 3).astype(np.float64)
    seen = np.repeat(tracks, clip.vertices.shape[2], axis=1)
    flat = one_euro(flat, seen, fps, cutoff, _MESH_SLOPE)
    return replace(
        clip,
        vertices=flat.reshape(clip.vertices.shape).astype(clip.vertices.dtype),
        translation=np.where(tracks[..., None], moved, clip.translation).astype(
            clip.translation.dtype
        ),
    )
