"""Every clip read once before it is prepared: what is wrong with it, in one line."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from realisdance_jax.data.clips import Clip, Sizes
from realisdance_jax.data.sources import ClipSource
from realisdance_jax.data.transforms import crop_box
from realisdance_jax.utils.errors import UserError

_DARK = 16
"""A pose picture without a brighter value is empty; lossy video blurs black a little."""

_SAME_SHAPE = 0.01
"""Relative difference of width / height at which two streams are out of register."""

OFTEN_EMPTY = ("hamer",)
"""Conditions that may be empty throughout: hands are not always in sight."""


@dataclass(frozen=True)
class Limits:
    """What a clip must have. size: height and width it will be trained at, in pixels.

    max_empty: share of frames whose body poses may be empty. max_upscale: how much a crop may be
    enlarged. min_frames: a pair of different pictures needs 2.
    """

    size: tuple[int, int]
    max_empty: float = 0.5
    max_upscale: float = 2.0
    min_frames: int = 2


@dataclass(frozen=True)
class Verdict:
    """frames: length of the clip; reason: why it is skipped, empty if it is kept."""

    name: str
    frames: int
    reason: str = ""


def judge(source: ClipSource, conditions: Sequence[str], limits: Limits, number: int) -> Verdict:
    """Read clip `number` whole."""
    try:
        return Verdict(source.name(number), check_clip(source.clip(number), conditions, limits))
    except UserError as error:
        name = source.name(number)
        return Verdict(name, 0, str(error).removeprefix(f"{name}: "))


def validate(
    source: ClipSource, conditions: Sequence[str], limits: Limits, workers: int = 1
) -> Iterator[Verdict]:
    """Verdicts on all clips in order, `workers` clips at a time."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        yield from pool.map(partial(judge, source, conditions, limits), range(len(source)))


def check_clip(clip: Clip, conditions: Sequence[str], limits: Limits) -> int:
    """Number of frames of a clip that can be used.

    Raises `UserError` that says what was expected and found: equal frame counts, every frame
    decodable, large enough, poses of the shape of the film, bodies in most frames.
    """
    length = clip.length()
    if length < limits.min_frames:
        raise UserError(f"expected at least {limits.min_frames} frames, found {length}")
    every = range(length)
    sizes = {number: frame.shape[:2] for number, frame in zip(every, clip.film(every), strict=True)}
    for size in set(sizes.values()):
        _require_large(size, limits)
    for name in conditions:
        pictures = clip.condition(name, every, sizes)
        empty = _count_empty(name, pictures, sizes)
        if name not in OFTEN_EMPTY and empty > limits.max_empty * length:
            raise UserError(
                f"{name}: expected at most {limits.max_empty:.0%} of the frames without a pose, "
                f"found {empty} of {length}"
            )
    return length


def _require_large(size: tuple[int, int], limits: Limits) -> None:
    _, _, height, width = crop_box(*size, limits.size[1] / limits.size[0])
    if max(limits.size[0] / height, limits.size[1] / width) > limits.max_upscale:
        least = "x".join(str(-int(-side // limits.max_upscale)) for side in limits.size)
        raise UserError(
            f"expected a film that holds {least} pixels of the target's shape, "
            f"found {size[0]}x{size[1]}"
        )


def _count_empty(name: str, pictures: Iterable[np.ndarray], sizes: Sizes) -> int:
    """Dark pictures; raises `UserError` for one that is not in register with the film."""
    empty = 0
    for number, picture in zip(sizes, pictures, strict=True):
        height, width = picture.shape[:2]
        film_height, film_width = sizes[number]
        if abs(width * film_height / (height * film_width) - 1) > _SAME_SHAPE:
            raise UserError(
                f"{name}: expected the shape of the film ({film_height}x{film_width}), "
                f"found {height}x{width}"
            )
        empty += bool(picture.max() <= _DARK)
    return empty
