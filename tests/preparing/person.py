"""One made-up person as every estimator would describe him: keypoints, SMPL-X body, MANO hands.

All come from the same skeleton before one camera. The person stands in a T-pose, tilted so that the
hands are seen from above, sways and walks sideways. Hand and head keypoints are rings around what
the meshes show there, so that the centres agree whatever draws them.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from realisdance_jax.poses.body_models import BodyModel, mano_model, smplx_model
from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.dwpose_json import write_dwpose
from realisdance_jax.poses.rotations import axis_angles, quaternions
from realisdance_jax.poses.synthetic_models import (
    synthetic_mano,
    synthetic_smplx,
    write_synthetic_mano,
    write_synthetic_smplx,
)

COUNT = 10475
"""Vertices of the body, as many as of SMPL-X: fewer make clumsy fingers."""

HAND_CUT = 0.63  # the hand model has as much of a forearm, metres from the body's middle
_OPENPOSE = (None, 12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7)
_DISTANCE = 30.0
HEAD = (14, 15, 16, 17, 0)


@dataclass(frozen=True)
class Framed:
    """How the person is filmed: frame (height, width), pixels per metre, where the neck is."""

    size: tuple[int, int]
    scale: float
    neck: tuple[float, float]


@lru_cache
def models() -> tuple[BodyModel, BodyModel]:
    """Body and hand."""
    return smplx_model(synthetic_smplx(COUNT)), mano_model(synthetic_mano())


def turns(frames: int) -> np.ndarray:
    """(f 3 3) from the models' axes to the camera's: upright, tilted 50 degrees, swaying."""
    angle = np.radians(180 - 50 + 8 * np.sin(np.arange(frames)))
    zero, one = np.zeros(frames), np.ones(frames)
    rows = [one, zero, zero, zero, np.cos(angle), -np.sin(angle)]
    return np.stack([*rows, zero, np.sin(angle), np.cos(angle)], axis=-1).reshape(frames, 3, 3)


def _axis_angles(matrices: np.ndarray) -> np.ndarray:
    """Of turns about x."""
    angle = np.arctan2(matrices[:, 2, 1], matrices[:, 1, 1])
    return axis_angles(quaternions(np.stack([angle, 0 * angle, 0 * angle], axis=-1)))


class Person:
    """`frames` of the person, filmed as `framed` says, `step` metres to the side per frame."""

    def __init__(self, framed: Framed, frames: int = 3, step: float = 0.02):
        self.framed, self.frames = framed, frames
        self.body, self.hand = models()
        self.turns = turns(frames)
        rest = self.body.joint_regressor.astype(np.float64) @ self.body.template
        self.root = rest[0]
        neck = self.placed(rest[12][None], np.zeros((frames, 3)))[:, 0]
        self.walk = np.stack([step * np.arange(frames), *np.zeros((2, frames))], axis=-1)
        self.walk += [0, 0, _DISTANCE] - neck
        self.joints = self.placed(rest, self.walk)
        self.focal = framed.scale * _DISTANCE

    def placed(self, points: np.ndarray, walk: np.ndarray) -> np.ndarray:
        """(f n 3) points of the rest pose in camera axes: turned about the root, moved."""
        turned = np.einsum("fij,nj->fni", self.turns, points - self.root) + self.root
        return turned + walk[:, None]

    def seen(self, points: np.ndarray) -> np.ndarray:
        """Pixels of points in camera axes."""
        return self.focal * points[..., :2] / points[..., 2:] + np.array(self.framed.neck)

    def part(self, name: str) -> np.ndarray:
        """Which vertices of the body are the left hand, the right hand, the head."""
        x, y, _ = self.body.template.T
        return {"left": x > HAND_CUT, "right": x < -HAND_CUT, "head": y > 0.2}[name]

    def centre(self, name: str) -> np.ndarray:
        """(f 2) middle of a part as the camera sees it, weighing every visible face alike."""
        whole = self.part(name)[self.body.faces].all(axis=1)
        corners = self.seen(self.placed(self.body.template, self.walk))[:, self.body.faces[whole]]
        first, second = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
        area = first[..., 1] * second[..., 0] - first[..., 0] * second[..., 1]
        area = np.maximum(area, 0)  # those that face the camera
        middles = corners.mean(axis=2)
        return np.einsum("fn,fni->fi", area, middles) / area.sum(axis=1)[:, None]

    def body_clip(self) -> BodyClip:
        """As SMPLer-X gives it."""
        f = self.frames
        zero = {k: np.zeros((f, 3)) for k in ("jaw_pose", "leye_pose", "reye_pose")}
        hands = {k: np.zeros((f, 15, 3)) for k in ("left_hand_pose", "right_hand_pose")}
        return BodyClip(
            present=np.ones(f, bool),
            global_orient=_axis_angles(self.turns),
            body_pose=np.zeros((f, 21, 3)),
            betas=np.zeros((f, 10)),
            expression=np.zeros((f, 10)),
            transl=self.walk,
            focal=np.full((f, 2), self.focal),
            princpt=np.tile(np.array(self.framed.neck), (f, 1)),
            add_hands_mean=False,
            size=self.framed.size,
            fps=10.0,
            **zero,
            **hands,
        )

    def hand_clip(self) -> HandClip:
        """As HaMeR gives it: before a camera of its own, hundreds of metres away."""
        height, width = self.framed.size
        focal = 5000 / 256 * max(height, width)
        turned = np.einsum("fij,nj->fni", self.turns, self.hand.template.astype(np.float64))
        mirror = np.einsum(
            "fij,nj->fni", self.turns, self.hand.template.astype(np.float64) * [-1, 1, 1]
        )
        wrists = self.joints[:, [20, 21]]
        depth = focal * wrists[..., 2:] / self.focal
        across = (self.seen(wrists) - np.array([width, height]) / 2) * depth / focal
        sides = np.tile(np.array([False, True]), (self.frames, 1))
        return HandClip(
            present=np.ones((self.frames, 2), bool),
            right=sides,
            vertices=np.stack([mirror, turned], axis=1).astype(np.float32),
            translation=np.concatenate([across, depth], axis=-1),
            size=self.framed.size,
            fps=10.0,
        )

    def keypoint_clip(self, frames: slice = slice(None)) -> KeypointClip:
        """As DWPose gives it, without a face."""
        f = self.frames
        body = np.zeros((f, 1, 18, 2))
        for point, joint in enumerate(_OPENPOSE):
            if joint is not None:
                body[:, 0, point] = self.seen(self.joints[:, joint])
        angles = 2 * np.pi * np.arange(4) / 4
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        head = self.centre("head")[:, None]
        body[:, 0, HEAD[:4]] = head + 0.08 * self.framed.scale * ring
        body[:, 0, 0] = head[:, 0]
        angles = 2 * np.pi * np.arange(21) / 21
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        hands = np.stack([self.centre("left"), self.centre("right")], axis=1)[:, None, :, None]
        hands = hands + 0.05 * self.framed.scale * ring
        unit = np.array(self.framed.size[::-1])
        faces = np.zeros((f, 1, 68, 2))
        arrays = {"body": body / unit, "hands": hands / unit, "faces": faces}
        oks = {
            "body_ok": np.ones((f, 1, 18), bool),
            "hands_ok": np.ones((f, 1, 2, 21), bool),
            "faces_ok": np.zeros((f, 1, 68), bool),
        }
        cut = {name: array[frames] for name, array in (arrays | oks).items()}
        return KeypointClip(**cut, size=self.framed.size, fps=10.0)


def part_colours() -> np.ndarray:
    """(v 3) left hand green, right hand red, head blue, the rest nearly black."""
    person = Person(Framed((64, 64), 20.0, (32.0, 32.0)), 1)
    colours = np.full((COUNT, 3), 2, np.uint8)
    for name, colour in (("left", (0, 255, 0)), ("right", (255, 0, 0)), ("head", (0, 0, 255))):
        colours[person.part(name)] = colour
    return colours


def write_case(folder: Path, driver: Framed, reference: Framed, frames: int = 3) -> dict[str, Path]:
    """Files of the options of `prepare poses`, by option."""
    folder.mkdir(parents=True, exist_ok=True)
    person, other = Person(driver, frames), Person(reference, 1)
    files = {
        "dwpose": folder / "keypoints.json",
        "body": folder / "body.npz",
        "body-model": folder / "SMPLX_NEUTRAL.npz",
        "hands": folder / "hands.npz",
        "mano": folder / "MANO_RIGHT.npz",
        "colours": folder / "colours.npy",
        "ref-dwpose": folder / "ref.json",
    }
    write_dwpose(files["dwpose"], replace(person.keypoint_clip(), fps=None))  # as released
    save_clip(files["body"], person.body_clip())
    save_clip(files["hands"], person.hand_clip())
    write_synthetic_smplx(files["body-model"], COUNT)
    write_synthetic_mano(files["mano"])
    np.save(files["colours"], part_colours())
    write_dwpose(files["ref-dwpose"], other.keypoint_clip())
    return files
