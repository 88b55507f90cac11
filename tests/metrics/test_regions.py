"""Masks, means, jitter, identity and gates: known answers."""

import numpy as np
import pytest

from realisdance_jax.metrics.gates import gate_weights
from realisdance_jax.metrics.identity import among_frames, to_reference
from realisdance_jax.metrics.masks import drawn_masks
from realisdance_jax.metrics.states import Mean, bootstrap_interval, merged
from realisdance_jax.metrics.temporal import motion_ratio, temporal_jitter


def test_means_merge_and_leave_out_what_was_not_measured():
    values = np.array([1.0, np.nan, 5.0, 6.0])
    assert Mean.of(values).value == 4
    assert merged([Mean.of(values[:2]), Mean.of(values[2:])]) == Mean.of(values)
    assert Mean.of([1.0, 4.0], [3.0, 1.0]).value == 7 / 4
    assert np.isnan(Mean().value)
    assert np.isnan(Mean.of(np.array([np.nan])).value)


def test_interval_covers_the_mean_and_narrows_with_more_videos():
    rng = np.random.default_rng(0)
    few, many = rng.normal(2, 1, 16), rng.normal(2, 1, 1600)
    low, high = bootstrap_interval(few, seed=1)
    assert low < few.mean() < high
    assert (low, high) == bootstrap_interval(few, seed=1)
    assert np.isnan(bootstrap_interval(few[:1], seed=1)).all()
    tight = bootstrap_interval(many, seed=1)
    assert 0.08 < tight[1] - tight[0] < 0.12 < high - low  # 2 * 1.96 / sqrt(1600)


def test_regions_of_what_a_condition_shows():
    condition = np.zeros((1, 4, 5, 3), np.uint8)
    condition[0, 1, 2] = (0, 9, 0)
    condition[0, 2, 3] = (3, 0, 0)
    assert drawn_masks(condition).sum() == 2
    assert drawn_masks(condition, threshold=5).sum() == 1


@pytest.fixture
def video():
    return np.random.default_rng(3).integers(40, 200, (8, 6, 5, 3)).astype(np.uint8)


def test_steady_errors_are_no_jitter(video):
    drift = np.arange(8, dtype=np.uint8)[:, None, None, None]
    for wrong in (video, video + np.uint8(9), video + drift):
        assert temporal_jitter(wrong, video).max() == 0


def test_flicker_is_jitter(video):
    wrong = video.copy()
    wrong[::2] += 4
    np.testing.assert_allclose(temporal_jitter(wrong, video), 8)
    wrong = video.copy()
    wrong[4, :3] += 6
    np.testing.assert_allclose(temporal_jitter(wrong, video), [0, 0, 3, 6, 3, 0])


def test_jitter_inside_a_mask(video):
    wrong = video.copy()
    wrong[4, 0] += 6
    mask = np.zeros(video.shape[:3], bool)
    mask[3:6, 0] = True
    np.testing.assert_allclose(temporal_jitter(wrong, video, mask), [np.nan, 0, 6, 12, 6, 0])


def test_motion_ratio(video):
    still = np.repeat(video[:1], 8, axis=0)
    assert motion_ratio(video, video) == 1
    assert motion_ratio(still, video) == 0
    assert np.isnan(motion_ratio(video, still))
    with pytest.raises(ValueError, match="at least two frames"):
        motion_ratio(video[:1], video[:1])
    with pytest.raises(ValueError, match="at least three frames"):
        temporal_jitter(video[:2], video[:2])


def test_identity_is_a_cosine():
    frames = np.array([[1.0, 0], [0, 2], [-3, 0]])
    np.testing.assert_allclose(to_reference(frames, np.array([5.0, 0])), [1, 0, -1])
    np.testing.assert_allclose(among_frames(frames), -1 / 3)
    np.testing.assert_allclose(among_frames(frames[[0, 0]]), 1)
    assert np.isnan(among_frames(frames[:1]))
    with pytest.raises(ValueError, match="one of zeros"):
        among_frames(np.zeros((2, 2)))


def test_gate_weight_per_condition_and_frame():
    gates = np.zeros((4, 2, 3, 2))
    gates[..., 0] = np.array([0.9, 0.8, 0.2, 0.1])[:, None, None]
    gates[..., 1] = 0.5
    weights = gate_weights(gates, ("dwpose", "hamer"))
    np.testing.assert_allclose(weights["dwpose"], [0.9, 0.8, 0.2, 0.1])
    np.testing.assert_allclose(weights["hamer"], 0.5)
    with pytest.raises(ValueError, match="expected 2 names, found 1"):
        gate_weights(gates, ("dwpose",))
