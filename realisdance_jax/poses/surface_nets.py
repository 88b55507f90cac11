"""Surfaces of capsules with a wanted number of vertices: the flesh of synthetic models."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from realisdance_jax.shapes import Float, Int, typechecked


class Capsule(NamedTuple):
    """A segment with a radius at either end, metres."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float
    end_radius: float


Grid = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Increasing x, y and z of the nodes; spacings may vary. The surface ends where the grid ends."""


@typechecked
def mesh_of_capsules(
    capsules: list[Capsule], grid_of: Callable[[float], Grid], coarsest: float, vertices: int
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "n 3"]]:
    """Outward mesh of the union of `capsules` with exactly `vertices` vertices.

    grid_of: nodes for a spacing; from `coarsest` on the spacing is made as fine as the count
        allows, and the longest edges are split to reach it.
    Raises `ValueError` when `coarsest` already gives more.
    """
    spacing = coarsest
    points, faces = surface(capsules, grid_of(spacing))
    if len(points) > vertices:
        raise ValueError(f"expected at least {len(points)} vertices, got {vertices}")
    while len(points) < vertices:
        spacing *= min(max((len(points) / vertices) ** 0.5 * 1.04, 0.85), 0.97)
        finer = surface(capsules, grid_of(spacing))
        if len(finer[0]) > vertices:
            break
        points, faces = finer
    while len(points) < vertices:
        points, faces = _split_edges(points, faces, vertices)
    return points, faces


@typechecked
def surface(
    capsules: list[Capsule], grid: Grid
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "n 3"]]:
    """Naive surface nets: a vertex per cell that the surface crosses, a quad per crossed edge."""
    values = _distances(capsules, grid)
    cells = np.array(values.shape) - 1
    total, count = np.zeros((cells.prod(), 3)), np.zeros(cells.prod())
    quads = []
    for axis in range(3):
        step = np.eye(3, dtype=np.int64)[axis]
        near, far = values[_until(-step)], values[_from(step)]
        crossed = np.argwhere((near < 0) != (far < 0))
        start, end = near[tuple(crossed.T)], far[tuple(crossed.T)]
        points = np.stack([line[at] for line, at in zip(grid, crossed.T, strict=True)], axis=-1)
        points[:, axis] += start / (start - end) * np.diff(grid[axis])[crossed[:, axis]]
        around = _cells_around(crossed, axis, cells)
        for corner in around.T:
            there = corner >= 0
            np.add.at(total, corner[there], points[there])
            np.add.at(count, corner[there], 1)
        around[start >= 0] = around[start >= 0, ::-1]  # the surface faces the other way
        quads.append(around[np.all(around >= 0, axis=1)])
    used, quad = np.unique(np.concatenate(quads), return_inverse=True)
    quad = quad.reshape(-1, 4)
    faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    return total[used] / count[used, None], faces


def _until(step: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(None, int(n) or None) for n in step)


def _from(step: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(n), None) for n in step)


def _cells_around(edges: np.ndarray, axis: int, cells: np.ndarray) -> np.ndarray:
    """Numbers of the four cells around edges (n 3), counter-clockwise seen from their far end; -1
    outside the grid."""
    second, third = (axis + 1) % 3, (axis + 2) % 3
    numbers = []
    for back in ((1, 1), (0, 1), (0, 0), (1, 0)):
        cell = edges.copy()
        cell[:, second] -= back[0]
        cell[:, third] -= back[1]
        exists = np.all((cell >= 0) & (cell < cells), axis=1)
        place = np.ravel_multi_index(tuple(np.clip(cell, 0, cells - 1).T), tuple(cells))
        numbers.append(np.where(exists, place, -1))
    return np.stack(numbers, axis=-1)


def _distances(capsules: list[Capsule], grid: Grid) -> np.ndarray:
    """Signed distance to the nearest capsule at nodes around it, far off elsewhere."""
    values = np.full(tuple(len(line) for line in grid), 1.0)
    margin = 2 * max(np.diff(line).max() for line in grid)
    for capsule in capsules:
        ends = np.array([capsule.start, capsule.end])
        reach = max(capsule.radius, capsule.end_radius) + margin
        box = tuple(
            slice(*np.searchsorted(line, [ends[:, i].min() - reach, ends[:, i].max() + reach]))
            for i, line in enumerate(grid)
        )
        nodes = np.stack(
            np.meshgrid(*(line[part] for line, part in zip(grid, box, strict=True)), indexing="ij"),
            axis=-1,
        )
        distance, share = to_segment(nodes, ends[0], ends[1])
        radius = capsule.radius + share * (capsule.end_radius - capsule.radius)
        values[box] = np.minimum(values[box], distance - radius)
    return values


def to_segment(
    points: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points (..., 3) to a segment, and where on it (0 to 1) the nearest point is."""
    along = end - start
    share = np.clip((points - start) @ along / max(float(along @ along), 1e-12), 0, 1)
    return np.linalg.norm(points - start - share[..., None] * along, axis=-1), share


def _split_edges(
    points: np.ndarray, faces: np.ndarray, vertices: int
) -> tuple[np.ndarray, np.ndarray]:
    """Halve the longest edges, no two of one face, until there are `vertices` or none is left."""
    pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, which = np.unique(pairs, axis=0, return_inverse=True)
    sides: list[list[int]] = [[] for _ in edges]
    for edge, face in zip(which.ravel().tolist(), 3 * list(range(len(faces))), strict=True):
        sides[edge].append(face)
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    order = np.argsort(-length.round(6), kind="stable")  # the same on every machine
    middles: list[np.ndarray] = []
    replaced: set[int] = set()
    halves: list[list[int]] = []
    for edge in order.tolist():
        if len(points) + len(middles) == vertices:
            break
        if replaced.isdisjoint(sides[edge]):
            a, b = edges[edge].tolist()
            middle = len(points) + len(middles)
            middles.append((points[a] + points[b]) / 2)
            replaced.update(sides[edge])
            for corners in faces[sides[edge]].tolist():
                halves += [[middle if v == end else v for v in corners] for end in (a, b)]
    kept = np.delete(faces, sorted(replaced), axis=0)
    return np.concatenate([points, middles]), np.concatenate([kept, halves])
