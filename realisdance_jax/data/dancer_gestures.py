"""Hand shapes as axis-angle poses of fifteen joints, in SMPL-X's order and for the left hand."""

import numpy as np

from realisdance_jax.shapes import Float, typechecked

# How far thumb, index, middle, ring and pinky are bent (0 straight, 1 closed), how far the fingers
# are apart, and how far the thumb lies across the palm.
GESTURES = {
    "open": (0.0, 0.05, 0.05, 0.05, 0.05, 0.55, 0.0),
    "spread": (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "relaxed": (0.2, 0.25, 0.3, 0.35, 0.4, 0.35, 0.25),
    "fist": (0.7, 1.0, 1.0, 1.0, 1.0, 0.2, 0.9),
    "point": (0.7, 0.0, 1.0, 1.0, 1.0, 0.3, 0.9),
    "peace": (0.7, 0.0, 0.0, 1.0, 1.0, 1.0, 0.9),
    "three": (0.8, 0.0, 0.0, 0.0, 1.0, 0.8, 0.9),
    "four": (0.8, 0.0, 0.0, 0.0, 0.0, 0.8, 0.9),
    "thumb": (0.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.0),
    "rock": (0.7, 0.0, 1.0, 1.0, 0.0, 0.5, 0.9),
    "call": (0.0, 1.0, 1.0, 1.0, 0.0, 0.6, 0.0),
    "ring": (0.45, 0.62, 0.1, 0.05, 0.0, 0.8, 0.6),
    "claw": (0.35, 0.5, 0.5, 0.5, 0.5, 0.9, 0.2),
    "gun": (0.0, 0.0, 1.0, 1.0, 1.0, 0.3, 0.0),
}
NUMBERS = np.array(list(GESTURES.values()))
"""One row per gesture."""

_BEND = np.array([1.35, 1.6, 1.05])  # knuckle, middle and last joint of a closed finger
_APART = np.array([-0.2, -0.02, 0.32, 0.14])  # index, middle, pinky, ring
_TOGETHER = np.array([0.1, 0.02, -0.22, -0.1])


def finger_poses(numbers: Float[np.ndarray, "f 7"]) -> Float[np.ndarray, "f 15 3"]:
    """Poses of gestures given as rows of `NUMBERS`, or of something between them."""
    pose = np.zeros((len(numbers), 5, 3, 3))
    bent = numbers[:, [1, 2, 4, 3]]  # the order of SMPL-X's fingers
    pose[:, :4, :, 2] = -bent[..., None] * _BEND
    apart = numbers[:, 5:6]
    # A bent finger cannot leave its neighbours.
    pose[:, :4, 0, 1] = (apart * _APART + (1 - apart) * _TOGETHER) * (1 - 0.8 * bent)
    thumb, across = numbers[:, 0], numbers[:, 6]
    pose[:, 4, 0] = np.stack([0.95 * across, 0.55 * across - 0.1, 0.0 * across], axis=1)
    pose[:, 4, 1, 1] = 0.15 + 0.75 * thumb
    pose[:, 4, 2, 1] = 0.1 + 0.95 * thumb
    return pose.reshape(-1, 15, 3)


@typechecked
def other_gestures(
    poses: Float[np.ndarray, "f 15 3"], count: int, rng: np.random.Generator
) -> Float[np.ndarray, "f k 15 3"]:
    """For each pose of a left hand `count` gestures that it does not show.

    They are drawn once; in every frame those are passed over that are nearer to the pose than the
    two most similar gestures are to each other, and the nearest one in any case.
    """
    known = finger_poses(NUMBERS)
    between = _distances(known, known) + 10 * np.eye(len(known))
    distances = _distances(poses, known)
    similar = distances < np.minimum(between.min(), np.sort(distances, axis=1)[:, -count, None])
    similar[np.arange(len(poses)), distances.argmin(axis=1)] = True
    order = rng.permutation(len(known))
    last = np.argsort(similar[:, order], axis=1, kind="stable")
    return known[order[last[:, :count]]]


def _distances(poses: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(f k) root mean square difference of the joints' angles, radians."""
    return np.sqrt(np.square(poses[:, None] - others).mean(axis=(2, 3)))
