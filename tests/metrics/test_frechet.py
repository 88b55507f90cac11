"""Frechet distance and its mergeable statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from realisdance_jax.metrics.frechet import (
    Gaussian,
    frechet_distance,
    merged_gaussian,
)


def samples(seed: int, count: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(
        size=width
    )


def test_distance_is_the_textbook_one():
    a, b = (samples(seed, 200, 12) for seed in (0, 1))
    root = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    step = a.mean(0) - b.mean(0)
    spread = np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    ours = frechet_distance(Gaussian.of(a), Gaussian.of(b))
    np.testing.assert_allclose(ours, step @ step + spread, rtol=1e-9)


def test_two_gaussians_on_a_line():
    """(difference of means)^2 + (difference of deviations)^2."""
    a, b = np.array([[-1.0], [1.0]]), np.array([[2.0], [8.0]])
    expected = 5.0**2 + (np.sqrt(18) - np.sqrt(2)) ** 2
    np.testing.assert_allclose(frechet_distance(Gaussian.of(a), Gaussian.of(b)), expected)


@pytest.mark.parametrize(("count", "width"), [(500, 64), (10, 150)])
def test_a_set_is_at_no_distance_from_itself(count, width):
    """Also with fewer samples than features; values as large as those of real networks."""
    values = 30 * samples(2, count, width).astype(np.float32)
    assert frechet_distance(Gaussian.of(values), Gaussian.of(values)) < 1e-3


def test_singular_covariances_are_exact():
    """Two samples each, along different axes: nothing of the spread is shared."""
    a, b = np.zeros((2, 90)), np.zeros((2, 90))
    a[:, 0], b[:, 1] = (-3, 3), (-4, 4)
    distance = frechet_distance(Gaussian.of(a), Gaussian.of(b))
    np.testing.assert_allclose(distance, 18 + 32, rtol=1e-9)


@settings(derandomize=True, max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99))
def test_merging_is_the_same_as_all_at_once(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(1e3, 1, (size, 5)) for size in sizes]
    merged, whole = merged_gaussian(map(Gaussian.of, parts)), Gaussian.of(np.concatenate(parts))
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=0, atol=1e-9)


def test_covariance_is_that_of_numpy():
    values = samples(3, 20, 4)
    np.testing.assert_allclose(Gaussian.of(values).covariance, np.cov(values, rowvar=False))


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        Gaussian.of(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="at least two samples"):
        _ = Gaussian.of(np.zeros((1, 3))).covariance
    with pytest.raises(ValueError, match="at least one set"):
        merged_gaussian([])
