"""Values out of strangers' files: their shapes are checked before anything is copied or counted."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.utils.errors import UserError

MOST_FRAMES = 1 << 18
"""Frames of a clip: three hours at 24 a second."""

MOST_SLOTS = 256
"""Persons or hands of one frame."""

HIGHEST_RATE = 1e6
"""Frames per second."""

_MOST_BYTES = 1 << 30  # of one clip; a list that repeats itself is small in a pickle
_NUMBER = (int, float, np.integer, np.floating)


def field(where: str, container: Any, key: str) -> Any:
    """`container[key]`; `UserError` when it is no dict or has no such key."""
    if not isinstance(container, dict):
        raise UserError(f"{where}: expected a dict with {key!r}, found {type(container).__name__}")
    if key not in container:
        raise UserError(f"{where}: expected the key {key!r}, found none")
    return container[key]


def numbers(where: str, value: Any, trailing: tuple[int, ...], most: int) -> np.ndarray:
    """`value`, nested lists or arrays, as float64 of shape (n, *trailing); n = 0 if it is empty.

    Raises `UserError` for any other shape, for what is no number, and for n above `most`.
    """
    wanted = f"numbers of shape ({', '.join(map(str, ('n', *trailing)))})"
    if _empty(value):
        return np.zeros((0, *trailing))
    if not isinstance(value, list | tuple | np.ndarray):
        raise UserError(f"{where}: expected {wanted}, found {type(value).__name__}")
    if isinstance(value, np.ndarray) and value.dtype.kind not in "iuf":
        raise UserError(f"{where}: expected {wanted}, found values of type {value.dtype}")
    if isinstance(value, np.ndarray) and (not value.ndim or value.shape[1:] != trailing):
        raise UserError(f"{where}: expected {wanted}, found shape {value.shape}")
    if len(value) > most:
        raise UserError(f"{where}: expected at most {most} rows, found {len(value)}")
    # A list goes to numpy only after this: a long text in it would widen every number.
    if not _has_shape(value, (len(value), *trailing)):
        raise UserError(f"{where}: expected {wanted}, found ragged or mixed values")
    try:
        return np.array(value, np.float64)
    except OverflowError:
        raise UserError(f"{where}: expected {wanted}, found one too large") from None


def _empty(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and value.size == 0
    if not isinstance(value, list | tuple):
        return False
    return all(isinstance(part, list | tuple) and not part for part in value)


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    if isinstance(value, np.ndarray):
        return value.shape == shape and value.dtype.kind in "iuf"
    if not isinstance(value, list | tuple) or len(value) != shape[0]:
        return False
    if len(shape) > 1:
        return all(_has_shape(part, shape[1:]) for part in value)
    return all(issubclass(kind, _NUMBER) and kind is not bool for kind in set(map(type, value)))


def within(where: str, values: np.ndarray, furthest: float, what: str) -> np.ndarray:
    """`values` if all are finite and at most `furthest` from zero, else a `UserError`."""
    if not np.all(np.abs(values) <= furthest):  # false for NaN as well
        raise UserError(f"{where}: expected {what}, found values beyond {furthest:g} or not finite")
    return values


def frame_size(where: str, height: Any, width: Any) -> tuple[int, int] | None:
    """Height and width in pixels; None when both are None, `UserError` for anything else."""
    sides = (height, width)
    if all(side is None for side in sides):
        return None
    whole = all(isinstance(side, _NUMBER) and not isinstance(side, bool) for side in sides)
    if not whole or not all(1 <= side < 2**15 and side == int(side) for side in sides):
        found = ", ".join(_brief(side) for side in sides)
        raise UserError(f"{where}: H, W: expected the frame size in pixels, found {found}")
    return int(height), int(width)


def frame_rate(where: str, value: Any) -> float | None:
    """Frames per second; None stays None, `UserError` for anything but a number above zero."""
    if value is None:
        return None
    number = isinstance(value, _NUMBER) and not isinstance(value, bool)
    if not number or not 0 < value <= HIGHEST_RATE:  # false for NaN as well
        raise UserError(f"{where}: fps: expected frames per second, found {_brief(value)}")
    return float(value)


def _brief(value: Any) -> str:
    small = isinstance(value, int) and abs(value) < 1 << 63  # Python refuses to print huge ones
    plain = small or value is None or isinstance(value, float | np.generic)
    return f"{value!a:.30}" if plain else type(value).__name__


def check_room(where: object, frames: int, slots: int, numbers_each: int) -> None:
    """`UserError` when a clip of so many frames, slots each and numbers per slot is absurd."""
    size = 8 * frames * slots * numbers_each
    if frames > MOST_FRAMES or size > _MOST_BYTES:
        raise UserError(
            f"{where}: expected a clip of at most {MOST_FRAMES} frames and {_MOST_BYTES >> 20} MiB,"
            f" found {frames} frames of up to {slots} persons or hands ({math.ceil(size / 2**20)}"
            " MiB)"
        )


def load_json(path: Path, what: str) -> Any:
    """What a JSON file holds; `UserError`, saying `what` was expected, when it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: expected {what}, found an unreadable file ({reason})") from None
