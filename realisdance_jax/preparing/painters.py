"""What each painting process does with a frame; kept apart from skinning, for it needs no jax."""

from typing import Literal, NamedTuple

import numpy as np

from realisdance_jax.poses import gl, surface
from realisdance_jax.poses.hamer_look import paint_hands
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import BodyLook, paint_smpl_cs
from realisdance_jax.shapes import Float, Int, UInt8

Size = tuple[int, int]
Renderer = Literal["numpy", "gl"]

_FILLS: dict[Renderer, surface.Fill] = {"numpy": surface.fill, "gl": gl.fill}


class BodyFrame(NamedTuple):
    """One body before its camera; None where there is nobody."""

    vertices: Float[np.ndarray, "v 3"] | None
    camera: Camera | None


class HandFrame(NamedTuple):
    """The hands of one frame, in camera axes."""

    vertices: Float[np.ndarray, "n v 3"]
    right: np.ndarray


def paint_body_frame(
    frame: BodyFrame,
    faces: Int[np.ndarray, "n 3"],
    colours: np.ndarray,
    size: Size,
    look: BodyLook,
    renderer: Renderer,
) -> UInt8[np.ndarray, "H W 3"]:
    """The SMPL-CS condition of one frame."""
    if frame.vertices is None or frame.camera is None:
        return np.zeros((*size, 3), np.uint8)
    fill = _FILLS[renderer]
    return paint_smpl_cs(frame.vertices, faces, colours, frame.camera, size, look, fill)


def paint_hand_frame(
    frame: HandFrame, faces: np.ndarray, camera: Camera, size: Size, renderer: Renderer
) -> UInt8[np.ndarray, "H W 3"]:
    """The HaMeR condition of one frame."""
    return paint_hands(frame.vertices, frame.right, faces, camera, size, _FILLS[renderer])
