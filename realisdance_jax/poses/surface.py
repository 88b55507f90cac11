"""What the mesh painters paint, and the reference way of painting it, in NumPy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from realisdance_jax.poses.meshes import normalised
from realisdance_jax.poses.raster import Camera, interpolate, rasterise, view_directions
from realisdance_jax.poses.shading import Look, shade
from realisdance_jax.shapes import Float, Int, UInt8, typechecked


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh ready to paint. Shading is done in the dtype of `colours`.

    vertices: in camera axes, metres. faces: counter-clockwise seen from outside.
    normals: unit vectors, of the vertices if `smooth`, else of the faces.
    colours: RGB 0..1 of the vertices.
    """

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "k 3"]
    smooth: bool
    colours: Float[np.ndarray, "v 3"]
    look: Look


Fill = Callable[[Surface, Camera, tuple[int, int]], UInt8[np.ndarray, "H W 3"]]
"""Paints a surface seen by a camera on black, (height, width), RGB with hard edges."""


@typechecked
def fill(surface: Surface, camera: Camera, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The `Fill` that needs NumPy alone; `poses/gl.py` has the other."""
    fragments = rasterise(surface.vertices, surface.faces, camera, size)
    if surface.smooth:
        normals = normalised(interpolate(surface.normals, surface.faces, fragments))
    else:
        normals = surface.normals[fragments.faces]
    dtype = surface.colours.dtype
    picture = np.zeros((size[0] * size[1], 3), np.uint8)
    picture[fragments.pixels] = shade(
        surface.look,
        interpolate(surface.colours, surface.faces, fragments),
        normals.astype(dtype),
        view_directions(fragments, camera, size).astype(dtype),
    )
    return picture.reshape(*size, 3)
