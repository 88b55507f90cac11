"""Typed clips of pose data: what every reader returns and every painter takes."""

from dataclasses import dataclass

import numpy as np

from realisdance_jax.shapes import Bool, Float

_TRAILING = {
    "body": (18, 2),
    "body_ok": (18,),
    "hands": (2, 21, 2),
    "hands_ok": (2, 21),
    "faces": (68, 2),
    "faces_ok": (68,),
}


@dataclass(frozen=True, eq=False)
class KeypointClip:
    """DWPose keypoints of f frames, padded to p persons; absent points are zero and not ok.

    Coordinates are x, y as fractions of the frame's width and height; values outside [0, 1] are
    points outside the frame. Body joints are in OpenPose-18 order, hands have 21 points from the
    wrist (index 0 = left hand, 1 = right), faces 68.

    size: height and width in pixels of the frames they were found in, None if unknown.
    fps: frames per second, None if unknown.
    """

    body: Float[np.ndarray, "f p 18 2"]
    body_ok: Bool[np.ndarray, "f p 18"]
    hands: Float[np.ndarray, "f p 2 21 2"]
    hands_ok: Bool[np.ndarray, "f p 2 21"]
    faces: Float[np.ndarray, "f p 68 2"]
    faces_ok: Bool[np.ndarray, "f p 68"]
    size: tuple[int, int] | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        lead = self.body.shape[:2]
        for name, trailing in _TRAILING.items():
            shape = getattr(self, name).shape
            if shape != (*lead, *trailing):
                raise ValueError(f"{name}: expected shape {(*lead, *trailing)}, got {shape}")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.body.shape[0]

    @property
    def persons(self) -> int:
        """Number of person slots; a frame may use fewer."""
        return self.body.shape[1]
