"""Keypoints and hands of one skeleton, as estimators write them."""

import numpy as np

from realisdance_jax.data.dancer_body import FINGERS, Body, finger_tips, head_point
from realisdance_jax.data.dancer_mesh import MIRROR
from realisdance_jax.data.dancer_skin import body_motions, followed, skinned
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.meshes import normalised
from realisdance_jax.shapes import typechecked

_OPENPOSE = (-1, 12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7)
"""Joint of SMPL-X behind each of OpenPose's first fourteen; the nose is on the skin."""

_FACE = {"nose": (0.0, -0.2, 1.1), "eye": (0.4, 0.08, 0.88), "ear": (1.0, -0.05, -0.08)}
_LEFT_HAND = (37, 25, 28, 34, 31)
"""First joints of thumb, index, middle, ring and pinky, the order of hand keypoints."""


@typechecked
def dancer_keypoints(body: Body, bodies: BodyClip) -> KeypointClip:
    """DWPose keypoints of a dance; points beyond the frame or turned away are not found."""
    whole, places = body_motions(body.joints, bodies)
    face = np.stack([head_point(body.build, np.array(point)) for point in _FACE.values()])
    face = np.concatenate([face[:1], face[1:2] * MIRROR, face[1:2], face[2:] * MIRROR, face[2:]])
    on_head = followed(face, (15,) * 5, body.joints, whole, places)
    joints = places[:, _OPENPOSE[1:]]
    points = np.concatenate([on_head[:, :1], joints, on_head[:, 1:]], axis=1)
    hands = np.stack([_hand_points(body, whole, places, side) for side in range(2)], axis=1)
    body_xy, hands_xy = _projected(points, bodies), _projected(hands, bodies)
    inside = np.all((body_xy >= 0) & (body_xy < 1), axis=-1)
    inside[:, 14:] &= _turned_here(face, body, whole, on_head)
    frames = bodies.frames
    return KeypointClip(
        body_xy[:, None],
        inside[:, None],
        hands_xy[:, None],
        np.all((hands_xy >= 0) & (hands_xy < 1), axis=-1)[:, None],
        np.zeros((frames, 1, 68, 2)),
        np.zeros((frames, 1, 68), bool),
        bodies.size,
        bodies.fps,
    )


def _hand_points(body: Body, whole: np.ndarray, places: np.ndarray, side: int) -> np.ndarray:
    """(f 21 3) wrist, then four points per finger from its root."""
    tips = finger_tips(body.build) * (MIRROR if side else 1)
    last = tuple(first + 2 + 15 * side for first in FINGERS)
    at = followed(tips, last, body.joints, whole, places)
    points = [places[:, 20 + side]]
    for first in _LEFT_HAND:
        points += [places[:, first + bone + 15 * side] for bone in range(3)]
        points.append(at[:, FINGERS.index(first)])
    return np.stack(points, axis=1)


def _turned_here(
    face: np.ndarray, body: Body, whole: np.ndarray, on_head: np.ndarray
) -> np.ndarray:
    """(f 4) whether eyes and ears are on the side of the head that the camera sees."""
    outward = normalised(face[1:] - head_point(body.build, np.zeros(3)))
    normals = np.einsum("fij,mj->fmi", whole[:, 15], outward)
    facing = -np.einsum("fmi,fmi->fm", normals, normalised(on_head[:, 1:]))
    return facing > np.array([-0.1, -0.1, -0.35, -0.35])


def _projected(points: np.ndarray, bodies: BodyClip) -> np.ndarray:
    """(f ... 2) fractions of width and height."""
    shape = (bodies.frames,) + (1,) * (points.ndim - 2) + (2,)
    focal, centre = bodies.focal.reshape(shape), bodies.princpt.reshape(shape)
    height, width = bodies.size or (1, 1)
    return (points[..., :2] / points[..., 2:] * focal + centre) / np.array([width, height])


@typechecked
def dancer_hands(body: Body, bodies: BodyClip) -> HandClip:
    """Both hands of a dance as HaMeR's meshes; slot 0 is the left one."""
    numbers = np.concatenate([body.left_hand, body.right_hand])
    mesh = body.mesh
    hands = mesh._replace(
        vertices=mesh.vertices[numbers], joints=mesh.joints[numbers], shares=mesh.shares[numbers]
    )
    whole, places = body_motions(body.joints, bodies)
    vertices = np.stack(
        [skinned(hands, body.joints, *frame) for frame in zip(whole, places, strict=True)]
    ).reshape(bodies.frames, 2, -1, 3)
    wrists = places[:, 20:22]
    present = np.repeat(bodies.present[:, None], 2, axis=1)
    return HandClip(
        present,
        np.tile([False, True], (bodies.frames, 1)),
        vertices - wrists[:, :, None],
        wrists,
        float(bodies.focal[0, 0]),
        bodies.size,
        bodies.fps,
    )
