"""Which frames: the official formulas, written out, at every edge."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.data.picking import (
    clip_span,
    pick_frames,
    pick_pair,
    pick_reference,
    reference_candidates,
)
from realisdance_jax.utils.errors import UserError

FAST = settings(max_examples=150, derandomize=True, deadline=None)
LENGTHS, FRAMES, STRIDES = st.integers(1, 90), st.integers(1, 17), st.integers(1, 6)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@FAST
@given(LENGTHS, FRAMES, STRIDES, st.integers(0, 100))
def test_frames_follow_the_formula(length, frames, stride, start):
    picked = pick_frames(length, frames, stride, rng(), start)
    span = min(length, (frames - 1) * stride + 1)
    first = min(start, length - span)
    wanted = [
        first + (k * (span - 1)) // (frames - 1) if frames > 1 else first for k in range(frames)
    ]
    assert picked.tolist() == wanted


@FAST
@given(LENGTHS, FRAMES, STRIDES, st.integers(0, 50))
def test_a_long_source_gives_every_stride_th_frame_from_anywhere(more, frames, stride, seed):
    length = clip_span(frames, stride) + more
    for fixed in (False, True):
        picked = pick_frames(length, frames, stride, rng(seed), fixed_gap=fixed)
        assert set(np.diff(picked)) <= {stride}
        assert 0 <= picked[0] <= picked[-1] < length


def test_the_first_frame_is_uniform_over_all_places():
    generator = rng()
    firsts = Counter(int(pick_frames(12, 3, 4, generator)[0]) for _ in range(4000))
    assert sorted(firsts) == [0, 1, 2, 3]  # 12 frames, 9 spanned
    assert max(firsts.values()) < 1.2 * min(firsts.values())


def test_short_sources_shrink_then_repeat():
    assert pick_frames(9, 4, 4, rng()).tolist() == [0, 2, 5, 8]
    assert pick_frames(3, 5, 4, rng()).tolist() == [0, 0, 1, 1, 2]
    assert pick_frames(1, 3, 2, rng()).tolist() == [0, 0, 0]


def test_fixed_gap_refuses_a_short_source():
    assert pick_frames(13, 4, 4, rng(), fixed_gap=True).tolist() == [0, 4, 8, 12]
    with pytest.raises(UserError, match=r"at least 13 frames.*found 12"):
        pick_frames(12, 4, 4, rng(), fixed_gap=True)


def test_reference_is_any_frame_or_the_first():
    generator = rng()
    seen = Counter(pick_reference(range(5), "random", generator) for _ in range(3000))
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert max(seen.values()) < 1.2 * min(seen.values())
    assert pick_reference(range(5), "first", generator) == 0


def test_pairs_are_any_two_different_frames():
    generator = rng()
    seen = Counter(pick_pair(4, "random", generator) for _ in range(6000))
    assert sorted(seen) == [(a, b) for a in range(4) for b in range(4) if a != b]
    assert max(seen.values()) < 1.3 * min(seen.values())
    assert {pick_pair(2, "random", generator) for _ in range(50)} == {(0, 1), (1, 0)}


def test_first_pairs():
    generator = rng()
    assert {pick_pair(4, "first", generator) for _ in range(99)} == {(0, 1), (0, 2), (0, 3)}
    # Of an image list: the middle one of what is left, floor(m / 2) of m.
    for length, target in ((2, 1), (3, 2), (4, 2), (5, 3), (6, 3)):
        assert pick_pair(length, "first", generator, images=True) == (0, target)


def test_a_pair_needs_two_frames():
    for images in (False, True):
        with pytest.raises(UserError, match="at least 2 frames, found 1"):
            pick_pair(1, "first", rng(), images)


@FAST
@given(LENGTHS, st.integers(0, 20), st.integers(0, 9))
def test_limited_candidates_are_even_and_hold_the_first(length, limit, seed):
    candidates = reference_candidates(length, limit)
    assert len(candidates) == (min(limit, length) if limit else length)
    assert candidates[0] == 0
    assert candidates[-1] < length
    gaps = np.diff([*candidates, length])
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1
    if length > 1:
        reference, target = pick_pair(length, "random", rng(seed), False, candidates)
        assert reference in candidates
        assert reference != target
        assert 0 <= target < length
