"""Clips as plain `.npz` files: arrays of numbers and two words about them, no objects."""

from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.poses.array_files import read_npz
from realisdance_jax.poses.clips import BodyClip, Clip, HandClip, KeypointClip
from realisdance_jax.poses.file_values import MOST_FRAMES, frame_size
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

VERSION = 1
KINDS: dict[str, type] = {kind.__name__: kind for kind in (KeypointClip, BodyClip, HandClip)}

_TRUTHS = ("body_ok", "hands_ok", "faces_ok", "present", "right")
_MAYBE = ("body_score", "hands_score", "faces_score")
_SINGLE = ("size", "fps", "focal_length", "add_hands_mean")
_WHAT = "a clip of poses (.npz)"


def save_clip(path: str | Path, clip: Clip) -> None:
    """Write `clip` to an `.npz` that `load_clip` reads; it appears whole or not at all.

    Raises `UserError` for another ending and where nothing can be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path}: expected a name ending in .npz, found {path.name!a}")
    values = {_stored(clip, name): getattr(clip, name) for name in vars(clip)}
    values = {name: np.asarray(value) for name, value in values.items() if value is not None}
    try:
        with atomic_output(path) as partial:
            about = {"kind": np.asarray(type(clip).__name__), "version": np.asarray(VERSION)}
            np.savez(partial, allow_pickle=False, **about, **values)  # type: ignore
    except OSError as error:
        raise UserError(f"{path}: cannot write it ({error.strerror})") from None


def _stored(clip: Clip, name: str) -> str:
    """A focal length per frame is an array of that name, the one of a `HandClip` is not."""
    return "focal_length" if isinstance(clip, HandClip) and name == "focal" else name


def load_clip(path: str | Path) -> Clip:
    """Read what `save_clip` wrote.

    Raises `UserError` naming file and entry for damage, for other versions, and for arrays of the
    wrong type, shape or with values that are not finite.
    """
    about = read_npz(path, ("kind", "version"), _WHAT, 1 << 16)
    kind = KINDS.get(str(about.get("kind", "none")))
    version = about.get("version", np.zeros(()))
    if kind is None or version.shape != () or version != VERSION:
        raise UserError(
            f"{path}: expected one of {', '.join(KINDS)} in version {VERSION}, found "
            f"{str(about.get('kind', 'no kind'))[:40]!a}, {str(version)[:20]!a}"
        )
    names = [name for name in kind.__annotations__ if name not in _SINGLE]
    if kind is HandClip:
        names.remove("focal")
    stored = read_npz(path, (*names, *_SINGLE), _WHAT)
    values: dict[str, Any] = {}
    for name in names:
        if name in stored or name not in _MAYBE:
            values[name] = _array(f"{path}: {name}", stored.get(name), name in _TRUTHS)
    values |= _singles(path, kind, stored)
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _array(where: str, value: np.ndarray | None, truth: bool) -> np.ndarray:
    wanted = "booleans" if truth else "finite numbers"
    if value is None:
        raise UserError(f"{where}: expected {wanted}, found no such entry")
    if value.dtype.kind != ("b" if truth else "f") or not np.all(np.isfinite(value)):
        raise UserError(f"{where}: expected {wanted}, found others ({value.dtype})")
    if value.ndim == 0 or len(value) > MOST_FRAMES:
        raise UserError(f"{where}: expected at most {MOST_FRAMES} frames, found {value.shape}")
    return value


def _singles(path: str | Path, kind: type, stored: dict[str, np.ndarray]) -> dict[str, Any]:
    """Size, fps and the rest, which are one value each."""
    found: dict[str, Any] = {}
    if "size" in stored:
        sides = stored["size"]
        if sides.shape != (2,) or sides.dtype.kind not in "iu":
            raise UserError(f"{path}: size: expected two whole numbers, found others")
        found["size"] = frame_size(str(path), *sides.tolist())
    for entry, name in (("fps", "fps"), ("focal_length", "focal")):
        if entry in stored and (entry == "fps" or kind is HandClip):
            number = stored[entry]
            if number.shape != () or number.dtype.kind not in "iuf" or not 0 < number < 1e9:
                raise UserError(f"{path}: {entry}: expected a number above zero, found others")
            found[name] = float(number)
    if kind is BodyClip:
        flag = stored.get("add_hands_mean")
        if flag is None or flag.shape != () or flag.dtype.kind != "b":
            raise UserError(f"{path}: add_hands_mean: expected true or false, found others")
        found["add_hands_mean"] = bool(flag)
    return found
