"""What repair judges, track by track: what is seen, what leaps, what is missing in between."""

from dataclasses import dataclass

import numpy as np

from realisdance_jax.poses.changes import Change, Stream, found
from realisdance_jax.poses.tracks import gaps, jitter
from realisdance_jax.shapes import Bool, Float


@dataclass(frozen=True, eq=False)
class Faults:
    """The n tracks of one part of a clip, over f frames, and what the detectors say of them.

    part: `body`, `hands` or `faces`. names: of the tracks. places: where they are in the picture,
    in frame heights; ok: whether they are seen. leaps: seen, but taken for outliers. scores: of the
    estimator, None where it gives none.
    """

    stream: Stream
    part: str
    names: list[str]
    places: Float[np.ndarray, "f n 2"]
    ok: Bool[np.ndarray, "f n"]
    leaps: Bool[np.ndarray, "f n"]
    scores: Float[np.ndarray, "f n"] | None = None

    @property
    def jitter(self) -> Float[np.ndarray, " n"]:
        """Median second difference of the places, frame heights per frame squared, or NaN."""
        return jitter(self.places, self.ok)

    @property
    def score(self) -> Float[np.ndarray, " n"]:
        """Median score over the frames in which a track is seen; NaN where there is none."""
        if self.scores is None:
            return np.full(len(self.names), np.nan)
        columns = zip(self.scores.T, self.ok.T, strict=True)
        return np.array([np.median(x[ok]) if ok.any() else np.nan for x, ok in columns])

    def gaps(self, track: int) -> list[tuple[int, int]]:
        """First and last frame of every gap of a track, however long."""
        return gaps(self.ok[:, track])

    def found(self) -> list[Change]:
        """Outliers and gaps as they would be recorded if repair took care of all of them."""
        missing = np.zeros_like(self.ok)
        for track in range(len(self.names)):
            for first, last in self.gaps(track):
                missing[first : last + 1, track] = True
        outliers = found(self.stream, self.names, "outlier", self.leaps)
        return outliers + found(self.stream, self.names, "gap", missing)
