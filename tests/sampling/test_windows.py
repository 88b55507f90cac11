"""Windows: the official lists, and what must hold for any video and window shape."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.sampling.windows import (
    blend_windows,
    official_windows,
    plan_windows,
    triangular_weights,
    van_der_corput,
)
from realisdance_jax.utils.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "windows.json.xz"


@st.composite
def shapes(draw):
    """(num_frames, size, stride, overlap)"""
    size = draw(st.integers(1, 17))
    overlap = draw(st.integers(0, size - 1))
    return draw(st.integers(1, 90)), size, draw(st.integers(1, 5)), overlap


def test_official_lists():
    rows = json.loads(lzma.decompress(GOLDEN.read_bytes()))
    assert len(rows) == 200
    for step, frames, size, stride, overlap, windows in rows:
        assert official_windows(step, frames, size, stride, overlap) == windows


def test_released_settings():
    plan = plan_windows("official", 50, 80, 16, 1, 4)
    assert plan.index.shape == (50, 7, 16)
    assert plan.index.dtype == np.int32
    assert not (plan.index == plan.index[:1]).all()
    assert plan.weight.min() == 1


def test_mirrored_bits():
    assert [van_der_corput(k) for k in range(6)] == [0, 0.5, 0.25, 0.75, 0.125, 0.625]


@given(shape=shapes(), steps=st.integers(1, 6), batch=st.integers(1, 4), kind=st.sampled_from("ob"))
@settings(max_examples=120, derandomize=True, deadline=None)
def test_every_frame_counts_at_every_step(shape, steps, batch, kind):
    frames, size, stride, overlap = shape
    kind, stride = ("official", stride) if kind == "o" else ("blend", 1)
    plan = plan_windows(kind, steps, frames, size, stride, overlap, batch)
    assert plan.index.shape == plan.weight.shape
    assert plan.index.shape[0] == steps
    assert plan.index.shape[1] % batch == 0
    assert plan.index.shape[2] == min(size, frames)
    assert plan.weight.dtype == np.float32
    assert plan.index.min() >= 0
    assert plan.index.max() < frames
    assert plan.count.shape == (steps, frames)
    for index, weight, count in zip(plan.index, plan.weight, plan.count, strict=True):
        total = np.zeros(frames)
        np.add.at(total, index, weight)
        assert total.min() > 0
        np.testing.assert_array_equal(count, total)
    index, weight = map(np.concatenate, zip(*plan.batches(steps - 1, batch), strict=True))
    np.testing.assert_array_equal(index, plan.index[-1])
    np.testing.assert_array_equal(weight, plan.weight[-1])


@given(shape=shapes(), step=st.integers(0, 60))
@settings(max_examples=120, derandomize=True, deadline=None)
def test_weights_are_those_of_writing_each_window_at_once(shape, step):
    """Indexed in-place addition, here numpy's, keeps the last repeat of a frame, once."""
    frames, size, stride, overlap = shape
    plan = plan_windows("official", step + 1, frames, size, stride, overlap)
    index, weight = plan.index[step], plan.weight[step]
    values = np.random.default_rng(step).standard_normal(index.shape)
    sums, counts = np.zeros(frames), np.zeros(frames)
    windows = official_windows(step, frames, size, stride, overlap)
    for window, value in zip(windows, values, strict=False):
        sums[window] += value
        counts[window] += 1
    ours, total = np.zeros(frames), np.zeros(frames)
    np.add.at(ours, index, weight * values)
    np.add.at(total, index, weight)
    np.testing.assert_allclose(ours, sums, atol=1e-12)
    np.testing.assert_array_equal(total, counts)


def test_repeated_frame_counts_once():
    plan = plan_windows("official", 1, 6, 4, 2, 1)
    repeated = [0, 2, 4, 0]
    place = plan.index[0].tolist().index(repeated)
    assert plan.weight[0, place].tolist() == [0, 1, 1, 1]


def test_padding_windows_hold_frames_but_count_nothing():
    plan = plan_windows("official", 3, 80, 16, 1, 4, window_batch=4)
    assert plan.index.shape[1] == 8
    assert (plan.weight[:, 7] == 0).all()
    assert (plan.weight[:, :7] == 1).all()


@given(shape=shapes())
@settings(max_examples=120, derandomize=True, deadline=None)
def test_blended_windows_run_in_order_without_wrapping(shape):
    frames, size, _, overlap = shape
    windows = blend_windows(frames, size, overlap)
    starts = [window[0] for window in windows]
    assert starts[0] == 0
    assert windows[-1][-1] == frames - 1
    assert all(window == list(range(window[0], window[0] + len(window))) for window in windows)
    assert all(0 < step <= size - overlap for step in np.diff(starts))


def test_blended_weights():
    assert blend_windows(10, 4, 1) == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert blend_windows(9, 4, 1) == [[0, 1, 2, 3], [3, 4, 5, 6], [5, 6, 7, 8]]
    assert triangular_weights(4).tolist() == [1, 2, 2, 1]
    assert triangular_weights(5).tolist() == [1, 2, 3, 2, 1]
    plan = plan_windows("blend", 2, 9, 4, 1, 1)
    assert plan.weight.tolist() == [[[1, 2, 2, 1]] * 3] * 2


@pytest.mark.parametrize("kind", ["official", "blend"])
def test_short_video_is_one_window_shared_by_all_steps(kind):
    plan = plan_windows(kind, 5, 7, 16, 1, 4)
    assert plan.index.tolist() == [[list(range(7))]] * 5


def test_blended_windows_are_shared_and_official_ones_are_not():
    for kind, shared in (("blend", True), ("official", False)):
        index = plan_windows(kind, 5, 40, 16, 1, 4).index
        assert (index == index[:1]).all() == shared


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 16}, "window overlap: expected less than the size 16, found 16"),
        ({"overlap": -1}, "window overlap: expected at least 0"),
        ({"stride": 0}, "window stride: expected at least 1, found 0"),
        ({"size": 0}, "window size: expected at least 1, found 0"),
        ({"num_frames": 0}, "number of frames: expected at least 1"),
        ({"steps": 0}, "sampling steps: expected at least 1"),
        ({"window_batch": 0}, "window batch: expected at least 1"),
        ({"kind": "loop"}, "windows: expected official or blend, found 'loop'"),
        ({"kind": "blend", "stride": 2}, "window stride: expected 1 for blended windows, found 2"),
    ],
)
def test_bad_requests(settings, message):
    good = {"kind": "official", "steps": 4, "num_frames": 40, "size": 16, "stride": 1, "overlap": 4}
    with pytest.raises(UserError, match=message):
        plan_windows(**{**good, **settings})
