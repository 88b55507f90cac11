"""Triangle meshes: normals, volume and borders. Faces are counter-clockwise seen from outside."""

from typing import Literal

import numpy as np

from realisdance_jax.shapes import Float, Int, typechecked
from realisdance_jax.utils.errors import UserError


def normalised(vectors: np.ndarray) -> np.ndarray:
    """`vectors` (..., 3) at length 1; zero vectors stay zero."""
    length = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))
    return vectors / np.where(length > 0, length, 1)[..., None]


def _crosses(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(n 3) outward normals, each as long as twice the face's area."""
    first = vertices[faces[:, 0]]
    return np.cross(vertices[faces[:, 1]] - first, vertices[faces[:, 2]] - first)


@typechecked
def face_normals(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Outward unit normal of every face; zero for a face without area."""
    return normalised(_crosses(vertices, faces))


@typechecked
def vertex_normals(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "n 3"],
    weighting: Literal["angle", "area"],
) -> Float[np.ndarray, "v 3"]:
    """Unit mean of the normals of the faces around every vertex; zero where there is none.

    weighting: by the face's angle at the vertex (as trimesh does) or its area (as PyTorch3D).
    """
    crosses = _crosses(vertices, faces)
    if weighting == "area":
        corners = np.repeat(crosses[:, None], 3, axis=1)
    else:
        corners = normalised(crosses)[:, None] * _angles(vertices, faces)[..., None]
    flat, corners = faces.ravel(), corners.reshape(-1, 3)
    sums = [np.bincount(flat, corners[:, axis], len(vertices)) for axis in range(3)]
    return normalised(np.stack(sums, axis=-1)).astype(vertices.dtype)


def _angles(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(n 3) angle of every face at its three corners, radians."""
    points = vertices[faces]
    to_next = normalised(np.roll(points, -1, axis=1) - points)
    cosines = -np.einsum("nci,nci->nc", to_next, np.roll(to_next, 1, axis=1))
    return np.arccos(np.clip(cosines, -1, 1))


@typechecked
def signed_volume(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "n 3"]) -> float:
    """Volume inside a closed mesh; negative when its faces point inwards."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("ni,ni->", a, np.cross(b, c)) / 6)


@typechecked
def border(faces: Int[np.ndarray, "n 3"]) -> list[list[int]]:
    """The holes of a mesh, each as its vertices in the order in which a lid would go round.

    Raises `UserError` when a border vertex has more than one way on.
    """
    half_edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = int(faces.max(initial=-1)) + 1
    keys = half_edges[:, 0].astype(np.int64) * count + half_edges[:, 1]
    opposite = half_edges[:, 1].astype(np.int64) * count + half_edges[:, 0]
    open_edges = half_edges[~np.isin(keys, opposite)]
    following = {int(b): int(a) for a, b in open_edges}
    if len(following) != len(open_edges):
        raise UserError("faces: expected holes that do not touch, found two at one vertex")
    loops = []
    while following:
        start = min(following)
        loop, vertex = [start], following.pop(start)
        while vertex != start:
            loop.append(vertex)
            if vertex not in following:
                raise UserError("faces: expected closed holes, found an open border")
            vertex = following.pop(vertex)
        loops.append(loop)
    return loops
