"""Joints and flesh of a made-up person and hand, posed and numbered as in SMPL-X and MANO.

Metres; x to the person's left, y up, z forward; a T-pose with palms down and fingers spread.
"""

import numpy as np

from realisdance_jax.poses.surface_nets import Capsule, Grid

Point = tuple[float, float, float]

# fmt: off
SMPLX_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19,
                 15, 15, 15, 20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38,
                 21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53)
MANO_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

# The left half; joints on the axis have no right twin.
_TRUNK = {0: (0.0, -0.35, 0.01), 3: (0.0, -0.23, -0.01), 6: (0.0, -0.1, -0.01),
          9: (0.0, 0.0, -0.01), 12: (0.0, 0.17, -0.02), 15: (0.0, 0.26, 0.0),
          22: (0.0, 0.24, 0.03)}
_LEFT = {1: (0.07, -0.43, 0.0), 4: (0.11, -0.82, 0.0), 7: (0.1, -1.21, -0.03),
         10: (0.12, -1.27, 0.09), 13: (0.06, 0.1, -0.01), 16: (0.17, 0.12, -0.02),
         18: (0.42, 0.12, -0.03),
         20: (0.66, 0.12, -0.02), 23: (0.03, 0.31, 0.07)}
# Three joints and the tip of index, middle, pinky, ring and thumb, from the left wrist.
_FINGERS = (((0.1, 0, 0.03), (0.135, 0, 0.038), (0.16, 0, 0.044), (0.185, 0, 0.05)),
            ((0.105, 0, 0.0), (0.145, 0, 0.002), (0.173, 0, 0.004), (0.2, 0, 0.006)),
            ((0.085, 0, -0.052), (0.11, 0, -0.066), (0.13, 0, -0.076), (0.15, 0, -0.086)),
            ((0.098, 0, -0.027), (0.135, 0, -0.034), (0.16, 0, -0.039), (0.185, 0, -0.044)),
            ((0.035, -0.008, 0.035), (0.062, -0.012, 0.062), (0.084, -0.012, 0.08),
             (0.105, -0.012, 0.097)))
_FINGER_RADII = ((0.0115, 0.009), (0.0115, 0.009), (0.0105, 0.0085), (0.011, 0.009), (0.0125, 0.01))
# fmt: on
WRIST = _LEFT[20]


def _flip(point: Point) -> Point:
    return -point[0], point[1], point[2]


def _hand_points(wrist: Point) -> list[list[Point]]:
    return [[_moved(offset, wrist) for offset in finger] for finger in _FINGERS]


def _moved(offset: Point, origin: Point) -> Point:
    x, y, z = (float(a + b) for a, b in zip(offset, origin, strict=True))
    return x, y, z


def smplx_joints() -> np.ndarray:
    """(55 3) rest positions."""
    joints: dict[int, Point] = dict(_TRUNK)
    for left, point in _LEFT.items():
        joints[left] = point
        joints[left + 1] = _flip(point)
    for finger, points in enumerate(_hand_points(WRIST)):
        for bone in range(3):
            joints[25 + 3 * finger + bone] = points[bone]
            joints[40 + 3 * finger + bone] = _flip(points[bone])
    return np.array([joints[number] for number in range(55)])


def mano_joints() -> np.ndarray:
    """(16 3) rest positions of the right hand, the wrist at the origin."""
    fingers = [_flip(p) for points in _hand_points((0.0, 0.0, 0.0)) for p in points[:3]]
    return np.array([(0.0, 0.0, 0.0), *fingers])


def finger_tips() -> np.ndarray:
    """(5 3) left thumb, index, middle, ring, pinky of the body."""
    tips = [points[3] for points in _hand_points(WRIST)]
    return np.array([tips[finger] for finger in (4, 0, 1, 3, 2)])


def body_capsules() -> list[Capsule]:
    """Flesh of the whole person."""
    ankle, toes = _LEFT[7], (0.13, -1.285, 0.15)
    left = [
        Capsule((0.05, -0.38, 0.0), (0.07, 0.06, 0.0), 0.105, 0.095),  # trunk
        Capsule(_LEFT[13], _LEFT[16], 0.07, 0.062),
        Capsule(_LEFT[16], _LEFT[18], 0.055, 0.042),
        Capsule(_LEFT[18], _LEFT[20], 0.041, 0.027),
        Capsule(_LEFT[1], _LEFT[4], 0.095, 0.062),
        Capsule(_LEFT[4], ankle, 0.06, 0.04),
        Capsule(ankle, (0.1, -1.285, -0.06), 0.04, 0.032),  # heel
        Capsule((0.1, -1.28, -0.04), toes, 0.038, 0.032),
        Capsule((0.085, 0.29, 0.0), (0.085, 0.31, 0.0), 0.022, 0.022),  # ear
        *hand_capsules(WRIST),
    ]
    middle = [
        Capsule((0, -0.36, 0.0), (0, 0.05, 0.0), 0.1, 0.09),
        Capsule((0, 0.05, -0.01), (0, 0.25, 0.0), 0.06, 0.055),  # neck
        Capsule((0, 0.25, 0.02), (0, 0.34, 0.01), 0.078, 0.09),  # head
        Capsule((0, 0.29, 0.1), (0, 0.27, 0.115), 0.012, 0.018),  # nose
    ]
    right = [Capsule(_flip(c.start), _flip(c.end), *c[2:]) for c in left]
    return left + middle + right


def hand_capsules(wrist: Point) -> list[Capsule]:
    """Flesh of a left hand."""
    capsules = []
    for points, (radius, tip_radius) in zip(_hand_points(wrist), _FINGER_RADII, strict=True):
        knuckle, tip = points[0], points[3]
        capsules.append(Capsule(wrist, knuckle, 0.024, 0.0145))
        capsules.append(Capsule(knuckle, points[1], radius, radius))
        capsules.append(Capsule(points[1], tip, radius, tip_radius))
    return capsules


def right_hand_capsules() -> list[Capsule]:
    """Flesh of a right hand, the wrist at the origin, with a piece of the forearm."""
    hand = [Capsule(_flip(c.start), _flip(c.end), *c[2:]) for c in hand_capsules((0.0, 0.0, 0.0))]
    return [*hand, Capsule((0.2, 0.0, 0.0), (0.0, 0.0, 0.0), 0.03, 0.028)]


def body_grid(spacing: float) -> Grid:
    """Nodes around the person, closer together around the hands."""
    fine = spacing * 0.45
    half = np.concatenate([_steps(0, 0.65, spacing), _steps(0.65, 0.92, fine * 1.5)])
    return (
        np.concatenate([-half[:0:-1], half]),
        np.concatenate(
            [_steps(-1.4, 0.08, spacing), _steps(0.08, 0.16, fine), _steps(0.16, 0.5, spacing)]
        ),
        np.concatenate(
            [_steps(-0.2, -0.13, spacing), _steps(-0.13, 0.1, fine), _steps(0.1, 0.26, spacing)]
        ),
    )


def hand_grid(spacing: float) -> Grid:
    """Nodes around the right hand, ending where the forearm is cut off."""
    return (
        _steps(-0.24, 0.045, spacing),
        _steps(-0.06, 0.06, spacing * 0.6),
        _steps(-0.13, 0.14, spacing * 0.5),
    )


def _steps(low: float, high: float, spacing: float) -> np.ndarray:
    """From `low` on, without `high`, evenly and about `spacing` apart."""
    count = max(int(np.ceil((high - low) / spacing)), 1)
    return low + (high - low) * np.arange(count) / count
