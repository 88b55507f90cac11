"""Typed clips of pose data: what every reader returns and every painter takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from realisdance_jax.shapes import Bool, Float

_KEYPOINTS = {
    "body": (18, 2),
    "body_ok": (18,),
    "hands": (2, 21, 2),
    "hands_ok": (2, 21),
    "faces": (68, 2),
    "faces_ok": (68,),
}
_SCORES = {"body_score": (18,), "hands_score": (2, 21), "faces_score": (68,)}
BODY_PARAMETERS = {
    "global_orient": (3,),
    "body_pose": (21, 3),
    "left_hand_pose": (15, 3),
    "right_hand_pose": (15, 3),
    "jaw_pose": (3,),
    "leye_pose": (3,),
    "reye_pose": (3,),
    "betas": (10,),
    "expression": (10,),
    "transl": (3,),
}
"""Of SMPL-X, as `BodyClip` has them: the shape of one frame's."""


@dataclass(frozen=True, eq=False)
class KeypointClip:
    """DWPose keypoints of f frames, padded to p persons; absent points are zero and not ok.

    Coordinates are x, y as fractions of the frame's width and height; values outside [0, 1] are
    points outside the frame. Body joints are in OpenPose-18 order, hands have 21 points from the
    wrist (index 0 = left hand, 1 = right), faces 68.

    size: height and width in pixels of the frames they were found in, None if unknown.
    fps: frames per second, None if unknown.
    body_score, hands_score, faces_score: confidence of each point, hidden ones included, about 0
        to 1; zero for persons that are not there; None when the estimator's file has none.
    """

    body: Float[np.ndarray, "f p 18 2"]
    body_ok: Bool[np.ndarray, "f p 18"]
    hands: Float[np.ndarray, "f p 2 21 2"]
    hands_ok: Bool[np.ndarray, "f p 2 21"]
    faces: Float[np.ndarray, "f p 68 2"]
    faces_ok: Bool[np.ndarray, "f p 68"]
    size: tuple[int, int] | None = None
    fps: float | None = None
    body_score: Float[np.ndarray, "f p 18"] | None = None
    hands_score: Float[np.ndarray, "f p 2 21"] | None = None
    faces_score: Float[np.ndarray, "f p 68"] | None = None

    def __post_init__(self) -> None:
        given = {name: at for name, at in _SCORES.items() if getattr(self, name) is not None}
        _check(self, self.body, 2, _KEYPOINTS | given)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.body.shape[0]

    @property
    def persons(self) -> int:
        """Number of person slots; a frame may use fewer."""
        return self.body.shape[1]


@dataclass(frozen=True, eq=False)
class BodyClip:
    """SMPL-X parameters and camera of one person over f frames; absent frames are all zero.

    Poses are axis-angle; `SMPLX_PARTS` of body_models.py gives their order in the whole pose.
    Vertices of the posed model plus `transl` are in camera axes (x right, y down, z forward,
    metres); `focal` and `princpt` are x, y in pixels of the full frame and change with the frame.

    present: frames in which the person was found.
    add_hands_mean: the hand poses are offsets from the model's mean hands, which are to be added.
    size: height and width in pixels of the frames, None if unknown.
    fps: frames per second, None if unknown.
    """

    present: Bool[np.ndarray, " f"]
    global_orient: Float[np.ndarray, "f 3"]
    body_pose: Float[np.ndarray, "f 21 3"]
    left_hand_pose: Float[np.ndarray, "f 15 3"]
    right_hand_pose: Float[np.ndarray, "f 15 3"]
    jaw_pose: Float[np.ndarray, "f 3"]
    leye_pose: Float[np.ndarray, "f 3"]
    reye_pose: Float[np.ndarray, "f 3"]
    betas: Float[np.ndarray, "f 10"]
    expression: Float[np.ndarray, "f 10"]
    transl: Float[np.ndarray, "f 3"]
    focal: Float[np.ndarray, "f 2"]
    princpt: Float[np.ndarray, "f 2"]
    add_hands_mean: bool
    size: tuple[int, int] | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        camera = {"present": (), "focal": (2,), "princpt": (2,)}
        _check(self, self.present, 1, BODY_PARAMETERS | camera)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.present.shape[0]


@dataclass(frozen=True, eq=False)
class HandClip:
    """Hand meshes of f frames, up to n hands each; slots without a hand are all zero.

    vertices: around the hand itself, metres, in camera axes; those of left hands already mirrored.
        Added to `translation` they stand before the full-frame camera of hamer_look.py, whose
        principal point is the centre of the frame.
    present, right: which slots hold a hand, and which of them a right one.
    focal: of that camera in pixels; None stands for HaMeR's own, 5000 / 256 of the longer side.
    size: height and width in pixels of the frames, None if unknown.
    fps: frames per second, None if unknown.
    """

    present: Bool[np.ndarray, "f n"]
    right: Bool[np.ndarray, "f n"]
    vertices: Float[np.ndarray, "f n v 3"]
    translation: Float[np.ndarray, "f n 3"]
    focal: float | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        mesh = (*self.vertices.shape[2:3], 3)
        shapes = {"present": (), "right": (), "vertices": mesh, "translation": (3,)}
        _check(self, self.present, 2, shapes)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.present.shape[0]

    @property
    def hands(self) -> int:
        """Number of hand slots; a frame may use fewer."""
        return self.present.shape[1]


Clip = KeypointClip | BodyClip | HandClip


def _check(
    clip: Any, first: np.ndarray, axes: int, trailing: Mapping[str, tuple[int, ...]]
) -> None:
    """All arrays start with the `axes` leading sizes of `first`."""
    lead = first.shape[:axes]
    for name, rest in trailing.items():
        shape = getattr(clip, name).shape
        if len(lead) != axes or shape != (*lead, *rest):
            raise ValueError(f"{name}: expected shape {(*lead, *rest)}, got {shape}")
