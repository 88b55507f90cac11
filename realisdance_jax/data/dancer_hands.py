"""The hands of a dancer's film, and how they would look in the same frames with other gestures."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from realisdance_jax.data.dancer_body import HAND
from realisdance_jax.data.dancer_clips import OVERSAMPLED, DancerClip
from realisdance_jax.data.dancer_gestures import other_gestures
from realisdance_jax.data.dancer_identity import dressed
from realisdance_jax.data.dancer_mesh import MIRROR, Mesh
from realisdance_jax.poses.clips import BodyClip
from realisdance_jax.poses.raster import Camera, rasterise
from realisdance_jax.shapes import Bool, UInt8

OTHERS = 4
"""Gestures that a hand is compared with beside its own."""

LEAST_SEEN = 1e-3
"""Share of the picture that a hand must fill: 12 pixels of 128 x 96."""

_POSES = ("left_hand_pose", "right_hand_pose")


class HandChoice(NamedTuple):
    """One hand in one frame.

    frame: its place among the frames asked for. box: top, bottom, left and right of the crops, in
    pixels. crops: of the film, the true one first, then with other gestures.
    """

    frame: int
    box: tuple[int, int, int, int]
    crops: UInt8[np.ndarray, "k H W 3"]

    def crop(self, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The same place in another picture of the film's size."""
        top, bottom, left, right = self.box
        return picture[top:bottom, left:right]


def hand_choices(clip: DancerClip, indices: Sequence[int]) -> list[HandChoice]:
    """Every hand that is at least partly seen in these frames, see `OTHERS` and `LEAST_SEEN`.

    Person, body, arms, room and light stay; only the fingers of that hand differ. The crop holds
    the hand in all its gestures.
    """
    mesh, _ = dressed(clip.body, clip.who)
    hands = [_vertices_of(mesh, side) for side in range(2)]
    seen = _seen(clip, mesh, hands, indices)
    truth = list(clip.film(indices))
    choices = []
    for side, numbers in enumerate(hands):
        frames = np.flatnonzero(seen[:, side]).tolist()
        at = [indices[frame] for frame in frames]
        others = _with_others(clip, side)
        films = [[truth[frame] for frame in frames], *(list(clip.film_of(b, at)) for b in others)]
        corners = np.stack([_corners(clip, mesh, numbers, b, at) for b in (clip.bodies, *others)])
        for i, frame in enumerate(frames):
            choice = HandChoice(frame, _box(corners[:, i], clip.size), np.empty(0, np.uint8))
            crops = np.stack([choice.crop(film[i]) for film in films])
            choices.append(choice._replace(crops=crops))
    return choices


def _vertices_of(mesh: Mesh, side: int) -> np.ndarray:
    """Vertices of the left (0) or right hand: at rest x goes to the dancer's left."""
    return np.flatnonzero((mesh.parts == HAND) & ((mesh.vertices[:, 0] < 0) == bool(side)))


def _seen(
    clip: DancerClip, mesh: Mesh, hands: Sequence[np.ndarray], indices: Sequence[int]
) -> Bool[np.ndarray, "f 2"]:
    pixels = clip.drawn[0] * clip.drawn[1]
    seen = []
    for vertices, camera in clip.posed(mesh, clip.bodies, indices):
        fragments = rasterise(vertices, mesh.faces, camera, clip.drawn)
        front = mesh.faces[fragments.faces, 0]
        seen.append([np.isin(front, hand).sum() >= LEAST_SEEN * pixels for hand in hands])
    return np.array(seen, bool).reshape(-1, 2)


def _with_others(clip: DancerClip, side: int) -> list[BodyClip]:
    """The dance with other gestures of one hand, a function of the dance's seed."""
    mirror = -MIRROR if side else np.ones(3)
    true = getattr(clip.bodies, _POSES[side]) * mirror
    rng = np.random.default_rng([6, clip.motion, side])
    poses = other_gestures(true, OTHERS, rng) * mirror
    return [dataclasses.replace(clip.bodies, **{_POSES[side]: poses[:, k]}) for k in range(OTHERS)]


def _corners(
    clip: DancerClip, mesh: Mesh, numbers: np.ndarray, bodies: BodyClip, indices: Sequence[int]
) -> np.ndarray:
    """(f 2 2) least and greatest x and y of the hand in pixels of the film."""

    def corners(vertices: np.ndarray, camera: Camera) -> np.ndarray:
        points = vertices[numbers, :2] / vertices[numbers, 2:] * camera.focal + camera.centre
        return np.stack([points.min(axis=0), points.max(axis=0)]) / OVERSAMPLED

    found = [corners(*posed) for posed in clip.posed(mesh, bodies, indices)]
    return np.array(found).reshape(-1, 2, 2)


def _box(corners: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Whole pixels round all of `corners` (k 2 2), inside the picture."""
    left, top = np.floor(corners[:, 0].min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(corners[:, 1].max(axis=0)).astype(int).tolist()
    return max(top, 0), min(bottom, size[0]), max(left, 0), min(right, size[1])
