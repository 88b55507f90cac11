"""Paired differences: their intervals, and what is left out."""

import numpy as np
import pytest

from realisdance_jax.metrics.paired import FEWEST, paired_difference


def test_what_all_videos_share_does_not_widen_the_interval():
    rng = np.random.default_rng(0)
    videos, noise = rng.normal(20, 5, 32), rng.normal(0, 0.2, 32)
    found = paired_difference(videos + 1 + noise, videos, seed=1)
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.2
    assert found.clear
    np.testing.assert_allclose(found.mean, 1 + noise.mean())
    assert found == paired_difference(videos + 1 + noise, videos, seed=1)


def test_equal_models_do_not_differ_clearly():
    rng = np.random.default_rng(1)
    found = paired_difference(rng.normal(size=32), rng.normal(size=32), seed=0)
    assert found.low < 0 < found.high
    assert not found.clear


@pytest.mark.parametrize(("videos", "clear"), [(FEWEST - 1, False), (FEWEST, True)])
def test_a_few_videos_of_one_sign_are_not_clear(videos, clear):
    found = paired_difference(np.full(videos, 2.0), np.ones(videos), seed=0)
    assert (found.low, found.high, found.clear) == (1.0, 1.0, clear)


def test_videos_without_a_number_are_left_out():
    a, b = np.array([1.0, np.nan, 3.0, np.inf]), np.array([0.0, 1.0, np.nan, 1.0])
    found = paired_difference(a, b, seed=0)
    assert (found.mean, found.count) == (1.0, 1)
    assert np.isnan([found.low, found.high]).all()
    assert not found.clear
    none = paired_difference(np.array([np.nan]), np.array([1.0]), seed=0)
    assert none.count == 0
    assert not none.clear
    with pytest.raises(TypeError):
        paired_difference(np.ones(2), np.ones(3), seed=0)
