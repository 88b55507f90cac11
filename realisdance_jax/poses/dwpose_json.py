"""Keypoints out again, as the JSON of the official training data: every reader of it takes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.shapes import typechecked
from realisdance_jax.utils.files import atomic_output


@typechecked
def write_dwpose(path: str | Path, clip: KeypointClip) -> None:
    """Write a list of frames; `read_dwpose` gives the same clip again.

    Every frame has the clip's rate as `fps`, beside `H` and `W`: the official layout has no place
    for it, and readers of that pass over further keys.
    Persons behind the last one of a frame are left out; absent ones before it are all hidden.
    """
    with atomic_output(path) as partial, open(partial, "w", encoding="ascii") as file:
        file.write("[")
        for frame in range(clip.frames):
            file.write(",\n" if frame else "\n")
            json.dump(_frame(clip, frame), file)
        file.write("\n]\n")


def _frame(clip: KeypointClip, frame: int) -> dict[str, Any]:
    oks = (clip.body_ok[frame], clip.hands_ok[frame], clip.faces_ok[frame])
    here = [ok.any(axis=tuple(range(1, ok.ndim))) for ok in oks]
    count = int(np.flatnonzero(np.any(here, axis=0)).max(initial=-1)) + 1
    ok = clip.body_ok[frame, :count]
    number = np.arange(18 * count).reshape(count, 18)
    record: dict[str, Any] = {
        "bodies": {
            "candidate": clip.body[frame, :count].reshape(-1, 2).tolist(),
            "subset": np.where(ok, number, -1).tolist(),
        },
        "hands": _by_side(_marked(clip.hands, clip.hands_ok, frame, count)),
        "faces": _marked(clip.faces, clip.faces_ok, frame, count).tolist(),
    }
    if clip.body_score is not None:
        record["bodies"]["score"] = clip.body_score[frame, :count].tolist()
    if clip.hands_score is not None:
        record["hands_score"] = _by_side(clip.hands_score[frame, :count])
    if clip.faces_score is not None:
        record["faces_score"] = clip.faces_score[frame, :count].tolist()
    if clip.size is not None:
        record |= {"H": clip.size[0], "W": clip.size[1]}
    if clip.fps is not None:
        record["fps"] = clip.fps
    return record


def _marked(points: np.ndarray, ok: np.ndarray, frame: int, count: int) -> np.ndarray:
    """Points of one frame; hidden ones are (-1, -1)."""
    return np.where(ok[frame, :count, ..., None], points[frame, :count], -1.0)


def _by_side(of_persons: np.ndarray) -> list:
    """(n 2 21 ...) -> all left hands, then all right ones."""
    sides = np.swapaxes(of_persons, 0, 1)
    return sides.reshape(-1, *sides.shape[2:]).tolist()
