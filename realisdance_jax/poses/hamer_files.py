"""HaMeR's hands as a `HandClip`: `hamer_info.pkl` of public pipelines, or a plain npz.

The pickle is a list over frames of None or a dict of lists, one entry per hand: `all_verts`
(778, 3), left hands already mirrored; `all_cam_t` (3,) of the full frame; `all_right` 0 or 1. HaMeR
itself saves only pictures, so the npz is what a few lines after its forward pass can write: the
same three as arrays over all hands of all frames, and `frame`, the number of each hand's frame from
0; optional `frames`, how many there are, `focal`, `size` (H, W) and `fps`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.poses.array_files import read_npz
from realisdance_jax.poses.clips import HandClip
from realisdance_jax.poses.file_values import (
    MOST_SLOTS,
    check_room,
    field,
    frame_size,
    numbers,
    within,
)
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file
from realisdance_jax.utils.safe_pickle import NUMPY_GLOBALS, Allowed, Guarded, load_pickle

_VERTICES = 778
_NEAR, _FAR = 1e3, 1e6  # metres; HaMeR's camera stands hundreds of metres away
_ARRAYS = {"all_verts": (_VERTICES, 3), "all_cam_t": (3,), "all_right": ()}


class Tensor:
    """Stands for a tensor of torch, and holds nothing."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


def _tensor(*arguments: object) -> Tensor:
    return Tensor()


# The MANO parameters of a hand may be tensors of torch; they are not used.
_GLOBALS: Allowed = {
    **NUMPY_GLOBALS,
    ("torch._utils", "_rebuild_tensor_v2"): Guarded(_tensor),
    ("torch.storage", "_load_from_bytes"): Guarded(_tensor),
    ("collections", "OrderedDict"): Guarded(_tensor),
}


def read_hamer(
    path: str | Path, size: tuple[int, int] | None = None, fps: float | None = None
) -> HandClip:
    """Read `hamer_info.pkl` or an npz as described above; all hands of a frame are kept.

    Args:
        path: `.pkl`, `.pickle` or `.npz`.
        size: height and width of the frames, for files that do not say.
        fps: frames per second, for files that do not say.

    Raises `UserError` naming file, frame and key for anything missing, misshapen or not finite, and
    for a pickle that mentions anything but numbers; nothing in it is run.
    """
    suffix = existing_file(path, "a HaMeR file (.pkl or .npz)").suffix.lower()
    if suffix == ".npz":
        return _read_npz(Path(path), size, fps)
    if suffix not in (".pkl", ".pickle"):
        raise UserError(f"{path}: expected a HaMeR file (.pkl or .npz), found {suffix or 'none'}")
    content = load_pickle(path, _GLOBALS, "a HaMeR pickle")
    if not isinstance(content, list) or not content:
        found = "an empty one" if isinstance(content, list) else type(content).__name__
        raise UserError(f"{path}: expected a list of frames, found {found}")
    hands = max(_count(frame) for frame in content)
    frames = (_parse(f"{path}: frame {number}", frame) for number, frame in enumerate(content))
    return _clip(path, frames, (len(content), hands), None, size, fps)


def _count(frame: Any) -> int:
    """Hands of a frame that may still be anything."""
    sides = frame.get("all_right") if isinstance(frame, dict) else None
    if isinstance(sides, np.ndarray):
        return sides.size
    return len(sides) if isinstance(sides, list | tuple) else 0


def _parse(where: str, frame: Any) -> dict[str, np.ndarray]:
    """The arrays of `_ARRAYS` for the hands of one frame."""
    if frame is None:
        return {key: np.zeros((0, *shape)) for key, shape in _ARRAYS.items()}
    return _checked(where, {key: field(where, frame, key) for key in _ARRAYS}, MOST_SLOTS)


