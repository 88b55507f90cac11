"""The dancer world as clips: film and three conditions of one dance, drawn when asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from realisdance_jax.data.clips import Sizes
from realisdance_jax.data.corruptions import (
    Corruption,
    corrupt_bodies,
    corrupt_hands,
    corrupt_keypoints,
)
from realisdance_jax.data.dancer_body import Body, body_colours, make_body
from realisdance_jax.data.dancer_identity import Identity, dressed, make_identity
from realisdance_jax.data.dancer_look import film_frame, make_background, part_masks
from realisdance_jax.data.dancer_mesh import Mesh
from realisdance_jax.data.dancer_motion import dance
from realisdance_jax.data.dancer_poses import dancer_hands, dancer_keypoints
from realisdance_jax.data.dancer_skin import body_motions, skinned
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.hamer_look import full_frame_camera, paint_hands
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import paint_smpl_cs
from realisdance_jax.shapes import UInt8
from realisdance_jax.utils.errors import UserError

OVERSAMPLED = 2
"""Everything is drawn so much larger and shrunk, as real film and conditions are."""

KEYPOINT_ROWS = 768
"""Least height at which DWPose is drawn: the painter's discs and sticks have fixed sizes."""

HELD_OUT = 1_000_000
"""Seeds from here on are for tests: of people, and of dances."""

LONGEST = 100_000
"""Frames of a dance, more than an hour; it is made as a whole."""

SPLITS = {"train": (0, 0), "test": (1, 1), "test_identity": (1, 0), "test_motion": (0, 1)}
"""Whether people and dances are held out."""


