"""The dancer's body: proportions, joints in SMPL-X's order, and the flesh around them.

A T-pose in metres: x to the dancer's left, y up, z forward, palms down. A drawn figure rather than
a real one: head and hands are larger than life, so that fingers and faces survive small pictures.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np

from realisdance_jax.data.dancer_mesh import MIRROR, Mesh, Tube, assembled, elliptic, mirrored
from realisdance_jax.poses import synthetic_shapes as shapes
from realisdance_jax.poses.landmarks import LANDMARKS
from realisdance_jax.poses.smpl_cs import harmonic_colours
from realisdance_jax.shapes import Float, Int, UInt8

TORSO, ARM, HAND, HEAD, NOSE, EAR, NECK, LEG, HAIR, SKIRT = range(10)
"""Parts of the body, then of what is worn on it."""

TWINS = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 22, 24, 23)
TWINS = (*TWINS, *range(40, 55), *range(25, 40))
"""The joint on the other side."""

HEAD_CENTRE, HEAD_RADII = np.array([0.0, 0.335, 0.01]), np.array([0.088, 0.118, 0.098])
"""Of the head at size 1, and its half width, height and depth."""

FINGERS = (25, 28, 31, 34, 37)
"""First of the three left joints of index, middle, pinky, ring, thumb."""


_TOUCHING, _TIES = 0.03, 24  # metres between tubes; pairs of vertices that tie two together


@dataclass(frozen=True)
class Build:
    """Proportions, 1 is the mean: sizes of head, hands, arms, shoulders; girth of trunk, limbs."""

    head: float = 1.2
    hand: float = 1.32
    arm: float = 1.0
    shoulders: float = 1.0
    trunk: float = 1.0
    limbs: float = 1.0


@dataclass(frozen=True, eq=False)
class Body:
    """Of one person, naked and at rest.

    left_hand, right_hand: vertices of the hands, in the same order. hand_faces: among them, those
    of a right hand.
    """

    build: Build
    joints: Float[np.ndarray, "55 3"]
    mesh: Mesh
    left_hand: Int[np.ndarray, " h"]
    right_hand: Int[np.ndarray, " h"]
    hand_faces: Int[np.ndarray, "m 3"]


def rest_joints(build: Build) -> Float[np.ndarray, "55 3"]:
    """Places of the joints: every bone as long as `build` says."""
    plain = shapes.smplx_joints()
    scale = np.ones((55, 3))
    scale[16:18, 0] = build.shoulders
    scale[18:22] = build.arm
    scale[22:25] = build.head
    scale[25:] = build.hand
    joints = plain.copy()
    for joint, parent in enumerate(shapes.SMPLX_PARENTS):
        if parent >= 0:
            joints[joint] = joints[parent] + scale[joint] * (plain[joint] - plain[parent])
    return joints


def finger_tips(build: Build) -> Float[np.ndarray, "5 3"]:
    """Tips of the left index, middle, pinky, ring and thumb."""
    plain, joints = shapes.smplx_joints(), rest_joints(build)
    tips = shapes.finger_tips()[[1, 2, 4, 3, 0]]
    return joints[20] + build.hand * (tips - plain[20])


def head_point(build: Build, share: np.ndarray) -> np.ndarray:
    """A place in the head, given in half widths, heights and depths from its centre."""
    neck = rest_joints(build)[15]
    return neck + build.head * (HEAD_CENTRE + HEAD_RADII * share - shapes.smplx_joints()[15])


def make_body(build: Build) -> Body:
    """The body of given proportions; the same topology whatever they are."""
    joints = rest_joints(build)
    left = [*_hand(build, joints), _arm(build, joints), _ear(build), *_leg(build, joints)]
    tubes = [(tube, False) for tube in left]
    tubes += [(mirrored(tube, TWINS), True) for tube in left]
    tubes += [(tube, False) for tube in (_torso(build), _neck(build), _head(build), _nose(build))]
    mesh = assembled(tubes)
    lefts = np.flatnonzero(mesh.tubes < 6)
    rights = np.flatnonzero((mesh.tubes >= len(left)) & (mesh.tubes < len(left) + 6))
    faces = mesh.faces[mesh.tubes[mesh.faces[:, 0]] < 6][:, ::-1]
    return Body(build, joints, mesh, lefts, rights, faces)


@cache
def plain_body() -> Body:
    """The body of mean proportions: places on it are the coordinates of patterns and colours."""
    return make_body(Build())


@cache
def body_colours() -> UInt8[np.ndarray, "v 3"]:
    """SMPL-CS colours of the body's vertices: harmonic between SMPL's landmarks.

    Tubes are tied to their nearest neighbours for this, as if the skin were one piece.
    """
    body = plain_body()
    vertices, tubes = body.mesh.vertices, body.mesh.tubes
    ties = []
    for one, two in itertools.combinations(range(int(tubes.max()) + 1), 2):
        own, other = np.flatnonzero(tubes == one), np.flatnonzero(tubes == two)
        square = ((vertices[own, None] - vertices[other]) ** 2).sum(axis=-1)
        if square.min() < _TOUCHING**2:
            for near in np.argsort(square.min(axis=1), kind="stable")[:_TIES]:
                ends = other[np.argsort(square[near], kind="stable")[:2]]
                ties.append((own[near], *ends))
    faces = np.concatenate([body.mesh.faces, np.array(ties)])
    places = _landmark_places(body)
    square = ((places[:, None] - vertices) ** 2).sum(axis=-1)
    return harmonic_colours(vertices, faces, square.argmin(axis=1))


def _landmark_places(body: Body) -> np.ndarray:
    names = ("index", "middle", "pinky", "ring", "thumb")
    tips = dict(zip(names, finger_tips(body.build), strict=True))
    foot = body.joints[7]
    left = tips | {"ear": head_point(body.build, np.array([1.1, -0.05, -0.1]))}
    left["big_toe"] = foot + np.array([0.0, -0.06, 0.19])
    left["small_toe"] = foot + np.array([0.04, -0.06, 0.19])
    left["heel"] = foot + np.array([0.0, -0.06, -0.06])
    places = {"nose": head_point(body.build, np.array([0.0, -0.2, 1.25]))}
    for name, place in left.items():
        places[f"left_{name}"], places[f"right_{name}"] = place, place * MIRROR
    return np.stack([places[name] for name in LANDMARKS])


def _line(stations: list[tuple], origin: np.ndarray, scale: float = 1.0) -> tuple:
    """Points, radii and joints out of rows (x, y, z, two radii, joints)."""
    table = np.array([row[:5] for row in stations])
    return origin + scale * table[:, :3], scale * table[:, 3:], tuple(row[5] for row in stations)


def _torso(build: Build) -> Tube:
    wide, deep = 0.5 + 0.5 * build.trunk, build.trunk
    rows = [  # height, half width, half depth, joints
        (-0.56, 0.06, 0.05, {0: 1}),
        (-0.52, 0.145, 0.1, {0: 1}),
        (-0.42, 0.165, 0.108, {0: 1}),
        (-0.33, 0.15, 0.1, {0: 3, 3: 1}),
        (-0.23, 0.132, 0.09, {0: 1, 3: 2, 6: 1}),
        (-0.13, 0.136, 0.092, {3: 1, 6: 2}),
        (-0.04, 0.155, 0.104, {6: 1, 9: 2}),
        (0.04, 0.17, 0.106, {9: 1}),
        (0.095, 0.165, 0.094, {9: 1}),
        (0.135, 0.125, 0.075, {9: 1}),
        (0.165, 0.075, 0.06, {9: 1, 12: 1}),
    ]
    points = np.array([(0.0, row[0], -0.005) for row in rows])
    radii = np.array([(row[1] * wide, row[2] * deep) for row in rows])
    radii[6:, 0] *= build.shoulders
    return Tube(TORSO, elliptic(points, (1, 0, 0), radii, 16), tuple(r[3] for r in rows))


def _neck(build: Build) -> Tube:
    size = 0.5 + 0.5 * build.head
    rows = [
        (0.0, 0.12, -0.015, 0.062, 0.058, {9: 1, 12: 1}),
        (0.0, 0.17, -0.015, 0.05, 0.05, {12: 1}),
        (0.0, 0.22, -0.01, 0.046, 0.05, {12: 1, 15: 1}),
        (0.0, 0.3, 0.0, 0.046, 0.05, {15: 1}),
    ]
    points, radii, joints = _line(rows, np.zeros(3))
    return Tube(NECK, elliptic(points, (1, 0, 0), radii * size, 10), joints)


def _head(build: Build) -> Tube:
    angle = np.linspace(-0.5, 0.5, 13)[:, None] * np.pi * 0.97
    height = np.sin(angle)
    width = np.abs(np.cos(angle)) ** 0.85 * (1 - 0.14 * np.maximum(-height, 0) ** 2)
    turn = 2 * np.pi * np.arange(18) / 18
    share = np.stack([width * np.cos(turn), height + 0 * turn, -width * np.sin(turn)], axis=-1)
    share[..., 2] += 0.08 * np.maximum(-height, 0) * width  # the chin
    return Tube(HEAD, head_point(build, share), ({15: 1},) * 13)


def _nose(build: Build) -> Tube:
    rows = [
        (0, 0.03, 0.93, 0.05),
        (0, -0.1, 1.03, 0.1),
        (0, -0.2, 1.09, 0.15),
        (0, -0.27, 0.97, 0.1),
    ]
    points = head_point(build, np.array([row[:3] for row in rows]))
    radii = np.array([(row[3], row[3]) for row in rows]) * HEAD_RADII[0] * build.head
    return Tube(NOSE, elliptic(points, (1, 0, 0), radii, 6), ({15: 1},) * 4)


def _ear(build: Build) -> Tube:
    rows = [(0.95, 0.16, 0.05), (1.06, 0.1, 0.17), (1.07, -0.1, 0.16), (0.95, -0.26, 0.06)]
    points = head_point(build, np.array([(x, y - 0.02, -0.08) for x, y, _ in rows]))
    radii = np.array([(r * 0.6, r) for *_, r in rows]) * HEAD_RADII[1] * build.head
    return Tube(EAR, elliptic(points, (1, 0, 0), radii, 8), ({15: 1},) * 4)


def _arm(build: Build, joints: np.ndarray) -> Tube:
    collar, shoulder, elbow, wrist = joints[[13, 16, 18, 20]]
    rows = [  # from, to, share of the way, radius, joints
        (collar, shoulder, 0.45, 0.06, {13: 1, 9: 1}),
        (collar, shoulder, 0.75, 0.072, {13: 2, 16: 1}),
        (shoulder, elbow, 0.0, 0.07, {13: 1, 16: 2}),
        (shoulder, elbow, 0.15, 0.062, {16: 1}),
        (shoulder, elbow, 0.45, 0.054, {16: 1}),
        (shoulder, elbow, 0.75, 0.048, {16: 1}),
        (shoulder, elbow, 0.9, 0.046, {16: 3, 18: 1}),
        (shoulder, elbow, 1.0, 0.045, {16: 1, 18: 1}),
        (elbow, wrist, 0.1, 0.045, {16: 1, 18: 3}),
        (elbow, wrist, 0.3, 0.045, {18: 1}),
        (elbow, wrist, 0.65, 0.038, {18: 1}),
        (elbow, wrist, 0.9, 0.031, {18: 2, 20: 1}),
        (elbow, wrist, 1.03, 0.029, {18: 1, 20: 3}),
    ]
    points = np.stack([start + share * (end - start) for start, end, share, *_ in rows])
    radii = np.array([(row[3], row[3]) for row in rows]) * build.limbs
    return Tube(ARM, elliptic(points, (0, 0, 1), radii, 10), tuple(row[4] for row in rows))


def _hand(build: Build, joints: np.ndarray) -> list[Tube]:
    """Palm, then fingers in the order of `FINGERS`."""
    rows = [
        (-0.012, 0, 0.0, 0.021, 0.018, {20: 1, 18: 1}),
        (0.012, 0, 0.0, 0.026, 0.019, {20: 1}),
        (0.04, 0, -0.002, 0.037, 0.02, {20: 1}),
        (0.07, 0, -0.006, 0.046, 0.019, {20: 1}),
        (0.092, 0, -0.01, 0.047, 0.015, {20: 1}),
        (0.104, 0, -0.008, 0.036, 0.01, {20: 1}),
    ]
    points, radii, shares = _line(rows, joints[20], build.hand)
    tubes = [Tube(HAND, elliptic(points, (0, 0, 1), radii, 12), shares)]
    for first, tip in zip(FINGERS, finger_tips(build), strict=True):
        tubes.append(_finger(build, joints, first, tip))
    return tubes


def _finger(build: Build, joints: np.ndarray, first: int, tip: np.ndarray) -> Tube:
    base, middle, last = joints[first : first + 3]
    thumb = first == FINGERS[4]
    root = joints[20] + build.hand * np.array([0.012, -0.004, 0.012]) if thumb else joints[20]
    start = root if thumb else base + 0.22 * (root - base)
    a, b, c = first, first + 1, first + 2
    shape = 1.1 if thumb else 0.88 if first == FINGERS[2] else 1.0
    rows = [
        (start, 1.5 if thumb else 1.0, {20: 1}),
        (base, 1.4 if thumb else 1.05, {20: 1, a: 1}),
        (base + 0.3 * (middle - base), 1.08, {a: 1}),
        (base + 0.75 * (middle - base), 1.0, {a: 4, b: 1}),
        (middle, 1.0, {a: 1, b: 1}),
        (middle + 0.3 * (last - middle), 0.98, {a: 1, b: 4}),
        (last, 0.94, {b: 1, c: 1}),
        (last + 0.35 * (tip - last), 0.92, {c: 1}),
        (last + 0.8 * (tip - last), 0.82, {c: 1}),
        (tip, 0.42, {c: 1}),
    ]
    radii = np.array([(row[1], row[1]) for row in rows]) * (0.0118 * shape * build.hand)
    points = np.stack([row[0] for row in rows])
    return Tube(HAND, elliptic(points, (0, 1, 0), radii, 7), tuple(row[2] for row in rows))


def _leg(build: Build, joints: np.ndarray) -> list[Tube]:
    hip, knee, ankle = joints[[1, 4, 7]]
    hip = hip + np.array([0.018, 0.0, 0.0])
    rows = [
        (hip, 0.09, {0: 1, 1: 1}),
        (hip + 0.2 * (knee - hip), 0.092, {1: 1}),
        (hip + 0.8 * (knee - hip), 0.066, {1: 1}),
        (knee, 0.06, {1: 1, 4: 1}),
        (knee + 0.3 * (ankle - knee), 0.056, {4: 1}),
        (ankle, 0.036, {4: 1, 7: 1}),
    ]
    points = np.stack([row[0] for row in rows])
    radii = np.array([(row[1], row[1]) for row in rows]) * build.limbs
    leg = Tube(LEG, elliptic(points, (0, 0, 1), radii, 10), tuple(row[2] for row in rows))
    feet = [
        (0, -0.03, -0.05, 0.03, 0.03),
        (0, -0.04, 0.03, 0.04, 0.035),
        (0, -0.055, 0.18, 0.04, 0.02),
    ]
    points, radii, shares = _line([(*row, {7: 1}) for row in feet], ankle)
    return [leg, Tube(LEG, elliptic(points, (1, 0, 0), radii, 8), shares)]