def _checked(where: str, values: dict[str, Any], most: int) -> dict[str, np.ndarray]:
    values = values | {"all_right": _as_numbers(values["all_right"])}
    arrays = {
        key: numbers(f"{where}: {key}", values[key], shape, most) for key, shape in _ARRAYS.items()
    }
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        found = ", ".join(f"{key} {len(array)}" for key, array in arrays.items())
        raise UserError(f"{where}: expected as many of each as there are hands, found {found}")
    within(f"{where}: all_verts", arrays["all_verts"], _NEAR, "vertices in metres")
    within(f"{where}: all_cam_t", arrays["all_cam_t"], _FAR, "a translation in metres")
    if not np.all(np.isin(arrays["all_right"], (0, 1))):
        raise UserError(f"{where}: all_right: expected 0 or 1, found others")
    return arrays


def _as_numbers(sides: Any) -> Any:
    """Sides as plain numbers: some writers keep booleans or arrays of one number."""
    if isinstance(sides, np.ndarray):
        return sides.reshape(-1).astype(np.uint8) if sides.dtype == bool else sides.reshape(-1)
    if not isinstance(sides, list | tuple):
        return sides
    single = (s.item() if isinstance(s, np.ndarray) and s.size == 1 else s for s in sides)
    return [int(side) if isinstance(side, bool | np.bool_) else side for side in single]


def _clip(
    path: str | Path,
    frames: Iterable[dict[str, np.ndarray]],
    lead: tuple[int, int],
    focal: float | None,
    size: tuple[int, int] | None,
    fps: float | None,
) -> HandClip:
    check_room(path, *lead, 3 * _VERTICES // 2)  # half, since they are float32
    present, right = np.zeros(lead, bool), np.zeros(lead, bool)
    vertices, translation = np.zeros((*lead, _VERTICES, 3), np.float32), np.zeros((*lead, 3))
    for number, frame in enumerate(frames):
        count = len(frame["all_right"])
        present[number, :count] = True
        right[number, :count] = frame["all_right"] == 1
        vertices[number, :count] = frame["all_verts"]
        translation[number, :count] = frame["all_cam_t"]
    return HandClip(present, right, vertices, translation, focal, size, fps)


def _read_npz(path: Path, size: tuple[int, int] | None, fps: float | None) -> HandClip:
    scalars = ("frames", "focal", "fps")
    entries = read_npz(path, ("frame", *_ARRAYS, *scalars, "size"), "HaMeR's hands (.npz)")
    for key in ("frame", *_ARRAYS):
        field(str(path), entries, key)
    arrays = _checked(str(path), entries, len(entries["frame"].reshape(-1)))
    owner = _whole(f"{path}: frame", entries["frame"], len(arrays["all_right"]))
    given = {key: _positive(f"{path}: {key}", entries.get(key)) for key in scalars}
    last = int(owner.max(initial=-1)) + 1
    frames = last if given["frames"] is None else int(given["frames"])
    check_room(path, frames, 0, 0)
    if not frames > 0 or last > frames:
        raise UserError(f"{path}: expected hands in frames 0 to {frames - 1}, found {last - 1}")
    hands = int(np.bincount(owner, minlength=1).max())
    rows = (np.flatnonzero(owner == number) for number in range(frames))
    per_frame = ({key: array[row] for key, array in arrays.items()} for row in rows)
    if "size" in entries:
        stored = numbers(f"{path}: size", entries["size"], (), 2).tolist()
        size = frame_size(str(path), *(stored if len(stored) == 2 else (0, 0)))
    return _clip(path, per_frame, (frames, hands), given["focal"], size, given["fps"] or fps)


def _whole(where: str, values: np.ndarray, count: int) -> np.ndarray:
    if values.shape != (count,) or values.dtype.kind not in "iu" or np.any(values < 0):
        raise UserError(f"{where}: expected {count} frame numbers from 0, found others")
    return values.astype(np.int64)


def _positive(where: str, value: np.ndarray | None) -> float | None:
    if value is None:
        return None
    if value.size != 1 or value.dtype.kind not in "iuf" or not 0 < value.item() < 1e9:
        raise UserError(f"{where}: expected a number above zero, found others")
    return float(value.item())
