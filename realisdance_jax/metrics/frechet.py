"""Frechet distance between two sets of features, each taken for a Gaussian; all in float64."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from realisdance_jax.shapes import Float, typechecked


@dataclass(frozen=True)
class Gaussian:
    """Mean and scatter of features; merging is exact (Chan, Golub and LeVeque, 1983).

    scatter: sum of (x - mean)(x - mean)^T.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "Gaussian":
        """Of one row per sample.

        Raises `ValueError` for no rows.
        """
        if not len(features):
            raise ValueError("expected at least one sample, found none")
        features = np.asarray(features, np.float64)
        mean = features.mean(axis=0)
        centred = features - mean
        return cls(len(features), mean, centred.T @ centred)

    def merge(self, other: "Gaussian") -> "Gaussian":
        """Of the samples of both."""
        count = self.count + other.count
        step = other.mean - self.mean
        between = (self.count * other.count / count) * np.outer(step, step)
        return Gaussian(
            count, self.mean + step * (other.count / count), self.scatter + other.scatter + between
        )

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Unbiased: divided by count - 1.

        Raises `ValueError` for a single sample.
        """
        if self.count < 2:
            raise ValueError("expected at least two samples, found one")
        return self.scatter / (self.count - 1)


def merged_gaussian(parts: Iterable[Gaussian]) -> Gaussian:
    """All of `parts` as one; `ValueError` for none."""
    parts = iter(parts)
    whole = next(parts, None)
    if whole is None:
        raise ValueError("expected at least one set of features, found none")
    for part in parts:
        whole = whole.merge(part)
    return whole


@typechecked
def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)); 0 or more, 0 for equal sets.

    The trace of the root is the sum of singular values of A^(1/2) B^(1/2), which needs only
    symmetric eigenvectors and is exact for singular covariances: fewer samples than features, as
    with one sample per video. Programs that take the root of the product by `scipy.linalg.sqrtm`
    are off by noise there.
    """
    step = a.mean - b.mean
    roots = _root(a.covariance) @ _root(b.covariance)
    shared = np.linalg.svd(roots, compute_uv=False).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance)
    return max(float(step @ step + spread - 2 * shared), 0.0)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
