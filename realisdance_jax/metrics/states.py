"""What a metric keeps between batches, videos and hosts: merged in any order, read at the end."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from realisdance_jax.shapes import Float, typechecked


@dataclass(frozen=True)
class Mean:
    """A weighted mean in float64. `Mean()` is that of nothing: NaN."""

    total: float = 0.0
    weight: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray | float, weights: np.ndarray | float = 1.0) -> "Mean":
        """The mean of `values`, whatever their shape; a NaN (nothing to measure) is left out."""
        values, weights = np.broadcast_arrays(np.asarray(values, np.float64), weights)
        known = ~np.isnan(values)
        return cls(float((values * weights)[known].sum()), float(weights[known].sum()))

    def merge(self, *others: "Mean") -> "Mean":
        """The mean of all values that went into `self` and `others`."""
        parts = (self, *others)
        return Mean(sum(p.total for p in parts), sum(p.weight for p in parts))

    @property
    def value(self) -> float:
        """The mean so far."""
        return self.total / self.weight if self.weight else float("nan")


@typechecked
def bootstrap_interval(
    values: Float[np.ndarray, " n"], seed: int, rounds: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, one per video, under resampling of videos.

    Paired comparisons pass differences of two models on the same videos. Equal seeds, equal
    intervals. NaN for a single value, which says nothing about others.
    Raises `ValueError` for no values.
    """
    if not len(values):
        raise ValueError("expected at least one value, found none")
    if len(values) == 1:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(values), (rounds, len(values)))
    tails = (50 * (1 - level), 50 * (1 + level))
    low, high = np.percentile(values.astype(np.float64)[drawn].mean(axis=1), tails)
    return float(low), float(high)


def merged(means: Iterable[Mean]) -> Mean:
    """All of `means` as one."""
    return Mean().merge(*means)
