"""DWPose files (pickle, JSON, folder of JSON, MusePose's npy) as one `KeypointClip`.

Every frame is a dict: `bodies` {`candidate` (18n, 2), `subset` (n, 18) of indices into candidate or
-1, optional `score` (n, 18)}, `hands` (2n, 21, 2) with all left hands before all right ones,
optional `faces` (n, 68, 2), `hands_score` (2n, 21), `faces_score` (n, 68), `H` and `W`. Hidden hand
and face points are exactly (-1, -1). Files of ours also have `fps`, which other readers pass over.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realisdance_jax.poses.array_files import read_pickled_npy
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.file_values import (
    MOST_SLOTS,
    check_room,
    field,
    frame_rate,
    frame_size,
    load_json,
    numbers,
    within,
)
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file
from realisdance_jax.utils.listing import listed_files
from realisdance_jax.utils.safe_pickle import NUMPY_GLOBALS, load_pickle

# A visible point further out than this many frame sizes is damage, not pose; it also keeps pixel
# coordinates within what OpenCV draws exactly.
FURTHEST = 16.0
_PARTS = ("body", "hands", "faces")
_POINTS = {"body": (18,), "hands": (2, 21), "faces": (68,)}
_HIGHEST_SCORE = 100.0  # DWPose's are about 0 to 1, but nothing holds them there


class Part(NamedTuple):
    """Points of one frame, which are visible, and their scores; leading axis persons."""

    points: np.ndarray
    ok: np.ndarray
    score: np.ndarray | None


class Frame(NamedTuple):
    """Body, hands and faces of one frame, before padding; each may have other persons."""

    body: Part
    hands: Part
    faces: Part
    size: tuple[int, int] | None
    fps: float | None = None


def read_dwpose(
    path: str | Path, size: tuple[int, int] | None = None, fps: float | None = None
) -> KeypointClip:
    """Read the official DWPose formats; all persons are kept, in file order.

    Args:
        path: `.pkl` or `.pickle` (a list of frames), `.json` (one frame or a list of them), or a
            folder of `.json` files of one frame each, in natural order.
        size: height and width of the frames, for files that do not say.
        fps: frames per second, for files that do not say.

    A hands or faces array of other length than the persons is kept too (the official painter draws
    them all): rows beyond the bodies go to persons without a body. Scores are kept if all frames
    with persons have them.
    Raises `UserError` naming file, frame and key for anything missing, misshapen or not finite.
    """
    frames = (_parse(where, frame) for where, frame in _load(Path(path)))
    return joined_frames(path, frames, size, fps)


def read_musepose(
    path: str | Path, size: tuple[int, int] | None = None, fps: float | None = None
) -> KeypointClip:
    """Read MusePose's `.npy`: the same frames, pickled inside an array of objects.

    Arguments and errors as in `read_dwpose`; MusePose stores no frame size.
    """
    frames = read_pickled_npy(path, "DWPose frames of MusePose (.npy)")
    parsed = (_parse(f"{path}: frame {number}", frame) for number, frame in enumerate(frames))
    return joined_frames(path, parsed, size, fps)


def joined_frames(
    path: str | Path,
    frames: Iterable[Frame],
    size: tuple[int, int] | None,
    fps: float | None,
    program: str = "DWPose",
) -> KeypointClip:
    """One clip, padded to the most persons; `size` and `fps` count where the frames have none.

    program: who wrote the frames, for messages.

    Raises `UserError` for no frames, sizes or rates that differ, and clips beyond all measure.
    """
    kept: list[Frame] = []
    persons = 0
    for frame in frames:
        kept.append(frame)
        persons = max(persons, *(len(part.points) for part in frame[:3]))
        check_room(path, len(kept), persons, 128 * 4)
    if not kept:
        raise UserError(f"{path}: expected {program} frames, found an empty list")
    sizes = {frame.size for frame in kept}
    if len(sizes) > 1:
        found = ", ".join(sorted(str(one) for one in sizes)[:3])
        raise UserError(f"{path}: expected one frame size (H, W), found {found}")
    rates = {frame.fps for frame in kept}
    if len(rates) > 1:
        found = ", ".join(sorted(str(one) for one in rates)[:3])
        raise UserError(f"{path}: expected one frame rate (fps), found {found}")
    arrays: dict[str, Any] = {}
    for name, points in _POINTS.items():
        parts: list[Part] = [getattr(frame, name) for frame in kept]
        arrays[name] = _pad([part.points for part in parts], (persons, *points, 2), float)
        arrays[f"{name}_ok"] = _pad([part.ok for part in parts], (persons, *points), bool)
        scores = [part.score for part in parts if len(part.points)]
        if scores and all(score is not None for score in scores):
            rows = (np.zeros((0, *points)) if p.score is None else p.score for p in parts)
            arrays[f"{name}_score"] = _pad(rows, (persons, *points), float)
    return KeypointClip(**arrays, size=sizes.pop() or size, fps=rates.pop() or fps)


def _pad(rows: Iterable[np.ndarray], shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Stack ragged frames to f p ...; persons that are missing are zero."""
    rows = list(rows)
    padded = np.zeros((len(rows), *shape), dtype)
    for frame, some in zip(padded, rows, strict=True):
        frame[: len(some)] = some
    return padded


