"""OpenPose JSON, with 25 or 18 body points, as a `KeypointClip`.

Every frame is a dict with `people`, each with flat lists of x, y (pixels) and score:
`pose_keypoints_2d` (25 or 18 points), `hand_left_keypoints_2d` and `hand_right_keypoints_2d` (21),
`face_keypoints_2d` (70, of which the last two are the pupils); empty or absent where not found.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.dwpose_files import FURTHEST, Frame, Part, joined_frames
from realisdance_jax.poses.file_values import (
    MOST_SLOTS,
    field,
    frame_size,
    load_json,
    numbers,
    within,
)
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file
from realisdance_jax.utils.listing import listed_files

VISIBLE = 0.3
"""Points with a lower score are hidden, as DWPose hides its own."""

_FROM_25 = (*range(8), *range(9, 19))  # its 8 is the middle of the hips, 19 to 24 are the feet
_WHAT = "OpenPose JSON"


def read_openpose(
    path: str | Path, size: tuple[int, int] | None = None, fps: float | None = None
) -> KeypointClip:
    """Read OpenPose's JSON; all persons are kept, in file order, and all scores.

    Args:
        path: a folder of `.json` files of one frame each, in natural order, or one file with a
            frame or a list of frames.
        size: height and width in pixels of the frames it ran on. Needed, since points are stored in
            pixels, unless the file has `canvas_height` and `canvas_width`.
        fps: kept in the clip.

    Raises `UserError` naming file, person and key for anything missing, misshapen or not finite.
    """
    frames = (_parse(where, frame, size) for where, frame in _load(Path(path)))
    return joined_frames(path, frames, None, fps, "OpenPose")


def _load(path: Path) -> Iterator[tuple[str, Any]]:
    if os.path.isdir(path):
        for file in listed_files(path, (".json",), "OpenPose JSON files"):
            yield str(file), load_json(file, _WHAT)
        return
    content = load_json(existing_file(path, "an OpenPose JSON file"), _WHAT)
    frames = content if isinstance(content, list) else [content]
    for number, frame in enumerate(frames):
        yield f"{path}: frame {number}", frame


def _parse(where: str, frame: Any, size: tuple[int, int] | None) -> Frame:
    people = field(where, frame, "people")
    if not isinstance(people, list) or len(people) > MOST_SLOTS:
        raise UserError(f"{where}: people: expected a list of at most {MOST_SLOTS} persons")
    size = size or frame_size(where, frame.get("canvas_height"), frame.get("canvas_width"))
    if size is None:
        raise UserError(
            f"{where}: expected the frame size beside it (--size or --video), as OpenPose writes "
            "pixels, found none"
        )
    body, left, right, faces = [], [], [], []
    for number, person in enumerate(people):
        who = f"{where}: person {number}"
        body.append(_points(who, person, "pose_keypoints_2d", (25, 18), size))
        left.append(_points(who, person, "hand_left_keypoints_2d", (21,), size))
        right.append(_points(who, person, "hand_right_keypoints_2d", (21,), size))
        faces.append(_points(who, person, "face_keypoints_2d", (70, 68), size))
    hands = np.stack([_stack(left, 21), _stack(right, 21)], axis=1)
    return Frame(_part(_stack(body, 18)), _part(hands), _part(_stack(faces, 68)), size)


def _points(
    where: str, person: Any, key: str, counts: tuple[int, ...], size: tuple[int, int]
) -> np.ndarray:
    """(k 3) x, y as fractions and score; all zero where the person has none."""
    if not isinstance(person, dict):
        raise UserError(f"{where}: expected a dict, found {type(person).__name__}")
    where = f"{where}: {key}"
    flat = person.get(key)
    flat = numbers(where, [] if flat is None else flat, (), 3 * max(counts))
    if not len(flat):
        return np.zeros((counts[-1], 3))
    if len(flat) not in [3 * count for count in counts]:
        wanted = " or ".join(str(3 * count) for count in counts)
        raise UserError(f"{where}: expected {wanted} numbers, found {len(flat)}")
    points = flat.reshape(-1, 3)
    within(where, points[:, 2], 100.0, "scores of about 0 to 1")
    points[:, :2] /= size[1], size[0]
    if counts == (25, 18) and len(points) == 25:
        points = points[list(_FROM_25)]
    points = points[: counts[-1]]  # without the pupils
    points[:, :2] = np.where(points[:, 2:] < VISIBLE, 0, points[:, :2])
    within(where, points[:, :2], FURTHEST, "pixels near the frame")
    return points


def _stack(rows: list[np.ndarray], count: int) -> np.ndarray:
    return np.stack(rows) if rows else np.zeros((0, count, 3))


def _part(points: np.ndarray) -> Part:
    return Part(points[..., :2], points[..., 2] >= VISIBLE, points[..., 2])
