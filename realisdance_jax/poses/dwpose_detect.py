"""People in a picture: the YOLOX detector that DWPose starts from.

The picture goes in as BGR 0..255, shrunk into the upper left corner of a grey square; what comes
out is one row per anchor (centre, size, objectness, 80 classes) in units of the anchor's cell.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realisdance_jax.poses.onnx_models import OnnxModel, open_model
from realisdance_jax.shapes import Float, Int, UInt8, typechecked
from realisdance_jax.utils.errors import UserError

STRIDES = (8, 16, 32)
LEAST_SCORE = 0.3
"""Released threshold. The release drops boxes below 0.1 before suppression too, without effect."""

MOST_OVERLAP = 0.45
_PAD, _PERSON, _COLUMNS = 114, 0, 5
_WHAT = "a YOLOX person detector (.onnx)"


@typechecked
def letterbox(
    picture: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """`picture` at the upper left of a grey one of `size`, as large as fits; and its scale."""
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = (max(1, int(side * scale)) for side in picture.shape[:2])
    canvas = np.full((*size, 3), _PAD, np.uint8)
    canvas[:height, :width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas, scale


@typechecked
def decode_boxes(
    rows: Float[np.ndarray, "n c"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
    """Boxes (left, top, right, bottom in input pixels) and person scores of all anchors.

    size: height and width of the input. Raises `ValueError` when n is not its number of anchors.
    """
    cells, strides = [], []
    for stride in STRIDES:
        height, width = size[0] // stride, size[1] // stride
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
        cells.append(grid.reshape(-1, 2))
        strides.append(np.full((height * width, 1), stride))
    corner, stride = np.concatenate(cells), np.concatenate(strides)
    if len(corner) != len(rows):
        raise ValueError(f"expected {len(corner)} anchors, got {len(rows)}")
    rows = rows.astype(np.float64)
    centre = (rows[:, :2] + corner) * stride
    with np.errstate(over="ignore"):
        half = np.exp(rows[:, 2:4]) * stride / 2
    scores = rows[:, 4] * rows[:, _COLUMNS + _PERSON]
    return np.concatenate([centre - half, centre + half], axis=1), scores


@typechecked
def overlaps(
    box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "n 4"]
) -> Float[np.ndarray, " n"]:
    """Intersection over union of `box` with each of `boxes`."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    union = areas(box[None]) + areas(boxes) - shared
    return shared / np.maximum(union, 1e-9)


@typechecked
def areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Square pixels."""
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


@typechecked
def suppress(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " m"]:
    """Numbers of the boxes to keep, best first: none overlaps a better one by more than 0.45."""
    waiting, kept = np.argsort(-scores, kind="stable"), []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        waiting = waiting[overlaps(boxes[best], boxes[waiting]) <= MOST_OVERLAP]
    return np.array(kept, np.int64)


@dataclass(frozen=True, eq=False)
class Detector:
    """A YOLOX network."""

    model: OnnxModel

    def people(
        self, picture: UInt8[np.ndarray, "H W 3"]
    ) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
        """Boxes (left, top, right, bottom in pixels of the RGB picture) and scores, best first.

        Boxes may reach beyond the picture. Raises `UserError` when the file is another network.
        """
        canvas, scale = letterbox(picture, self.model.size)
        rows = self.model.run(canvas[..., ::-1].transpose(2, 0, 1))[0]
        try:
            boxes, scores = decode_boxes(rows[0], self.model.size)
        except (ValueError, IndexError):
            raise UserError(
                f"{self.model.path}: expected {_WHAT} with an output (1, anchors, 85), found "
                f"{rows.shape}"
            ) from None
        good = (scores > LEAST_SCORE) & np.isfinite(boxes).all(axis=1)
        boxes, scores = boxes[good] / scale, scores[good]
        kept = suppress(boxes, scores)
        return boxes[kept], scores[kept]


def open_detector(path: str | Path) -> Detector:
    """The user's `yolox_l.onnx`; `UserError` as `open_model`."""
    return Detector(open_model(path, _WHAT, (640, 640)))
