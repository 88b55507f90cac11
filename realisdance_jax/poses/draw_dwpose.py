"""The DWPose picture: body sticks, then joints, then hands, as the official painter draws them.

Sticks and discs have fixed pixel sizes, so draw at the size of the source frames and resize after.
"""

import colorsys
import math

import cv2
import numpy as np

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.shapes import Bool, UInt8, typechecked

# fmt: off
LIMBS = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11),
         (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17))
COLOURS = ((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
           (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
           (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85))
# fmt: on
# The official "alpha" is the whole canvas times 0.6, truncated, before the joints are drawn.
LIMB_COLOURS = tuple(tuple(int(value * 0.6) for value in colour) for colour in COLOURS)

HAND_EDGES = tuple((0 if edge % 4 == 0 else edge, edge + 1) for edge in range(20))
HAND_COLOURS = tuple(
    tuple(255 * value for value in colorsys.hsv_to_rgb(edge / 20, 1, 1)) for edge in range(20)
)
STICK_WIDTH, DISC_RADIUS, FACE_RADIUS, HAND_WIDTH = 4, 4, 3, 2


@typechecked
def draw_dwpose(
    clip: KeypointClip, frame: int, size: tuple[int, int] | None = None, face: bool = False
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw every person of one frame, RGB on black.

    Args:
        clip: keypoints.
        frame: frame number.
        size: height and width of the picture; `clip.size` by default.
        face: draw the 68 face points too (both stages of the official training leave them out).

    Raises `ValueError` when neither `size` nor `clip.size` is known.
    """
    size = size or clip.size
    if size is None:
        raise ValueError("the clip has no size: give one")
    canvas = np.zeros((*size, 3), np.uint8)
    scale = np.array([size[1], size[0]], np.float64)
    body, body_ok = clip.body[frame] * scale, clip.body_ok[frame]
    _draw_limbs(canvas, body, body_ok)
    _draw_joints(canvas, body, body_ok)
    for side in range(2):  # all left hands come first in the official arrays
        pixels, ok = _to_pixels(clip.hands[frame, :, side] * scale, clip.hands_ok[frame, :, side])
        for person in np.flatnonzero(ok.any(axis=1)):
            _draw_hand(canvas, pixels[person].tolist(), ok[person])
    if face:
        pixels, ok = _to_pixels(clip.faces[frame] * scale, clip.faces_ok[frame])
        for point in pixels[ok].tolist():
            cv2.circle(canvas, point, FACE_RADIUS, (255, 255, 255), thickness=-1)
    return canvas


@typechecked
def drawn_frames(clip: KeypointClip) -> Bool[np.ndarray, " f"]:
    """Frames in which something is drawn, be it hands alone; the others are black."""
    return np.any(clip.body_ok, axis=(1, 2)) | np.any(clip.hands_ok, axis=(1, 2, 3))


def _draw_limbs(canvas: np.ndarray, body: np.ndarray, ok: np.ndarray) -> None:
    for (first, second), colour in zip(LIMBS, LIMB_COLOURS, strict=False):
        for person in np.flatnonzero(ok[:, first] & ok[:, second]):
            (x1, y1), (x2, y2) = body[person, (first, second), :].tolist()
            centre = int((x1 + x2) / 2), int((y1 + y2) / 2)
            half_length = int(((x1 - x2) ** 2 + (y1 - y2) ** 2) ** 0.5 / 2)
            angle = int(math.degrees(math.atan2(y1 - y2, x1 - x2)))
            outline = cv2.ellipse2Poly(centre, (half_length, STICK_WIDTH), angle, 0, 360, 1)
            cv2.fillConvexPoly(canvas, np.asarray(outline), colour)


def _draw_joints(canvas: np.ndarray, body: np.ndarray, ok: np.ndarray) -> None:
    for joint, colour in enumerate(COLOURS):
        for x, y in body[ok[:, joint], joint].tolist():
            cv2.circle(canvas, (int(x), int(y)), DISC_RADIUS, colour, thickness=-1)


def _to_pixels(points: np.ndarray, ok: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truncated pixels; like the official code, takes points at or before pixel 0 for hidden."""
    pixels = points.astype(np.int64)
    return pixels, ok & np.all(pixels > 0, axis=-1)


def _draw_hand(canvas: np.ndarray, points: list, ok: np.ndarray) -> None:
    for point in np.flatnonzero(ok):
        cv2.circle(canvas, points[point], DISC_RADIUS, (0, 0, 255), thickness=-1)
    for (first, second), colour in zip(HAND_EDGES, HAND_COLOURS, strict=True):
        if ok[first] and ok[second]:
            cv2.line(canvas, points[first], points[second], colour, thickness=HAND_WIDTH)
