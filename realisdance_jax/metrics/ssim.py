"""Structural similarity (Wang et al., 2004) with scikit-image's choices, in float64 on the host.

Uniform 7 x 7 windows, sample covariance (division by 48), constants (0.01 L)^2 and (0.03 L)^2, and
only windows that lie inside the picture.
"""

import cv2
import numpy as np

from realisdance_jax.shapes import Bool, Float, UInt8, typechecked

WINDOW = 7
_SAMPLE = WINDOW**2 / (WINDOW**2 - 1)


@typechecked
def ssim(
    generated: UInt8[np.ndarray, "f H W 3"],
    truth: UInt8[np.ndarray, "f H W 3"],
    mask: Bool[np.ndarray, "f H W"] | None = None,
    grey: bool = True,
) -> Float[np.ndarray, " f"]:
    """Mean similarity per frame, at most 1.

    grey: compare grey pictures as DisCo does; else the mean over the three channels.
    mask: mean over the windows centred inside; NaN where no window is.
    Raises `ValueError` for frames smaller than a window.
    """
    if min(truth.shape[1:3]) < WINDOW:
        raise ValueError(f"expected frames of at least {WINDOW} pixels, found {truth.shape[1:3]}")
    maps = np.stack(
        [
            ssim_map(_planes(a, grey), _planes(b, grey))
            for a, b in zip(generated, truth, strict=True)
        ]
    )
    if mask is None:
        return maps.mean(axis=(1, 2))
    edge = WINDOW // 2
    inner = mask[:, edge:-edge, edge:-edge]
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return (maps * inner).sum(axis=(1, 2)) / inner.sum(axis=(1, 2))


def _planes(frame: np.ndarray, grey: bool) -> np.ndarray:
    """`H W c` in float64; OpenCV's grey, rounded to 8 bits."""
    return (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None] if grey else frame).astype(float)


@typechecked
def ssim_map(
    a: Float[np.ndarray, "H W c"], b: Float[np.ndarray, "H W c"], peak: float = 255.0
) -> Float[np.ndarray, "h w"]:
    """Similarity of every window inside the picture, mean over channels; h = H - 6."""
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    var_a = _SAMPLE * (_window_mean(a * a) - mean_a * mean_a)
    var_b = _SAMPLE * (_window_mean(b * b) - mean_b * mean_b)
    covariance = _SAMPLE * (_window_mean(a * b) - mean_a * mean_b)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return (above / below).mean(axis=-1)


def _window_mean(x: np.ndarray) -> np.ndarray:
    """Mean of every whole window; sums of 8-bit values and their products stay exact."""
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        sums = np.concatenate([np.zeros_like(x[:1]), np.cumsum(x, axis=0)])
        x = np.moveaxis(sums[WINDOW:] - sums[:-WINDOW], 0, axis)
    return x / WINDOW**2