@dataclass(frozen=True, eq=False)
class DancerClip:
    """A `Clip`; all is a function of the fields.

    identity, motion: seeds of the person (and the room) and of the dance.
    frames: length at 24 per second. size: height and width of every picture, in pixels.
    corruption: what is wrong with the conditions; the film stays true.
    Raises `UserError` for a length beyond 1 to `LONGEST`.
    """

    identity: int
    motion: int
    frames: int
    size: tuple[int, int]
    corruption: Corruption = field(default_factory=Corruption)

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= LONGEST:
            raise UserError(f"dancer: expected 1 to {LONGEST} frames, found {self.frames}")

    @property
    def name(self) -> str:
        """`dancer/IDENTITY-MOTION`."""
        return f"dancer/{self.identity}-{self.motion}"

    def length(self) -> int:
        return self.frames

    @cached_property
    def who(self) -> Identity:
        """The person."""
        return make_identity(self.identity)

    @cached_property
    def body(self) -> Body:
        """The person's body at rest."""
        return make_body(self.who.build)

    @cached_property
    def bodies(self) -> BodyClip:
        """The true dance, before the camera of the enlarged pictures."""
        return dance(self.motion, self.who.build, self.frames, self.drawn)

    @cached_property
    def keypoints(self) -> KeypointClip:
        """What DWPose finds, with what it gets wrong."""
        true = dancer_keypoints(self.body, self.bodies)
        wrong = self.corruption
        return corrupt_keypoints(true, wrong.dwpose, self.corruption_seed(0), wrong.kinds)

    @cached_property
    def hands(self) -> HandClip:
        """What HaMeR finds, with what it gets wrong."""
        true = dancer_hands(self.body, self.bodies)
        wrong = self.corruption
        return corrupt_hands(true, wrong.hamer, self.corruption_seed(1), wrong.kinds)

    @cached_property
    def bodies_found(self) -> BodyClip:
        """What the body estimator finds, with what it gets wrong."""
        wrong = self.corruption
        return corrupt_bodies(self.bodies, wrong.smpl, self.corruption_seed(2), wrong.kinds)

    def corruption_seed(self, condition: int) -> int:
        """Of the failures of one condition, by its place in the order of channels."""
        numbers = [self.corruption.seed, self.identity, self.motion, condition]
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])

    @property
    def drawn(self) -> tuple[int, int]:
        """Height and width that pictures are drawn at before they are shrunk."""
        return OVERSAMPLED * self.size[0], OVERSAMPLED * self.size[1]

    def film(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return self.film_of(self.bodies, indices)

    def film_of(self, bodies: BodyClip, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """The film of this person in this room in another dance, of the same length."""
        background = make_background(self.identity, self.drawn)
        mesh, places = dressed(self.body, self.who)
        for vertices, camera in self.posed(mesh, bodies, indices):
            look = (mesh.faces, mesh.parts, places, self.who, camera, background)
            yield shrunk(film_frame(vertices, *look), self.size)

    def masks(self, indices: Sequence[int]) -> Iterator[dict[str, np.ndarray]]:
        """Where `person`, `hands` and `face` fill most of a pixel of the film: H W, bool."""
        mesh, _ = dressed(self.body, self.who)
        for vertices, camera in self.posed(mesh, self.bodies, indices):
            seen = part_masks(vertices, mesh.faces, mesh.parts, camera, self.drawn)
            large = shrunk(seen, self.size) > 128
            yield dict(zip(("person", "hands", "face"), np.moveaxis(large, -1, 0), strict=True))

    def condition(self, name: str, indices: Sequence[int], sizes: Sizes) -> Iterator[np.ndarray]:
        paint = {"dwpose": self._dwpose, "hamer": self._hamer, "smpl": self._smpl}[name]
        for picture in paint(indices):
            yield shrunk(picture, self.size)

    def _dwpose(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        rows = max(KEYPOINT_ROWS, self.drawn[0])
        for index in indices:
            yield draw_dwpose(self.keypoints, index, (rows, rows * self.size[1] // self.size[0]))

    def _hamer(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        hands = self.hands
        camera = full_frame_camera(self.drawn, hands.focal)
        for index in indices:
            there = hands.present[index]
            vertices = hands.vertices[index] + hands.translation[index][:, None]
            found = (vertices[there], hands.right[index][there])
            yield paint_hands(*found, self.body.hand_faces, camera, self.drawn)

    def _smpl(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        mesh, colours = self.body.mesh, body_colours()
        posed = self.posed(mesh, self.bodies_found, indices)
        for index, (vertices, camera) in zip(indices, posed, strict=True):
            if self.bodies_found.present[index]:
                yield paint_smpl_cs(vertices, mesh.faces, colours, camera, self.drawn, "sd")
            else:
                yield np.zeros((*self.drawn, 3), np.uint8)

    def posed(
        self, mesh: Mesh, bodies: BodyClip, indices: Sequence[int]
    ) -> Iterator[tuple[np.ndarray, Camera]]:
        """Vertices `v 3` of this person's mesh in camera axes, and the camera, frame by frame."""
        whole, places = body_motions(self.body.joints, bodies)
        focal, centre = bodies.focal.tolist(), bodies.princpt.tolist()
        for index in indices:
            vertices = skinned(mesh, self.body.joints, whole[index], places[index])
            yield vertices, Camera(tuple(focal[index]), tuple(centre[index]))


def shrunk(
    picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture at a smaller size, every pixel the mean of those it covers."""
    return cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def split_seeds(split: str, number: int) -> tuple[int, int]:
    """Seeds of the person and of the dance of clip `number`; no two splits share a held-out one.

    split: `train`; `test` (new people and new dances), `test_identity`, `test_motion` (one new).
    Raises `UserError` for any other, and for a number beyond the range of a split.
    """
    if split not in SPLITS:
        raise UserError(f"split: expected one of {', '.join(SPLITS)} for dancers, found {split!r}")
    if not 0 <= number < HELD_OUT:
        raise UserError(f"dancer: expected a number from 0 to {HELD_OUT - 1}, found {number}")
    person, dance_ = SPLITS[split]
    return HELD_OUT * person + number, HELD_OUT * dance_ + number