def _load(path: Path) -> Iterator[tuple[str, object]]:
    """(where, frame) pairs; `where` opens the error messages about that frame."""
    if os.path.isdir(path):
        for file in listed_files(path, (".json",), "DWPose JSON files"):
            yield str(file), load_json(file, "DWPose JSON")
        return
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = load_json(existing_file(path, "a DWPose JSON file"), "DWPose JSON")
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


def _parse(where: str, frame: Any) -> Frame:
    bodies = field(where, frame, "bodies")
    candidate = field(where, bodies, "candidate")
    candidate = numbers(f"{where}: candidate", candidate, (2,), 18 * MOST_SLOTS)
    subset = numbers(f"{where}: subset", field(where, bodies, "subset"), (18,), MOST_SLOTS)
    hands = numbers(f"{where}: hands", field(where, frame, "hands"), (21, 2), 2 * MOST_SLOTS)
    faces = frame.get("faces")
    faces = numbers(f"{where}: faces", [] if faces is None else faces, (68, 2), MOST_SLOTS)
    if len(hands) % 2:
        raise UserError(
            f"{where}: hands: expected all left hands, then all right ones, found {len(hands)}"
        )
    body, ok = _pick(f"{where}: bodies", candidate, subset)
    hands_score = _scores(where, frame, "hands_score", hands)
    return Frame(
        body=Part(body, ok, _scores(f"{where}: bodies", bodies, "score", body)),
        hands=Part(
            *_visible(f"{where}: hands", _by_person(hands)),
            None if hands_score is None else _by_person(hands_score),
        ),
        faces=Part(
            *_visible(f"{where}: faces", faces), _scores(where, frame, "faces_score", faces)
        ),
        size=frame_size(where, frame.get("H"), frame.get("W")),
        fps=frame_rate(where, frame.get("fps")),
    )


def _by_person(hands: np.ndarray) -> np.ndarray:
    """All left hands, then all right ones (2n ...) -> n 2 ..."""
    return hands.reshape(2, len(hands) // 2, *hands.shape[1:]).swapaxes(0, 1)


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
    return _fractions(where, body), ok


def _visible(where: str, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ok = np.any(points != -1, axis=-1)
    return _fractions(where, np.where(ok[..., None], points, 0.0)), ok


def _fractions(where: str, points: np.ndarray) -> np.ndarray:
    return within(where, points, FURTHEST, "coordinates as fractions of the frame")


def _scores(where: str, container: dict, key: str, points: np.ndarray) -> np.ndarray | None:
    """The score of each of `points`, if the file has them."""
    if container.get(key) is None:
        return None
    where = f"{where}: {key}"
    score = numbers(where, container[key], points.shape[1:2], 2 * MOST_SLOTS)
    if len(score) != len(points):
        raise UserError(f"{where}: expected {len(points)} rows as of points, found {len(score)}")
    return within(where, score, _HIGHEST_SCORE, "scores of about 0 to 1")
