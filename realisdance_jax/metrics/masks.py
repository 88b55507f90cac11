"""Regions of frames to measure in: areas of a condition that are not empty.

A region is a mask `f H W`; `l1`, `psnr` and `ssim` take it and give NaN for frames without one,
which `states.Mean` leaves out.
"""

import numpy as np

from realisdance_jax.shapes import Bool, UInt8, typechecked


@typechecked
def drawn_masks(
    condition: UInt8[np.ndarray, "f H W 3"], threshold: int = 0
) -> Bool[np.ndarray, "f H W"]:
    """Where a condition video shows something on its black background.

    SMPL-CS gives the mask of the character (without hair and loose clothes), HaMeR that of hands.
    threshold: the largest channel value that still counts as black; a few for lossy videos.
    """
    return condition.max(axis=-1) > threshold
