"""Dances: smooth random movements of body, arms and fingers, as SMPL-X poses before a camera.

The dancer strikes one pose after another; between them everything eases out and in. Hands are
placed and turned as a viewer should see them, and arms follow.
"""

import numpy as np

from realisdance_jax.data.dancer_arms import HandGoals, reach
from realisdance_jax.data.dancer_body import Build, rest_joints
from realisdance_jax.data.dancer_gestures import NUMBERS, finger_poses
from realisdance_jax.data.dancer_mesh import MIRROR
from realisdance_jax.data.dancer_skin import joint_motions, rotations
from realisdance_jax.poses.clips import BodyClip
from realisdance_jax.poses.rotations import axis_angles, quaternions
from realisdance_jax.shapes import typechecked

FPS = 24
VISIBLE, MIDDLE, DISTANCE = 1.22, 0.06, 2.8
"""Metres from the lower to the upper edge, height in the middle, metres to the camera."""

_REST, _MOVE = (0.05, 0.3), (0.45, 0.9)  # seconds in a pose, and from one to the next
_WAVES = 3
_EDGE, _HAND = 0.36, 0.27  # how far out finger tips go, and how long a hand is, metres


@typechecked
def dance(seed: int, build: Build, frames: int, size: tuple[int, int]) -> BodyClip:
    """A dance of one person, a function of its arguments.

    Args:
        build: whose arms have to reach; hands go to the same places whatever it is.
        size: height and width of the frames in pixels.
    """
    rng = np.random.default_rng([2, seed])
    time = np.arange(frames) / FPS
    body, global_orient, shift = _trunk(rng, time)
    goals = _goals(rng, time)
    rest = rest_joints(build)
    turns = rotations(np.concatenate([global_orient[:, None], body], axis=1))
    whole, places = joint_motions(rest[:22], turns)
    arms = [reach(goals[side], rest, whole, places, side) for side in range(2)]
    for side in range(2):
        for joint, pose in zip((16, 18, 20), arms[side], strict=True):
            body[:, joint + side - 1] = pose
    fingers = [finger_poses(goal.fingers) for goal in goals]
    focal = size[0] / VISIBLE * DISTANCE
    root = rest[0] + shift - [0.0, MIDDLE, 0.0]
    zero, ones = np.zeros((frames, 3)), np.ones((frames, 1))
    return BodyClip(
        np.ones(frames, bool),
        axis_angles(_facing(quaternions(global_orient))),
        body,
        fingers[0],
        fingers[1] * -MIRROR,
        *(zero, zero, zero),
        np.zeros((frames, 10)),
        np.zeros((frames, 10)),
        root * [1, -1, -1] + [0, 0, DISTANCE] - rest[0],
        ones * [focal, focal],
        ones * [size[1] / 2, size[0] / 2],
        False,
        size,
        float(FPS),
    )


def _facing(turn: np.ndarray) -> np.ndarray:
    """Half a turn about x after `turn`: from the body's axes to those of a camera before it."""
    w, x, y, z = np.moveaxis(turn, -1, 0)
    return np.stack([-x, w, -z, y], axis=-1)


def _waves(rng: np.random.Generator, time: np.ndarray, size: float, slowest: float) -> np.ndarray:
    """Sum of sines, about -size to size; slowest: seconds of the longest."""
    period = slowest / rng.uniform(1, 2.5, _WAVES)
    phase = rng.uniform(0, 2 * np.pi, _WAVES)
    weight = rng.dirichlet(np.ones(_WAVES) * 2)
    return size * np.sin(2 * np.pi * time[:, None] / period + phase) @ weight * 1.5


