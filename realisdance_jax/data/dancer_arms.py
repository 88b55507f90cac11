"""Arms that put the hands where they are wanted: two bones and a wrist, solved exactly."""

from typing import NamedTuple

import numpy as np

from realisdance_jax.data.dancer_mesh import MIRROR
from realisdance_jax.poses.meshes import normalised
from realisdance_jax.poses.rotations import axis_angles
from realisdance_jax.shapes import Float

MAX_TWIST = 3.0
"""Radians that a hand is turned against the elbow at most."""

_FOLLOW = np.array([1.2, 1.2, 0.7])
"""How much a hand points where the forearm does rather than where it should; less to the viewer."""


class HandGoals(NamedTuple):
    """What a left hand does over f frames; a right one does the same mirrored.

    place: of the wrist, metres from the chest, x outward, y up, z forward. elbow: where it points.
    turn: tilt outward, lean forward, roll of the palm, radians; at 0 fingers are up and the palm
    faces forward. fingers: rows between those of `NUMBERS`.
    """

    place: Float[np.ndarray, "f 3"]
    elbow: Float[np.ndarray, "f 3"]
    turn: Float[np.ndarray, "f 3"]
    fingers: Float[np.ndarray, "f 7"]


def reach(
    goals: HandGoals, rest: np.ndarray, whole: np.ndarray, places: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axis-angle (f 3) of shoulder, elbow and wrist.

    Args:
        rest: rest joints (55 3). whole, places: motions of the trunk from `joint_motions`.
        side: 0 left, 1 right; a right arm is solved as a left one in a mirror.
    """
    mirror = MIRROR if side else np.ones(3)
    flip = mirror[:, None] * mirror
    chest, collar = flip * whole[:, 9], flip * whole[:, 13 + side]
    middle, shoulder = mirror * places[:, 9], mirror * places[:, 16 + side]
    target = middle + np.einsum("fij,fj->fi", chest, goals.place)
    pole = np.einsum("fij,fj->fi", chest, goals.elbow)
    bones = np.linalg.norm(np.diff(rest[[16, 18, 20]], axis=0), axis=1).tolist()
    upper, fore = _bones(shoulder, target, pole, *bones)
    hinge = normalised(np.cross(upper, fore))
    upper_arm = _frame(upper, -hinge)
    forearm = _frame(fore, -hinge)
    hand = chest @ _hand_frame(goals.turn, np.einsum("fji,fj->fi", chest, fore))
    turn = np.swapaxes(forearm, 1, 2) @ hand
    twist = _twist(turn)
    swing = _about_x(-twist) @ turn
    twist = MAX_TWIST * np.tanh(twist / MAX_TWIST)
    rolled = forearm @ _about_x(0.55 * twist)
    turns = (
        np.swapaxes(collar, 1, 2) @ upper_arm,
        np.swapaxes(upper_arm, 1, 2) @ rolled,
        _about_x(0.45 * twist) @ swing,
    )
    sign = -MIRROR if side else np.ones(3)
    upper_pose, fore_pose, hand_pose = (axis_angles(_quaternions(turn)) * sign for turn in turns)
    return upper_pose, fore_pose, hand_pose


def _twist(turn: np.ndarray) -> np.ndarray:
    """(f) radians about x in rotations (f 3 3), without jumps and around zero."""
    quaternion = _quaternions(turn)
    angle = 2 * np.arctan2(quaternion[:, 1], quaternion[:, 0])
    angle = np.unwrap((angle + np.pi) % (2 * np.pi) - np.pi)
    return angle - 2 * np.pi * np.round(angle.mean() / (2 * np.pi))


def _bones(
    shoulder: np.ndarray, target: np.ndarray, pole: np.ndarray, upper: float, fore: float
) -> tuple[np.ndarray, np.ndarray]:
    """Directions of both bones, the elbow on the side of `pole`; out of reach means stretched."""
    way = target - shoulder
    length = np.linalg.norm(way, axis=1, keepdims=True)
    way = way / length
    length = np.clip(length, 1.1 * abs(upper - fore) + 0.08, 0.985 * (upper + fore))
    along = (upper**2 - fore**2 + length**2) / (2 * length)
    aside = np.sqrt(np.maximum(upper**2 - along**2, 0))
    side = normalised(pole - np.einsum("fi,fi->f", pole, way)[:, None] * way)
    elbow = along * way + aside * side
    return elbow / upper, (length * way - elbow) / fore


def _frame(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rotations (f 3 3) that take the axes x and y to the given unit vectors."""
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _hand_frame(turn: np.ndarray, fore: np.ndarray) -> np.ndarray:
    """Rotations of the hand against the chest from `HandGoals.turn` and the forearm's direction."""
    tilt, lean, roll = turn.T
    fingers = np.stack(
        [np.sin(tilt) * np.cos(lean), np.cos(tilt) * np.cos(lean), np.sin(lean)], axis=1
    )
    fingers = normalised(fingers + _FOLLOW * fore)
    ahead = np.array([0.0, 0.0, 1.0])
    front = normalised(ahead - fingers[:, 2:] * fingers)
    aside = np.cross(fingers, front)
    palm = np.cos(roll)[:, None] * front + np.sin(roll)[:, None] * aside
    return _frame(fingers, -palm)


def _about_x(angle: np.ndarray) -> np.ndarray:
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 2, 1] = np.sin(angle)
    turn[:, 1, 2] = -turn[:, 2, 1]
    return turn


def _quaternions(matrices: np.ndarray) -> np.ndarray:
    """(f 4) of rotation matrices (f 3 3), of any length: the largest of four equal formulas."""
    m = matrices
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    x, y, z = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    forms = np.stack(
        [
            np.stack([1 + xx + yy + zz, x, y, z], axis=1),
            np.stack([x, 1 + xx - yy - zz, xy, xz], axis=1),
            np.stack([y, xy, 1 - xx + yy - zz, yz], axis=1),
            np.stack([z, xz, yz, 1 - xx - yy + zz], axis=1),
        ],
        axis=1,
    )
    best = np.argmax(np.stack([forms[:, k, k] for k in range(4)], axis=1), axis=1)
    return forms[np.arange(len(m)), best]
