"""DWPose files (pickle, JSON, folder of JSON) as one `KeypointClip`.

Every frame is a dict: `bodies` {`candidate` (18n, 2), `subset` (n, 18) of indices into candidate or
-1}, `hands` (2n, 21, 2) with all left hands before all right ones, optional `faces` (n, 68, 2), `H`
and `W`. Hidden hand and face points are exactly (-1, -1). Scores are ignored.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file
from realisdance_jax.utils.listing import listed_files
from realisdance_jax.utils.safe_pickle import NUMPY_GLOBALS, load_pickle

# A visible point further out than this many frame sizes is damage, not pose; it also keeps pixel
# coordinates within what OpenCV draws exactly.
_FURTHEST = 16.0


class _Frame(NamedTuple):
    """Points and visibility of one frame, before padding; leading axis persons."""

    body: tuple[np.ndarray, np.ndarray]
    hands: tuple[np.ndarray, np.ndarray]
    faces: tuple[np.ndarray, np.ndarray]
    size: tuple[int, int] | None


def read_dwpose(path: str | Path) -> KeypointClip:
    """Read the official DWPose formats; all persons are kept, in file order.

    Args:
        path: `.pkl` or `.pickle` (a list of frames), `.json` (one frame or a list of them), or a
            folder of `.json` files of one frame each, in natural order.

    A hands or faces array of other length than the persons is kept too (the official painter draws
    them all): rows beyond the bodies go to persons without a body.
    Raises `UserError` naming file, frame and key for anything missing, misshapen or not finite.
    """
    frames = [_parse(where, frame) for where, frame in _load(Path(path))]
    if not frames:
        raise UserError(f"{path}: expected DWPose frames, found an empty list")
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        found = ", ".join(sorted(str(size) for size in sizes)[:3])
        raise UserError(f"{path}: expected one frame size (H, W), found {found}")
    persons = max(len(points) for frame in frames for points, _ in frame[:3])
    body = _pad([frame.body for frame in frames], persons)
    hands = _pad([frame.hands for frame in frames], persons)
    faces = _pad([frame.faces for frame in frames], persons)
    return KeypointClip(*body, *hands, *faces, size=sizes.pop())


def _load(path: Path) -> Iterator[tuple[str, object]]:
    """(where, frame) pairs; `where` opens the error messages about that frame."""
    if path.is_dir():
        for file in listed_files(path, (".json",), "DWPose JSON files"):
            yield str(file), _load_json(file)
        return
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = _load_json(existing_file(path, "a DWPose JSON file"))
    elif suffix in (".pkl", ".pickle"):
        content = load_pickle(path, NUMPY_GLOBALS, "a DWPose pickle")
    else:
        existing_file(path, "a DWPose file")
        raise UserError(f"{path}: expected a DWPose file (.pkl or .json), found {suffix or 'none'}")
    frames = [content] if isinstance(content, dict) else content
    if not isinstance(frames, list | tuple):
        found = type(content).__name__
        raise UserError(f"{path}: expected a list of DWPose frames, found {found}")
    for number, frame in enumerate(frames):
        yield f"{path}: frame {number}", frame


def _load_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: expected DWPose JSON, found an unreadable file ({reason})"
        ) from None


def _parse(where: str, frame: Any) -> _Frame:
    bodies = _field(where, frame, "bodies")
    candidate = _numbers(f"{where}: candidate", _field(where, bodies, "candidate"), (2,))
    subset = _numbers(f"{where}: subset", _field(where, bodies, "subset"), (18,))
    hands = _numbers(f"{where}: hands", _field(where, frame, "hands"), (21, 2))
    faces = frame.get("faces")
    faces = _numbers(f"{where}: faces", [] if faces is None else faces, (68, 2))
    if len(hands) % 2:
        raise UserError(
            f"{where}: hands: expected all left hands, then all right ones, found {len(hands)}"
        )
    return _Frame(
        body=_pick(f"{where}: bodies", candidate, subset),
        hands=_visible(f"{where}: hands", hands.reshape(2, -1, 21, 2).swapaxes(0, 1)),
        faces=_visible(f"{where}: faces", faces),
        size=_size(where, frame),
    )


def _field(where: str, container: Any, key: str) -> Any:
    if not isinstance(container, dict):
        raise UserError(f"{where}: expected a dict with {key!r}, found {type(container).__name__}")
    if key not in container:
        raise UserError(f"{where}: expected the key {key!r}, found none")
    return container[key]


def _numbers(where: str, value: object, trailing: tuple[int, ...]) -> np.ndarray:
    """`value` as float64 of shape (n, *trailing); n = 0 for anything empty."""
    wanted = f"numbers of shape (n, {', '.join(map(str, trailing))})"
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise UserError(f"{where}: expected {wanted}, found ragged or mixed values") from None
    if array.size == 0:
        return np.zeros((0, *trailing))
    if array.dtype.kind not in "iuf":
        raise UserError(f"{where}: expected {wanted}, found values of type {array.dtype}")
    if array.shape[1:] != trailing:
        raise UserError(f"{where}: expected {wanted}, found shape {array.shape}")
    return array.astype(np.float64)


def _pick(where: str, candidate: np.ndarray, subset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Body joints (n 18 2) named by `subset`, and which are visible (n 18)."""
    ok = subset != -1
    named = subset[ok]
    if not np.all((named == np.floor(named)) & (named >= 0) & (named < len(candidate))):
        raise UserError(
            f"{where}: subset: expected -1 or indices below {len(candidate)} (rows of candidate), "
            "found others"
        )
    body = np.zeros((*subset.shape, 2))
    body[ok] = candidate[named.astype(np.int64)]
    return _checked(where, body, ok), ok


def _visible(where: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ok = np.any(points != -1, axis=-1)
    return _checked(where, np.where(ok[..., None], points, 0.0), ok), ok


def _checked(where: str, points: np.ndarray, ok: np.ndarray) -> np.ndarray:
    if not np.all(np.abs(points[ok]) <= _FURTHEST):  # false for NaN as well
        raise UserError(
            f"{where}: expected coordinates as fractions of the frame, found values beyond "
            f"{_FURTHEST:g} or not finite"
        )
    return points


def _size(where: str, frame: dict) -> tuple[int, int] | None:
    sides: list[Any] = [frame.get("H"), frame.get("W")]
    if all(side is None for side in sides):
        return None
    whole = all(isinstance(n, int | float | np.number) and not isinstance(n, bool) for n in sides)
    if not whole or not all(1 <= n < 2**15 and n == int(n) for n in sides):
        found = ", ".join(f"{side!a:.30}" for side in sides)
        raise UserError(f"{where}: H, W: expected the frame size in pixels, found {found}")
    return int(sides[0]), int(sides[1])


def _pad(parts: list[tuple[np.ndarray, np.ndarray]], persons: int) -> tuple[np.ndarray, np.ndarray]:
    """Stack ragged (points, ok) frames to f p ...; missing persons are zero and not ok."""
    points = np.zeros((len(parts), persons, *parts[0][0].shape[1:]))
    ok = np.zeros((len(parts), persons, *parts[0][1].shape[1:]), bool)
    for frame, (some, visible) in enumerate(parts):
        points[frame, : len(some)], ok[frame, : len(visible)] = some, visible
    return points, ok