def _trunk(rng: np.random.Generator, time: np.ndarray) -> tuple:
    """Poses of joints 1 to 21 with arms at rest, of the root, and its shift in metres."""
    body = np.zeros((len(time), 21, 3))
    lean = np.stack([_waves(rng, time, size, 3.0) for size in (0.08, 0.18, 0.1)], axis=1)
    for joint in (3, 6, 9):
        body[:, joint - 1] = lean / 3
    head = np.stack([_waves(rng, time, size, 2.5) for size in (0.14, 0.4, 0.16)], axis=1)
    body[:, 11] = head * 0.4
    body[:, 14] = head * 0.6 - lean * 0.5
    for joint in (13, 14):
        body[:, joint - 1, 2] = (1, -1)[joint - 13] * (0.06 + _waves(rng, time, 0.07, 2.0))
    turn = np.stack([0 * time, _waves(rng, time, 0.22, 4.0), _waves(rng, time, 0.04, 3.0)], axis=1)
    bounce = 0.012 * np.abs(np.sin(2 * np.pi * time / rng.uniform(0.9, 1.6)))
    shift = np.stack([_waves(rng, time, 0.045, 4.0), bounce, _waves(rng, time, 0.04, 5.0)], axis=1)
    return body, turn, shift


def _goals(rng: np.random.Generator, time: np.ndarray) -> tuple[HandGoals, HandGoals]:
    """What the left and the right hand do, both in coordinates of the left."""
    span = float(time[-1]) + 2 * sum(high for _, high in (_REST, _MOVE))
    count = int(np.ceil(span / (_REST[0] + _MOVE[0])))
    starts = np.cumsum(rng.uniform(*_MOVE, count) + rng.uniform(*_REST, count))
    starts -= rng.uniform(starts[0], starts[1])
    moves = np.minimum(rng.uniform(*_MOVE, count), np.diff(starts, prepend=-10))
    keys = np.stack([_keys(rng, count), _keys(rng, count)])
    together = rng.random(count) < 0.4
    keys[1, together] = keys[0, together]
    return _eased(keys[0], starts, moves, time), _eased(keys[1], starts, moves, time)


def _keys(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count 16) poses of a hand: place 3, elbow 3, tilt, lean, roll of the hand, fingers 7."""
    outward, height = rng.uniform(0.04, 0.29, count), rng.uniform(-0.25, 0.26, count)
    high = height > 0.0
    outward = np.where(high, 0.25 + 0.15 * outward, outward)  # not before the face for long
    place = np.stack([outward, height, rng.uniform(0.16, 0.32, count)], axis=1)
    elbow = np.stack(
        [rng.uniform(0.3, 1.0, count), rng.uniform(-1, -0.4, count), rng.uniform(-0.5, 0, count)], 1
    )
    tilt = rng.normal(0.0, 0.35, count) - np.where(outward < 0.12, 0.35, 0.0)
    tilt = np.where(high, np.maximum(tilt, -0.15), tilt)
    tilt = np.clip(tilt, -1.2, np.arcsin(np.minimum((_EDGE - outward) / _HAND, 1)))
    lean = rng.normal(0.1, 0.25, count)
    # Now and then the back of the hand, by the way round that arms allow.
    roll = rng.normal(0.0, 0.4, count) - np.where(rng.random(count) < 0.22, 0.9 * np.pi, 0.0)
    fingers = NUMBERS[rng.integers(len(NUMBERS), size=count)]
    fingers = np.clip(fingers + rng.normal(0, 0.06, fingers.shape), -0.05, 1.05)
    return np.concatenate([place, elbow, np.stack([tilt, lean, roll], 1), fingers], axis=1)


def _eased(keys: np.ndarray, starts: np.ndarray, moves: np.ndarray, time: np.ndarray) -> HandGoals:
    """Values over time: key k is reached at starts[k], after moving for moves[k] seconds."""
    share = np.clip((time[:, None] - starts + moves) / moves, 0, 1)
    share = share**3 * (10 - 15 * share + 6 * share**2)
    steps = np.diff(keys, axis=0, prepend=0)
    share[:, 0] = 1
    values = share @ steps
    return HandGoals(values[:, :3], values[:, 3:6], values[:, 6:9], values[:, 9:])
