"""Harmonic interpolation on a mesh: values at a few vertices spread evenly over the rest."""

import numpy as np

from realisdance_jax.shapes import Float, Int, typechecked


@typechecked
def harmonic(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "n 3"],
    fixed: Int[np.ndarray, " m"],
    values: Float[np.ndarray, " m"],
) -> Float[np.ndarray, " v"]:
    """The function with `values` at `fixed` that is the mean of its neighbours everywhere else.

    Neighbours share an edge and count alike. Vertices without a path to a fixed one (the eyeballs
    of SMPL-X) take the value of the nearest vertex that has one.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    start, end = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0).T
    reached = _reached(start, end, fixed, len(vertices))
    free = reached.copy()
    free[fixed] = False
    known = np.zeros(len(vertices))
    known[fixed] = values
    result = known + _solve(start, end, free, known)
    lost = np.flatnonzero(~reached)
    found = np.flatnonzero(reached)
    for some in np.array_split(lost, max(len(lost) // 256, 1)):
        square = ((vertices[some, None] - vertices[found]) ** 2).sum(axis=-1)
        result[some] = result[found[square.argmin(axis=1)]]
    return result


def _reached(start: np.ndarray, end: np.ndarray, fixed: np.ndarray, count: int) -> np.ndarray:
    reached = np.zeros(count, bool)
    reached[fixed] = True
    while True:
        before = np.count_nonzero(reached)
        reached[end[reached[start]]] = True
        if np.count_nonzero(reached) == before:
            return reached


def _solve(start: np.ndarray, end: np.ndarray, free: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Conjugate gradients on the free vertices, scaled by their number of neighbours."""
    count = len(known)
    degree = np.maximum(np.bincount(start, minlength=count), 1)

    def neighbours(x: np.ndarray) -> np.ndarray:
        return np.bincount(start, x.take(end), count)

    def product(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.einsum("v,v->", a, b))  # BLAS would start threads for this

    x = np.zeros(count)
    residual = np.where(free, neighbours(known), 0.0)
    scaled = residual / degree
    direction, size = scaled, product(residual, scaled)
    limit = size * 1e-14  # of an energy: seven digits of the values
    for _ in range(10 * count):
        if size <= limit:
            break
        image = np.where(free, degree * direction - neighbours(direction), 0.0)
        step = size / product(direction, image)
        x += step * direction
        residual = residual - step * image
        scaled = residual / degree
        previous, size = size, product(residual, scaled)
        direction = scaled + size / previous * direction
    return x
