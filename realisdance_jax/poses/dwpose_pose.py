"""133 points of one person: the RTMPose network of DWPose, from a box to points in the frame.

The box, enlarged and given the input's shape, is cut out by an affine map; the network answers with
one distribution over columns and one over rows per point, at half-pixel steps (SimCC).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realisdance_jax.poses.onnx_models import OnnxModel, open_model
from realisdance_jax.shapes import Float, UInt8, typechecked
from realisdance_jax.utils.errors import UserError

POINTS = 133
ENLARGED = 1.25
SPLIT = 2
"""Steps of the distributions per pixel of the input."""

# Of RGB, but applied to BGR, as the network was released with.
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_WHAT = "a DWPose network (.onnx)"


@dataclass(frozen=True)
class Crop:
    """A rectangle of the frame with the input's shape: centre (x, y) and width in frame pixels."""

    centre: tuple[float, float]
    width: float

    def matrix(self, size: tuple[int, int]) -> Float[np.ndarray, "2 3"]:
        """Affine map from frame pixels to those of an input of height and width `size`."""
        scale = size[1] / self.width
        x, y = (side / 2 - scale * c for side, c in zip(size[::-1], self.centre, strict=True))
        return np.array([[scale, 0, x], [0, scale, y]])


@typechecked
def crop_of(box: Float[np.ndarray, "4"], size: tuple[int, int]) -> Crop:
    """The crop for a box (left, top, right, bottom) and an input of height and width `size`."""
    x, y = ((box[:2] + box[2:]) / 2).tolist()
    width, height = (np.maximum(box[2:] - box[:2], 1) * ENLARGED).tolist()
    return Crop((x, y), max(width, height * size[1] / size[0]))


@typechecked
def cut_out(
    picture: UInt8[np.ndarray, "H W 3"], crop: Crop, size: tuple[int, int]
) -> Float[np.ndarray, "3 h w"]:
    """The crop of an RGB picture as the network wants it; black beyond the frame."""
    flags = cv2.INTER_LINEAR
    cut = cv2.warpAffine(picture, crop.matrix(size), size[::-1], flags=flags)[..., ::-1]
    return ((cut - _MEAN) / _DEVIATION).transpose(2, 0, 1)


@typechecked
def decode_points(
    columns: Float[np.ndarray, "k x"], rows: Float[np.ndarray, "k y"]
) -> tuple[Float[np.ndarray, "k 2"], Float[np.ndarray, " k"]]:
    """(x, y) in input pixels and scores, the smaller of the two peaks."""
    points = np.stack([columns.argmax(axis=1), rows.argmax(axis=1)], axis=1) / SPLIT
    return points, np.minimum(columns.max(axis=1), rows.max(axis=1)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class PoseNetwork:
    """A DWPose network."""

    model: OnnxModel

    def points(
        self, picture: UInt8[np.ndarray, "H W 3"], box: Float[np.ndarray, "4"]
    ) -> tuple[Float[np.ndarray, "133 2"], Float[np.ndarray, "133"]]:
        """COCO-WholeBody points (x, y in pixels of the RGB picture) and scores of one person.

        box: left, top, right, bottom in pixels.
        Raises `UserError` when the file is another network.
        """
        size = self.model.size
        crop = crop_of(box, size)
        outputs = self.model.run(cut_out(picture, crop, size))
        wanted = [(1, POINTS, SPLIT * size[1]), (1, POINTS, SPLIT * size[0])]
        if [output.shape for output in outputs] != wanted:
            found = ", ".join(str(output.shape) for output in outputs)
            raise UserError(
                f"{self.model.path}: expected {_WHAT} with outputs of shapes {wanted[0]} and "
                f"{wanted[1]}, found {found}"
            )
        inside, scores = decode_points(outputs[0][0], outputs[1][0])
        matrix = crop.matrix(size)
        return (inside - matrix[:, 2]) / matrix[0, 0], scores


def open_pose_network(path: str | Path) -> PoseNetwork:
    """The user's `dw-ll_ucoco_384.onnx`; `UserError` as `open_model`."""
    return PoseNetwork(open_model(path, _WHAT, (384, 288)))
