"""Which frames of a clip become an example: the official rules, pure in lengths and a generator.

Source: the data sets of the official release. A clip of `frames` frames at a stride spans
(frames - 1) * stride + 1 source frames.
"""

from collections.abc import Sequence

import numpy as np

from realisdance_jax.data.config import Reference
from realisdance_jax.shapes import Int
from realisdance_jax.utils.errors import UserError


def clip_span(frames: int, stride: int) -> int:
    """Source frames from the first to the last of a clip, both included."""
    return (frames - 1) * stride + 1


def pick_frames(
    length: int,
    frames: int,
    stride: int,
    rng: np.random.Generator,
    start: int | None = None,
    fixed_gap: bool = False,
) -> Int[np.ndarray, "f"]:
    """Ascending frame numbers of one clip out of `length` source frames.

    With a fixed gap every `stride`-th frame. Otherwise the span shrinks to what a short source has
    and frame k lies floor(k * (span - 1) / (frames - 1)) after the first: the same for a source
    that is long enough, repeats for one of fewer frames than the clip.

    Args:
        start: first frame, cut to the last possible one; uniform over the possible ones if None.

    Raises `UserError` when the source is shorter than the span and the gap is fixed.
    """
    span = clip_span(frames, stride)
    if fixed_gap and length < span:
        raise UserError(
            f"expected at least {span} frames ({frames} at stride {stride}), found {length}"
        )
    span = min(length, span)
    last = length - span
    first = int(rng.integers(last + 1)) if start is None else min(start, last)
    steps = np.arange(frames, dtype=np.int64)
    return first + steps * (span - 1) // max(1, frames - 1)


def pick_reference(
    candidates: Sequence[int] | range, mode: Reference, rng: np.random.Generator
) -> int:
    """The reference frame: uniform over `candidates` (target frames among them), or the first."""
    return candidates[int(rng.integers(len(candidates)))] if mode == "random" else candidates[0]


def pick_pair(
    length: int,
    mode: Reference,
    rng: np.random.Generator,
    images: bool = False,
    candidates: Sequence[int] | range | None = None,
) -> tuple[int, int]:
    """Reference and target of the image stage, two different frames.

    `random`: any two. `first`: frame 0 and any other; of an image list the middle one of the
    others, without chance.

    Args:
        images: whether the source is a line of an image list.
        candidates: frames that may be the reference; all by default.

    Raises `UserError` for a source of a single frame.
    """
    if length < 2:
        raise UserError(f"expected at least 2 frames, found {length}")
    reference = pick_reference(range(length) if candidates is None else candidates, mode, rng)
    if images and mode == "first":
        return 0, 1 + (length - 1) // 2
    target = int(rng.integers(length - 1))
    return reference, target + (target >= reference)


def reference_candidates(length: int, limit: int) -> list[int]:
    """At most `limit` evenly spaced frames, the first among them; every frame if `limit` is 0."""
    if limit <= 0 or limit >= length:
        return list(range(length))
    return [k * length // limit for k in range(limit)]
