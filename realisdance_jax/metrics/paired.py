"""Two models on the same videos: mean difference and whether it is more than chance."""

from dataclasses import dataclass

import numpy as np

from realisdance_jax.metrics.states import bootstrap_interval
from realisdance_jax.shapes import Float, typechecked

FEWEST = 6
"""Videos of which an interval can be clear; of fewer, resampling says little about others."""


@dataclass(frozen=True)
class Difference:
    """mean of ours - theirs over videos, low and high: its interval, NaN for a single one.

    count: of videos.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero, and there are enough videos to say so."""
        return self.count >= FEWEST and (self.low > 0 or self.high < 0)


@typechecked
def paired_difference(
    ours: Float[np.ndarray, " n"],
    theirs: Float[np.ndarray, " n"],
    seed: int,
    rounds: int = 2000,
    level: float = 0.95,
) -> Difference:
    """Bootstrap of differences over videos; one that either has no number for is left out.

    ours, theirs: one number per video, in the same order. NaN all round when none is left. Equal
    seeds, equal intervals.
    """
    differences = ours.astype(np.float64) - theirs
    known = differences[np.isfinite(differences)]
    if not len(known):
        nan = float("nan")
        return Difference(nan, nan, nan, 0)
    low, high = bootstrap_interval(known, seed, rounds, level)
    return Difference(float(known.mean()), low, high, len(known))
