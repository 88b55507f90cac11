"""Meshes out of tubes: stacks of rings that bend with joints, closed at both ends.

Tubes may run into each other; the z-buffer decides what is seen. All bodies share one topology, so
that faces, joint shares and colours belong to a vertex number, whatever the proportions.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from realisdance_jax.shapes import Float, Int

SHARES = 3
"""Joints that a vertex follows at most."""

MIRROR = np.array([-1.0, 1.0, 1.0])


class Tube(NamedTuple):
    """rings: corners of each ring, counter-clockwise about the direction of the tube (n s 3).

    part: what it is, see `PARTS` of dancer_body.py. joints: shares of joints per ring.
    """

    part: int
    rings: np.ndarray
    joints: tuple[Mapping[int, float], ...]


class Mesh(NamedTuple):
    """Rest pose in metres; v vertices, n faces counter-clockwise seen from outside.

    joints, shares: which joints each vertex follows and by how much (sum 1).
    parts: what each vertex belongs to. tubes: number of the tube it came from.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "n 3"]
    joints: Int[np.ndarray, "v 3"]
    shares: Float[np.ndarray, "v 3"]
    parts: Int[np.ndarray, " v"]
    tubes: Int[np.ndarray, " v"]


def elliptic(
    points: np.ndarray, across: Sequence[float], radii: np.ndarray, sides: int
) -> np.ndarray:
    """Rings (n s 3) of ellipses around a line of points (n 3), square to the line.

    across: direction of the first semi-axis, made square to the line; radii (n 2).
    """
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    first = np.asarray(across) - (along @ np.asarray(across))[:, None] * along
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    angle = 2 * np.pi * np.arange(sides) / sides
    wide = np.cos(angle)[None, :, None] * (first * radii[:, :1])[:, None]
    return points[:, None] + wide + np.sin(angle)[None, :, None] * (second * radii[:, 1:])[:, None]


def mirrored(tube: Tube, twins: Sequence[int]) -> Tube:
    """The same on the other side of the body; corners turn the other way, see `assembled`."""
    joints = tuple({twins[joint]: share for joint, share in ring.items()} for ring in tube.joints)
    return Tube(tube.part, tube.rings * MIRROR, joints)


def assembled(tubes: Sequence[tuple[Tube, bool]]) -> Mesh:
    """One mesh of tubes; the flag says which are mirror images."""
    columns: list[list[np.ndarray]] = [[] for _ in range(6)]
    start = 0
    for number, (tube, flipped) in enumerate(tubes):
        count, sides = tube.rings.shape[:2]
        ends = tube.rings[[0, -1]].mean(axis=1)
        vertices = np.concatenate([tube.rings.reshape(-1, 3), ends])
        faces = _faces(count, sides)
        joints, shares = _shares(tube.joints)
        ring = np.concatenate([np.repeat(np.arange(count), sides), [0, count - 1]])
        length = len(vertices)
        parts, numbers = np.full(length, tube.part), np.full(length, number)
        faces = (faces[:, ::-1] if flipped else faces) + start
        added = (vertices, faces, joints[ring], shares[ring], parts, numbers)
        for column, values in zip(columns, added, strict=True):
            column.append(values)
        start += length
    return Mesh(*(np.concatenate(column) for column in columns))


def _faces(count: int, sides: int) -> np.ndarray:
    """Walls between `count` rings and a fan at either end; the two last vertices are the ends."""
    ring, corner = np.divmod(np.arange((count - 1) * sides), sides)
    here, right = ring * sides + corner, ring * sides + (corner + 1) % sides
    up, up_right = here + sides, right + sides
    walls = np.concatenate(
        [np.stack([here, right, up_right], 1), np.stack([here, up_right, up], 1)]
    )
    corner = np.arange(sides)
    after, last = (corner + 1) % sides, (count - 1) * sides
    bottom = np.full(sides, count * sides)
    first = np.stack([bottom, after, corner], axis=1)
    return np.concatenate([walls, first, np.stack([bottom + 1, last + corner, last + after], 1)])


def _shares(rings: Sequence[Mapping[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    joints, shares = np.zeros((len(rings), SHARES), np.int64), np.zeros((len(rings), SHARES))
    for row, ring in enumerate(rings):
        total = sum(ring.values())
        for column, (joint, share) in enumerate(ring.items()):
            joints[row, column], shares[row, column] = joint, share / total
    return joints, shares
