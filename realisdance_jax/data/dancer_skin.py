"""The dancer's joints and skin in motion: SMPL's rules in NumPy, light enough for loader processes.

Joints are those of SMPL-X, in its order and with its axis-angle poses.
"""

import numpy as np

from realisdance_jax.data.dancer_mesh import Mesh
from realisdance_jax.poses.clips import BodyClip
from realisdance_jax.poses.synthetic_shapes import SMPLX_PARENTS
from realisdance_jax.shapes import Float, typechecked

JOINTS = len(SMPLX_PARENTS)


@typechecked
def rotations(axis_angle: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rotation matrices of axes times angles in radians (Rodrigues)."""
    angle = np.sqrt(np.einsum("...i,...i->...", axis_angle, axis_angle))[..., None, None]
    x, y, z = np.moveaxis(axis_angle, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    cross = cross.reshape(*x.shape, 3, 3)
    half = np.sinc(angle / (2 * np.pi))
    return np.eye(3) + np.sinc(angle / np.pi) * cross + half * half / 2 * (cross @ cross)


@typechecked
def joint_motions(
    rest: Float[np.ndarray, "j 3"], turns: Float[np.ndarray, "f j 3 3"]
) -> tuple[Float[np.ndarray, "f j 3 3"], Float[np.ndarray, "f j 3"]]:
    """Rotation and place of the first j joints in the root's axes.

    Args:
        rest: places at rest. turns: rotation of each joint against its parent.
    """
    whole, places = np.empty_like(turns), np.empty(turns.shape[:3])
    whole[:, 0], places[:, 0] = turns[:, 0], rest[0]
    for joint in range(1, len(rest)):
        parent = SMPLX_PARENTS[joint]
        whole[:, joint] = whole[:, parent] @ turns[:, joint]
        offset = rest[joint] - rest[parent]
        places[:, joint] = places[:, parent] + np.einsum("fij,j->fi", whole[:, parent], offset)
    return whole, places


@typechecked
def full_pose(bodies: BodyClip) -> Float[np.ndarray, "f 55 3"]:
    """Axis-angle of all joints in SMPL-X's order."""
    face = np.stack([bodies.jaw_pose, bodies.leye_pose, bodies.reye_pose], axis=1)
    hands = (bodies.left_hand_pose, bodies.right_hand_pose)
    root = bodies.global_orient[:, None]
    return np.concatenate([root, bodies.body_pose, face, *hands], axis=1)


@typechecked
def body_motions(
    rest: Float[np.ndarray, "55 3"], bodies: BodyClip
) -> tuple[Float[np.ndarray, "f 55 3 3"], Float[np.ndarray, "f 55 3"]]:
    """Rotation and place of every joint in camera axes."""
    whole, places = joint_motions(rest, rotations(full_pose(bodies)))
    return whole, places + bodies.transl[:, None]


@typechecked
def skinned(
    mesh: Mesh,
    rest: Float[np.ndarray, "55 3"],
    whole: Float[np.ndarray, "55 3 3"],
    places: Float[np.ndarray, "55 3"],
) -> Float[np.ndarray, "v 3"]:
    """Vertices of one frame, each where the weighted mean of its joints' motions takes it."""
    shift = places - np.einsum("jik,jk->ji", whole, rest)
    motions = np.concatenate([whole, shift[..., None]], axis=-1).reshape(len(rest), 12)
    blended = np.einsum("vk,vkm->vm", mesh.shares, motions.take(mesh.joints, axis=0))
    blended = blended.reshape(-1, 3, 4)
    return np.einsum("vik,vk->vi", blended[..., :3], mesh.vertices) + blended[..., 3]


@typechecked
def followed(
    points: Float[np.ndarray, "m 3"],
    parents: tuple[int, ...],
    rest: Float[np.ndarray, "55 3"],
    whole: Float[np.ndarray, "f 55 3 3"],
    places: Float[np.ndarray, "f 55 3"],
) -> Float[np.ndarray, "f m 3"]:
    """Points of the rest pose that each move with one joint (`parents`), over all frames."""
    joints = list(parents)
    offsets = points - rest[joints]
    return np.einsum("fmik,mk->fmi", whole[:, joints], offsets) + places[:, joints]
