"""Colour restoration: statistics of the whole video, merged over chunks of any size."""

from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.sampling.color import (
    apply_color,
    color_statistics,
    merge_color,
    restore_color,
)
from realisdance_jax.utils.errors import UserError


def clip(frames=6, offset=0.0, seed=0):
    draws = np.random.default_rng(seed).standard_normal((2, frames, 4, 5, 3))
    return (draws * [0.2, 1.0, 3.0] + [0.1, -0.5, 2.0] + offset).astype(np.float32)


def expected(video, reference):
    """The formula spelled out, per sample and channel."""
    out = np.empty(video.shape)
    for b in range(video.shape[0]):
        for c in range(video.shape[-1]):
            x, r = video[b, ..., c].astype(np.float64), reference[b, ..., c].astype(np.float64)
            scale = r.std(ddof=1) / max(x.std(ddof=1), 1e-10)
            out[b, ..., c] = (x - x.mean()) * scale + r.mean()
    return out


def test_by_the_formula():
    video, reference = clip(), clip(1, seed=1)[:, 0, :3]
    restored = restore_color(video, reference)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, expected(video, reference), atol=2e-6)


def test_result_has_the_statistics_of_the_reference():
    video, reference = clip(), clip(1, seed=1)[:, 0]
    restored = color_statistics(restore_color(video, reference))
    wanted = color_statistics(reference[:, None])
    np.testing.assert_allclose(restored.mean, wanted.mean, atol=1e-6)
    np.testing.assert_allclose(restored.std, wanted.std, rtol=1e-6)


def test_statistics_are_of_the_video_not_of_a_frame():
    video, reference = clip(), clip(1, seed=1)[:, 0]
    video[:, 3:] += 1.0
    restored = restore_color(video, reference)
    per_frame = restore_color(video[:, :1], reference)
    assert np.abs(restored[:, :1] - per_frame).max() > 0.1


@given(cuts=st.lists(st.integers(1, 5), min_size=1, max_size=5), offset=st.sampled_from([0.0, 1e3]))
@settings(max_examples=30, derandomize=True, deadline=None)
def test_chunks_merge_to_the_whole(cuts, offset):
    video = clip(sum(cuts), offset)
    bounds = np.cumsum([0, *cuts])
    chunks = [video[:, start:end] for start, end in pairwise(bounds)]
    merged = reduce(merge_color, map(color_statistics, chunks))
    whole = color_statistics(video)
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.std, whole.std, rtol=1e-10)
    reference = color_statistics(clip(1, seed=1))
    parts = [apply_color(chunk, merged, reference) for chunk in chunks]
    whole_at_once = restore_color(video, clip(1, seed=1)[:, 0])
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole_at_once, atol=1e-6)


def test_flat_video_and_flat_reference_stay_finite():
    flat = np.full((1, 2, 3, 3, 3), 0.25, np.float32)
    restored = restore_color(flat, clip(1)[:1, 0])
    np.testing.assert_allclose(restored, expected(flat, clip(1)[:1, 0]), atol=1e-6)
    np.testing.assert_array_equal(restore_color(clip()[:1], flat[:, 0]), 0.25)


def test_no_frames():
    with pytest.raises(UserError, match="at least one frame"):
        restore_color(np.zeros((1, 0, 4, 4, 3), np.float32), np.zeros((1, 4, 4, 3), np.float32))
