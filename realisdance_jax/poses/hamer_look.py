"""The hand condition: MANO meshes as HaMeR draws them, right hands reddish and left ones greenish.

HaMeR sees every hand as a right one, from a mirrored crop for left hands; what it returns is put
back into the frame by a camera as long as 5000 pixels per 256 of the frame's longer side.
"""

import numpy as np

from realisdance_jax.poses.meshes import border, vertex_normals
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.surface import Fill, Surface, fill
from realisdance_jax.shapes import Bool, Float, Int, UInt8, typechecked
from realisdance_jax.utils.errors import UserError

RIGHT_COLOUR, LEFT_COLOUR = (1.0, 0.5, 0.5), (0.5, 1.0, 0.5)
_LID_START = 92  # where the official lid begins on MANO's wrist
_FOCAL_PER_PIXEL = 5000 / 256


@typechecked
def full_frame_camera(size: tuple[int, int], focal: float | None = None) -> Camera:
    """HaMeR's camera for frames of height and width `size`; its own focal length by default."""
    focal = _FOCAL_PER_PIXEL * max(size) if focal is None else focal
    return Camera((focal, focal), (size[1] / 2, size[0] / 2), far=1e12)


@typechecked
def full_frame_translation(
    crop_camera: Float[np.ndarray, "n 3"],
    box_centre: Float[np.ndarray, "n 2"],
    box_size: Float[np.ndarray, " n"],
    size: tuple[int, int],
    focal: float,
) -> Float[np.ndarray, "n 3"]:
    """Where the hands are in camera axes, from HaMeR's cameras of their crops.

    Args:
        crop_camera: scale and shift (s, tx, ty); tx already negated for left hands.
        box_centre, box_size: of the square crops, in pixels of the frame.
        size: height and width of the frame.
        focal: of the frame's camera, pixels.
    """
    wide = box_size * crop_camera[:, 0] + 1e-9
    shift = 2 * (box_centre - np.array([size[1], size[0]]) / 2) / wide[:, None] + crop_camera[:, 1:]
    return np.concatenate([shift, (2 * focal / wide)[:, None]], axis=1)


@typechecked
def mirrored(vertices: Float[np.ndarray, "*n v 3"]) -> Float[np.ndarray, "*n v 3"]:
    """A right hand as a left one, or back; turn its faces round too, as `paint_hands` does."""
    return vertices * np.array([-1, 1, 1], vertices.dtype)


@typechecked
def close_wrist(faces: Int[np.ndarray, "n 3"]) -> Int[np.ndarray, "m 3"]:
    """Faces of MANO with a lid on the wrist; on the licensed model the official fourteen triangles.

    Raises `UserError` when the mesh has not exactly one hole.
    """
    holes = border(faces)
    if len(holes) != 1:
        raise UserError(f"hand model: expected one hole, at the wrist, found {len(holes)}")
    loop = holes[0]
    start = loop.index(_LID_START) if _LID_START in loop else 0
    near = loop[start:] + loop[:start]
    far = [near[0], *near[:0:-1]]  # the other way round
    lid = []
    for k in range(len(loop) // 2):
        lid += [(near[k], near[k + 1], far[k + 1]), (far[k + 1], near[k + 1], far[k + 2])]
    return np.concatenate([faces, np.array(lid[: len(loop) - 2], faces.dtype)])


@typechecked
def paint_hands(
    hands: Float[np.ndarray, "n v 3"],
    right: Bool[np.ndarray, " n"],
    faces: Int[np.ndarray, "m 3"],
    camera: Camera,
    size: tuple[int, int],
    fill: Fill = fill,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the hands of one frame on black, RGB, hard edges; nearer hands hide farther ones.

    Args:
        hands: vertices in camera axes (translation included; left hands already mirrored).
        right: which are right hands.
        faces: of the right-hand model, from `close_wrist`.
        camera: from `full_frame_camera`.
        size: height and width of the source frames.
        fill: what paints; it may raise `UserError` when it lacks what it needs.
    """
    if not len(hands):
        return np.zeros((*size, 3), np.uint8)
    vertices = hands.reshape(-1, 3)
    sides = [faces if is_right else faces[:, ::-1] for is_right in right]
    joined = np.concatenate([side + n * hands.shape[1] for n, side in enumerate(sides)])
    normals = vertex_normals(vertices, joined, "angle")
    colours = np.where(right[:, None], RIGHT_COLOUR, LEFT_COLOUR).repeat(hands.shape[1], axis=0)
    return fill(Surface(vertices, joined, normals, True, colours, "hamer"), camera, size)
