"""Regions of frames to measure in: boxes around hands and faces, and areas that are not empty.

A region is a mask `f H W`; `l1`, `psnr` and `ssim` take it and give NaN for frames without one,
which `states.Mean` leaves out.
"""

import numpy as np

from realisdance_jax.shapes import Bool, Float, UInt8, typechecked


@typechecked
def box_masks(
    points: Float[np.ndarray, "f n 2"],
    visible: Bool[np.ndarray, "f n"],
    size: tuple[int, int],
    margin: float = 0.2,
    at_least: int = 2,
) -> Bool[np.ndarray, "f H W"]:
    """The upright box around the visible points of each frame, as of one hand or a face.

    points: x, y in pixels, pixel centres at whole numbers.
    size: H, W.
    margin: share of the longer side of the box that is added on every side.
    at_least: frames with fewer visible points have an empty mask.
    """
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])[None]
    masks = np.zeros((len(points), *size), bool)
    for mask, xy, seen in zip(masks, points, visible, strict=True):
        if seen.sum() < at_least:
            continue
        low, high = xy[seen].min(axis=0), xy[seen].max(axis=0)
        extra = margin * (high - low).max()
        (left, top), (right, bottom) = low - extra, high + extra
        mask[:] = (rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)
    return masks


@typechecked
def drawn_masks(
    condition: UInt8[np.ndarray, "f H W 3"], threshold: int = 0
) -> Bool[np.ndarray, "f H W"]:
    """Where a condition video shows something on its black background.

    SMPL-CS gives the mask of the character (without hair and loose clothes), HaMeR that of hands.
    threshold: the largest channel value that still counts as black; a few for lossy videos.
    """
    return condition.max(axis=-1) > threshold


@typechecked
def united(*masks: Bool[np.ndarray, "f H W"]) -> Bool[np.ndarray, "f H W"]:
    """Pixels of any of `masks`, as of a left and a right hand."""
    return np.logical_or.reduce(masks)
