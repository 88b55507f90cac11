"""Ready-made condition videos under the similarity of align.py: moved and scaled as pictures."""

import math

import cv2
import numpy as np

from realisdance_jax.poses.align import Similarity
from realisdance_jax.shapes import UInt8, typechecked


@typechecked
def warp_picture(
    picture: UInt8[np.ndarray, "H W 3"], similarity: Similarity, canvas: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """One picture on a black canvas of height and width `canvas`.

    Reduced by area, enlarged and shifted linearly. Lines of drawn poses get thicker or thinner with
    the picture: draw keypoints anew where there are any.
    """
    scale, (x, y) = similarity.scale, similarity.shift
    if scale < 1:
        height, width = picture.shape[:2]
        small = max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
        picture = cv2.resize(picture, small[::-1], interpolation=cv2.INTER_AREA)
        across, down = scale * width / small[1], scale * height / small[0]
    else:
        across, down = scale, scale
    # Coordinates of OpenCV are those of pixel centres.
    matrix = np.array(
        [[across, 0, (across - 1) / 2 + x], [0, down, (down - 1) / 2 + y]], np.float64
    )
    moved = cv2.warpAffine(picture, matrix, canvas[::-1], flags=cv2.INTER_LINEAR)
    return np.asarray(moved, np.uint8)
