"""SMPLer-X's folder of results as a `BodyClip`: the largest person of every frame.

`smplx/{frame:05}_{id}.npz` holds the parameters of one person, `meta/{frame:05}_{id}.json` the
camera and boxes, `img/{frame:06}.jpg` the frame as drawn, written even where nobody was found.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.poses.array_files import read_npz
from realisdance_jax.poses.clips import BODY_PARAMETERS, BodyClip
from realisdance_jax.poses.file_values import (
    MOST_FRAMES,
    check_room,
    field,
    load_json,
    numbers,
    within,
)
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file

_PARAMETERS = {
    name: shape if len(shape) == 2 else (1, *shape) for name, shape in BODY_PARAMETERS.items()
}
_BOXES = ("bbox_mmdet", "bbox")
_FURTHEST = 1e6
_MOST_BYTES = 1 << 20  # of one person; 2 kB are usual


def read_smplerx(
    path: str | Path,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    first: int | None = None,
    frames: int | None = None,
) -> BodyClip:
    """Read the output folder of SMPLer-X's `inference.py`; frames without a person are absent.

    Its hand poses leave the mean out, so `add_hands_mean` is set.

    Args:
        path: folder with `smplx/`, `meta/` and, as a rule, `img/`.
        size: height and width of the frames.
        fps: kept in the clip.
        first: number of the first frame. By default the lowest in `img/`; without that folder 0 if
            there is a person with that number, else 1, where SMPLer-X begins.
        frames: how many there are; by default up to the last number found.

    Raises `UserError` naming file and key for anything missing, misshapen or not finite.
    """
    folder = Path(path)
    people = _people(folder)
    first, frames = _range(folder, set(people), first, frames)
    shapes = {name: shape[shape[0] == 1 :] for name, shape in _PARAMETERS.items()}
    arrays = {name: np.zeros((frames, *shape)) for name, shape in shapes.items()}
    arrays |= {"focal": np.zeros((frames, 2)), "princpt": np.zeros((frames, 2))}
    present = np.zeros(frames, bool)
    for number, names in people.items():
        metas = {name: _meta(folder / "meta" / f"{name}.json") for name in names}
        largest = max(names, key=lambda name: metas[name]["area"])
        present[number - first] = True
        values = _parameters(folder / "smplx" / f"{largest}.npz")
        for key in arrays:
            value = values[key] if key in values else metas[largest][key]
            arrays[key][number - first] = value.reshape(arrays[key].shape[1:])
    return BodyClip(present=present, **arrays, add_hands_mean=True, size=size, fps=fps)


def _people(folder: Path) -> dict[int, list[str]]:
    """Names (without ending) of the persons of every frame that has some, in their order."""
    people: dict[int, list[str]] = {}
    for name in sorted(_names(folder / "smplx")):
        match = re.fullmatch(r"([0-9]{1,9})_[0-9]{1,9}\.npz", name)
        if match:
            people.setdefault(int(match[1]), []).append(name.removesuffix(".npz"))
    return people


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError as error:
        reason = error.strerror
        raise UserError(f"{folder}: expected a folder of SMPLer-X's ({reason})") from None


def _range(folder: Path, found: set[int], first: int | None, frames: int | None) -> tuple[int, int]:
    """Number of the first frame and how many there are."""
    drawn = _names(folder / "img") if (folder / "img").is_dir() else []
    matches = (re.fullmatch(r"([0-9]{1,9})\.(jpg|jpeg|png)", name) for name in drawn)
    numbered = {int(match[1]) for match in matches if match}
    if not found | numbered:
        raise UserError(f"{folder}: expected smplx/00001_0.npz and so on, found none")
    if first is None:
        first = min(numbered) if numbered else min(1, *found)
    frames = max(found | numbered) - first + 1 if frames is None else frames
    if not 0 < frames <= MOST_FRAMES:
        raise UserError(f"{folder}: expected 1 to {MOST_FRAMES} frames, found {frames}")
    outside = [number for number in found if not first <= number < first + frames]
    if outside:
        raise UserError(
            f"{folder}: expected frames {first} to {first + frames - 1}, found {outside[0]}; "
            "--trim goes by the shortest input"
        )
    check_room(folder, frames, 1, 200)
    return first, frames


def _meta(path: Path) -> dict[str, Any]:
    """Focal lengths, principal point and box area of one person."""
    what = "SMPLer-X's JSON about a person"
    meta = load_json(existing_file(path, what), what)
    camera = {
        key: _row(f"{path}: {key}", field(str(path), meta, key), 2) for key in ("focal", "princpt")
    }
    if np.any(camera["focal"] <= 0):
        raise UserError(f"{path}: focal: expected lengths above zero, found others")
    box = next((key for key in _BOXES if key in meta), "bbox")
    _, _, width, height = _row(f"{path}: {box}", field(str(path), meta, box), 4)
    return {**camera, "area": abs(width * height)}


def _row(where: str, value: Any, count: int) -> np.ndarray:
    row = numbers(where, value, (), count)
    if len(row) != count:
        raise UserError(f"{where}: expected {count} numbers, found {len(row)}")
    return within(where, row, _FURTHEST, "plausible pixels")


def _parameters(path: Path) -> dict[str, np.ndarray]:
    found = read_npz(path, _PARAMETERS, "SMPLer-X's parameters (.npz)", _MOST_BYTES)
    for key, shape in _PARAMETERS.items():
        array = field(str(path), found, key)
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise UserError(
                f"{path}: {key}: expected numbers of shape {shape}, found {array.dtype} of shape "
                f"{array.shape}"
            )
        within(f"{path}: {key}", array, _FURTHEST, "plausible numbers")
    return found
