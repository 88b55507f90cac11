"""A data set that needs no files: figures in different clothes that wave, drawn when asked for."""

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from realisdance_jax.data.clips import Sizes
from realisdance_jax.data.demo_clip import hand, pose
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.draw_dwpose import LIMBS, draw_dwpose
from realisdance_jax.shapes import UInt8

Colour = tuple[int, int, int]

BODY = LIMBS[:13]
TORSO = (2, 5, 11, 8)
HANDS: tuple[Colour, Colour] = ((170, 233, 170), (230, 171, 170))
"""Left and right, as HaMeR renderings tell them apart."""
SMALLEST = 256
"""Pixels along the longer side for which DWPose is drawn at least."""
_LOOK = 4  # random numbers for the colours; as many again for the motion


@dataclass(frozen=True)
class SyntheticClip:
    """A `Clip`: one figure on a plain background; all is a function of the fields.

    size: height and width of every picture, in pixels.
    """

    number: int
    frames: int
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """`synthetic/NUMBER`."""
        return f"synthetic/{self.number}"

    def length(self) -> int:
        return self.frames

    def film(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        background, torso, limbs = _clothes(self._random()[:_LOOK])
        for index in indices:
            canvas = np.full((*self.size, 3), background, np.uint8)
            yield _draw_figure(canvas, self.points(index)[0], torso, limbs)

    def condition(self, name: str, indices: Sequence[int], sizes: Sizes) -> Iterator[np.ndarray]:
        for index in indices:
            joints, hands = self.points(index)
            canvas = np.zeros((*self.size, 3), np.uint8)
            if name == "dwpose":
                yield _draw_keypoints(_keypoints(joints, hands), self.size)
            elif name == "hamer":
                yield _draw_hands(canvas, hands)
            else:
                rainbow = [_colour(part / 14, 0.6, 0.9) for part in range(14)]
                yield _draw_figure(canvas, joints, rainbow[0], rainbow[1:])

    def _random(self) -> np.ndarray:
        return np.random.default_rng([0, self.number]).random(2 * _LOOK)

    def points(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Joints `18 2` and hands `2 21 2` as fractions of the size.

        Each clip has its own phase, place and scale, and waves once.
        """
        phase, across, down, scale = self._random()[_LOOK:]
        joints = pose(phase + index / self.frames)
        joints = (joints - 0.5) * (0.75 + 0.25 * scale) + 0.5
        joints = joints + np.array([0.1 * across - 0.05, 0.06 * down - 0.03])
        return joints, np.stack([hand(joints[7], 0.4), hand(joints[4], -0.4)])


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _clothes(hues: np.ndarray) -> tuple[Colour, Colour, list[Colour]]:
    """Background, torso and the limbs of `BODY`."""
    shades = zip(hues, (0.25, 0.7, 0.6, 0.35), (0.85, 0.7, 0.4, 0.9), strict=True)
    background, shirt, trousers, skin = (_colour(*shade) for shade in shades)
    shirts = ((1, 2), (2, 3), (1, 5), (5, 6), (1, 8), (1, 11))
    legs = ((8, 9), (9, 10), (11, 12), (12, 13))
    worn = dict.fromkeys(shirts, shirt) | dict.fromkeys(legs, trousers)
    return background, shirt, [worn.get(limb, skin) for limb in BODY]


def _draw_figure(
    canvas: UInt8[np.ndarray, "H W 3"],
    joints: np.ndarray,
    torso: Colour,
    limbs: Sequence[Colour],
) -> UInt8[np.ndarray, "H W 3"]:
    height, width = canvas.shape[:2]
    points = (joints * (width, height)).round().astype(int)
    thickness = max(1, width // 16)
    cv2.fillPoly(canvas, [points[list(TORSO)]], torso)
    for (a, b), colour in zip(BODY, limbs, strict=True):
        cv2.line(canvas, points[a].tolist(), points[b].tolist(), colour, thickness, cv2.LINE_AA)
    cv2.circle(canvas, points[0].tolist(), thickness, limbs[-1], -1, cv2.LINE_AA)
    return canvas


def _draw_hands(canvas: np.ndarray, hands: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    height, width = canvas.shape[:2]
    for points, colour in zip(hands, HANDS, strict=True):
        hull = cv2.convexHull((points * (width, height)).round().astype(np.int32))
        cv2.fillConvexPoly(canvas, hull, colour, cv2.LINE_AA)
    return canvas


def _draw_keypoints(clip: KeypointClip, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The painter's sticks have fixed widths in pixels, so small pictures are shrunk large ones."""
    enlarged = max(1, -(-SMALLEST // max(size)))
    picture = draw_dwpose(clip, 0, (size[0] * enlarged, size[1] * enlarged))
    return cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def _keypoints(joints: np.ndarray, hands: np.ndarray) -> KeypointClip:
    """One frame, one person, no face."""
    yes = np.ones((1, 1, 2, 21), bool)
    faces = np.zeros((1, 1, 68, 2)), np.zeros((1, 1, 68), bool)
    shown = np.ones((1, 1, 18), bool)
    return KeypointClip(joints[None, None], shown, hands[None, None], yes, *faces)
