"""A waving figure drawn by the project itself: reference picture and the three driver files."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realisdance_jax.data.images import save_png
from realisdance_jax.data.video_io import VideoWriter
from realisdance_jax.poses.draw_dwpose import LIMBS
from realisdance_jax.shapes import Float, UInt8
from realisdance_jax.utils.files import atomic_output

Colour = tuple[int, int, int]

BODY = LIMBS[:13]
"""Six limbs of the arms, two times three from the neck to the foot, the neck."""
SKIN, SHIRT, TROUSERS = (224, 172, 130), (58, 110, 165), (64, 62, 84)
ARMS, LEG = (SHIRT, SHIRT, SHIRT, SKIN, SHIRT, SKIN), (SHIRT, TROUSERS, TROUSERS)
CLOTHES = (*ARMS, *LEG, *LEG, SKIN)
LEFT_HAND, RIGHT_HAND = (170, 233, 170), (230, 171, 170)


@dataclass(frozen=True)
class DemoFiles:
    """Paths that `write_demo_clip` made."""

    reference: Path
    dwpose: Path
    hamer: Path
    smpl: Path


def pose(phase: float) -> Float[np.ndarray, "18 2"]:
    """Body joints (x, y in 0..1, OpenPose-18 order) of the figure at `phase` of its wave."""
    swing, sway = math.sin(2 * math.pi * phase), 0.02 * math.cos(2 * math.pi * phase)
    head, neck = (0.50, 0.20), (0.50, 0.30)
    right_arm = (
        (0.41, 0.31),
        (0.31, 0.38 - 0.05 * swing),
        (0.22 + 0.05 * swing, 0.30 - 0.14 * swing),
    )
    left_arm = (
        (0.59, 0.31),
        (0.69, 0.42 + 0.03 * swing),
        (0.78 + 0.04 * swing, 0.52 + 0.12 * swing),
    )
    right_leg = ((0.45, 0.58), (0.44, 0.76), (0.43, 0.93))
    left_leg = ((0.55, 0.58), (0.57, 0.76), (0.58, 0.93))
    eyes_and_ears = ((0.48, 0.18), (0.52, 0.18), (0.46, 0.19), (0.54, 0.19))
    joints = (head, neck, *right_arm, *left_arm, *right_leg, *left_leg, *eyes_and_ears)
    return np.array(joints) + np.array([sway, 0])


def hand(wrist: Float[np.ndarray, "2"], direction: float) -> Float[np.ndarray, "21 2"]:
    """Hand points around a wrist, fingers fanned about `direction` (radians from upright)."""
    angles = direction + 0.35 * (np.arange(5) - 2)
    reach = np.stack([np.sin(angles), -np.cos(angles)], axis=-1)
    fingers = wrist + 0.018 * np.arange(1, 5)[:, None] * reach[:, None]
    return np.concatenate([wrist[None], fingers.reshape(20, 2)])


def _pixels(points: np.ndarray, canvas: np.ndarray) -> np.ndarray:
    height, width = canvas.shape[:2]
    return (points * (width, height)).round().astype(int)


def _draw_figure(canvas: np.ndarray, joints: np.ndarray, torso: Colour, limbs: Sequence[Colour]):
    points = _pixels(joints, canvas)
    thickness = max(2, canvas.shape[1] // 14)
    cv2.fillPoly(canvas, [points[[2, 5, 11, 8]]], torso)
    for (a, b), colour in zip(BODY, limbs, strict=True):
        cv2.line(canvas, points[a].tolist(), points[b].tolist(), colour, thickness, cv2.LINE_AA)
    cv2.circle(canvas, points[0].tolist(), thickness, limbs[-1], -1, cv2.LINE_AA)


def _reference(height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    down = np.linspace(0, 1, height)[:, None, None]
    rows = np.array([198, 214, 226]) * (1 - down) + np.array([120, 150, 110]) * down
    canvas = np.repeat(rows, width, axis=1).astype(np.uint8)
    _draw_figure(canvas, pose(0.1), SHIRT, CLOTHES)
    return canvas


def _smpl(joints: np.ndarray, height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    hsv = np.full((1, len(BODY) + 1, 3), (0, 150, 230), np.uint8)
    hsv[..., 0] = np.linspace(0, 170, len(BODY) + 1)
    torso, *limbs = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].tolist()
    canvas = np.zeros((height, width, 3), np.uint8)
    _draw_figure(canvas, joints, torso, limbs)
    return canvas


def _hamer(hands: np.ndarray, height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    canvas = np.zeros((height, width, 3), np.uint8)
    for points, colour in zip(hands, (LEFT_HAND, RIGHT_HAND), strict=True):
        hull = cv2.convexHull(_pixels(points, canvas))
        cv2.fillConvexPoly(canvas, hull, colour, cv2.LINE_AA)
    return canvas


def write_demo_clip(
    folder: Path, frames: int = 16, height: int = 256, width: int = 192, fps: float = 8
) -> DemoFiles:
    """Draw the reference and `frames` driver frames (one wave) into `folder`.

    Videos are lossless: of small pictures x264 makes another lossy film now and then, and the hosts
    of a run, each with its own, would disagree.
    """
    names = ("ref.png", "dwpose.json", "hamer.mp4", "smpl.mp4")
    files = DemoFiles(*(folder / name for name in names))
    save_png(files.reference, _reference(height, width))
    records = []
    with (
        VideoWriter(files.hamer, fps, (height, width), crf=0) as hamer,
        VideoWriter(files.smpl, fps, (height, width), crf=0) as smpl,
    ):
        for i in range(frames):
            joints = pose(i / frames)
            hands = np.stack([hand(joints[7], 0.4), hand(joints[4], -0.4)])
            bodies = {"candidate": joints.tolist(), "subset": [list(range(18))]}
            records.append({"bodies": bodies, "hands": hands.tolist(), "H": height, "W": width})
            hamer.write(_hamer(hands, height, width))
            smpl.write(_smpl(joints, height, width))
    with atomic_output(files.dwpose) as partial:
        partial.write_text(json.dumps(records))
    return files
