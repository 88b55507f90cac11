"""A z-buffer rasteriser in NumPy: which face is seen at which pixel, exactly as OpenGL decides it.

Corners are rounded to 1/256 pixel; a pixel belongs to a face when its centre is inside, or on a top
or left edge, so that neighbours share no pixel and leave none out. All of this is integers (held
in float64), hence free of rounding. Faces are cut into rows and rows into pixels, all rows at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from realisdance_jax.shapes import Float, Int, typechecked

_UNITS = 256.0  # per pixel
_GUARD = 2.0**17  # pixels; products of two coordinates stay exact in float64 up to here
_CHUNK = 1 << 21  # pixels of bounding boxes at once: bounds the memory


@dataclass(frozen=True)
class Camera:
    """Pinhole in OpenCV axes (x right, y down, z forward); (0, 0) is the picture's corner.

    focal, centre: focal lengths and principal point in pixels, x then y.
    near, far: faces with a corner closer than `near` and pixels beyond `far` are not drawn; in the
        unit of the vertices (metres).
    """

    focal: tuple[float, float]
    centre: tuple[float, float]
    near: float = 0.05
    far: float = 100.0

    def __post_init__(self) -> None:
        if not (0 < self.near < self.far and min(self.focal) > 0):
            raise ValueError(f"expected 0 < near < far and positive focal lengths, got {self}")


@dataclass(frozen=True, eq=False)
class Fragments:
    """What is visible, one entry per covered pixel in reading order.

    pixels: row * W + column. faces: index of the face in front.
    weights: of its three corners, perspective-correct, sum 1. depth: z of the point seen.
    """

    pixels: Int[np.ndarray, " k"]
    faces: Int[np.ndarray, " k"]
    weights: Float[np.ndarray, "k 3"]
    depth: Float[np.ndarray, " k"]


@typechecked
def rasterise(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "n 3"],
    camera: Camera,
    size: tuple[int, int],
) -> Fragments:
    """Find the front face at every pixel; faces seen from behind are left out.

    Args:
        vertices: in camera axes.
        faces: counter-clockwise seen from outside; at equal depth the earlier face wins.
        camera: pinhole.
        size: height and width in pixels.
    """
    x, y, inverse_z = _project(vertices, camera)
    front = _front_faces(x, y, inverse_z, faces, size)
    corners = faces.take(front, 0).T[[0, 2, 1]]
    drawn = _Faces(x.take(corners), y.take(corners), inverse_z.take(corners))
    nearest = np.full(size[0] * size[1], 1 / camera.far)
    owner = np.full(size[0] * size[1], -1, np.int32)
    for chunk in _chunks(drawn, size):
        pixels, found, inverse_depth = _candidates(drawn, chunk, size)
        hit = np.flatnonzero(inverse_depth > nearest.take(pixels))
        pixels, found, inverse_depth = pixels[hit], found[hit], inverse_depth[hit]
        np.maximum.at(nearest, pixels, inverse_depth)
        best = np.flatnonzero(inverse_depth == nearest.take(pixels))[::-1]  # the first is kept
        owner[pixels[best]] = found[best]
    pixels = np.flatnonzero(owner >= 0)
    seen = owner[pixels]
    weights, depth = drawn.weights(seen, pixels // size[1], pixels % size[1])
    return Fragments(pixels, front[seen], weights[:, [0, 2, 1]], depth)


@typechecked
def interpolate(
    attribute: Float[np.ndarray, "v c"], faces: Int[np.ndarray, "n 3"], fragments: Fragments
) -> Float[np.ndarray, "k c"]:
    """Values at the visible points of something given at vertices."""
    corners = attribute[faces[fragments.faces]]
    return np.einsum("kc,kci->ki", fragments.weights.astype(attribute.dtype), corners)


@typechecked
def view_directions(
    fragments: Fragments, camera: Camera, size: tuple[int, int]
) -> Float[np.ndarray, "k 3"]:
    """Unit vectors from the visible points to the camera."""
    x = (fragments.pixels % size[1] + 0.5 - camera.centre[0]) / camera.focal[0]
    y = (fragments.pixels // size[1] + 0.5 - camera.centre[1]) / camera.focal[1]
    ray = np.stack([x, y, np.ones_like(x)], axis=-1)
    return -ray / np.sqrt(x * x + y * y + 1)[:, None]


def _project(vertices: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column and row in units, and 1/z, of every vertex; 1/z is 0 for those not to be drawn."""
    x, y, z = np.ascontiguousarray(vertices.T, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        ahead = z >= camera.near  # false for NaN
        inverse_z = 1 / np.where(ahead, z, 1)
        u = camera.focal[0] * x * inverse_z + camera.centre[0]
        v = camera.focal[1] * y * inverse_z + camera.centre[1]
        ahead &= (np.abs(u) < _GUARD) & (np.abs(v) < _GUARD)
    u, v = (np.rint(np.where(ahead, pixels, 0) * _UNITS) for pixels in (u, v))
    return u, v, np.where(ahead, inverse_z, 0)


def _front_faces(
    x: np.ndarray, y: np.ndarray, inverse_z: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Indices of faces that turn to the camera and whose box holds a pixel centre."""
    a, b, c = faces.T
    ax, ay = x.take(a), y.take(a)
    bx, by, cx, cy = x.take(b), y.take(b), x.take(c), y.take(c)
    kept = (bx - ax) * (cy - ay) < (by - ay) * (cx - ax)  # y points down
    kept &= (inverse_z.take(a) > 0) & (inverse_z.take(b) > 0) & (inverse_z.take(c) > 0)
    for corners, limit in (((ax, bx, cx), size[1]), ((ay, by, cy), size[0])):
        low, high = _centres(np.minimum.reduce(corners)), _centres(np.maximum.reduce(corners))
        kept &= np.maximum(low, 0) < np.minimum(high, limit)
    return np.flatnonzero(kept)


def _centres(units: np.ndarray) -> np.ndarray:
    """The first pixel whose centre is at or behind `units`."""
    return np.ceil(units / _UNITS - 0.5)


class _Faces:
    """Corners of the faces that may be drawn, (3 n), clockwise as seen, in units.

    The inside is where `dx * (row - y) - dy * (column - x)` is positive for all three edges.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, inverse_z: np.ndarray):
        self.x, self.y, self.inverse_z = x, y, inverse_z
        self.dx, self.dy = x[[1, 2, 0]] - x, y[[1, 2, 0]] - y  # edge k leads from corner k
        self.area = self.dx[0] * self.dy[1] - self.dy[0] * self.dx[1]
        self.plane = self._inverse_depth()

    def _inverse_depth(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """a, b, c (n): 1/z is a * column + b * row + c at pixel centres."""
        w = self.inverse_z
        along, across = (w[1] - w[0]) / self.area, (w[2] - w[0]) / self.area
        a = -_UNITS * (along * self.dy[2] + across * self.dy[0])
        b = _UNITS * (along * self.dx[2] + across * self.dx[0])
        return a, b, w[0] - a * (self.x[0] / _UNITS - 0.5) - b * (self.y[0] / _UNITS - 0.5)

    def weights(
        self, face: np.ndarray, row: np.ndarray, column: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Perspective-correct weights of the corners (k 3), and depth (k)."""
        y, x = (row + 0.5) * _UNITS, (column + 0.5) * _UNITS
        parts = []
        for corner, edge in ((0, 1), (1, 2), (2, 0)):  # the edge opposite to the corner
            inside = self.dx[edge].take(face) * (y - self.y[edge].take(face))
            inside -= self.dy[edge].take(face) * (x - self.x[edge].take(face))
            parts.append(inside * self.inverse_z[corner].take(face))
        total = parts[0] + parts[1] + parts[2]
        return np.stack(parts, axis=-1) / total[:, None], self.area.take(face) / total


def _chunks(drawn: _Faces, size: tuple[int, int]) -> Iterator[slice]:
    """Runs of faces that have together few enough pixels in their boxes."""
    x, y = drawn.x / _UNITS, drawn.y / _UNITS
    width = np.maximum.reduce(x).clip(0, size[1]) - np.minimum.reduce(x).clip(0, size[1]) + 1
    height = np.maximum.reduce(y).clip(0, size[0]) - np.minimum.reduce(y).clip(0, size[0]) + 1
    group = np.cumsum(width * height) // _CHUNK
    starts = [*np.flatnonzero(np.diff(group, prepend=-1)).tolist(), len(group)]
    yield from map(slice, starts, starts[1:])


def _candidates(
    drawn: _Faces, chunk: slice, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel inside every face of a chunk: pixel, face, 1/z; in the order of the faces."""
    half, row, begin, end = _spans(drawn.x[:, chunk], drawn.y[:, chunk], size)
    face = half // 2 + chunk.start
    a, b, c = drawn.plane
    at_zero = b.take(face) * row + c.take(face)
    which, column = _ranges(begin, end)
    slope = a.take(face).take(which)
    pixels = (row * size[1]).take(which) + column
    return pixels, face.take(which), slope * column + at_zero.take(which)


def _spans(
    x: np.ndarray, y: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All rows of all faces: half face (2 i above, 2 i + 1 below the middle corner of face i), row,
    first column, and the column behind the last (at least the first).

    An edge crosses row r (in units) at column (offset + dx * r) / (256 * rise): one exact fraction,
    whose ceiling is the first pixel behind the edge on either side of a face.
    """
    order = np.argsort(y, axis=0)
    x, y = np.take_along_axis(x, order, 0), np.take_along_axis(y, order, 0)
    start, end = [0, 0, 0, 1], [2, 1, 2, 2]  # edges: whole, upper; whole, lower
    dx, rise = x[end] - x[start], y[end] - y[start]
    offset = (x[start] - _UNITS / 2) * rise - dx * y[start]
    limits = _centres(y).clip(0, size[0]).astype(np.int64)
    half, row = _ranges(limits[:2].T.ravel(), limits[1:].T.ravel())
    centre = (row + 0.5) * _UNITS
    columns = []
    for edge in (slice(0, None, 2), slice(1, None, 2)):
        first, slope, below = (term[edge].T.ravel().take(half) for term in (offset, dx, rise))
        columns.append(np.ceil((first + slope * centre) / (_UNITS * below)))
    left = np.minimum(*columns).clip(0, size[1]).astype(np.int64)
    right = np.maximum(*columns).clip(0, size[1]).astype(np.int64)
    return half, row, left, right


def _ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All integers of all half-open ranges, with the index of their range."""
    count = end - begin
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) + (begin + count - np.cumsum(count)).take(which)
