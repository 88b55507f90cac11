"""L1 and PSNR of 8-bit frames, in float64 on the host; scikit-image's conventions."""

import numpy as np

from realisdance_jax.shapes import Bool, Float, UInt8, typechecked


def _mean_over(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Mean of `f H W c` per frame, over the pixels of `mask`; NaN where it has none."""
    per_pixel = values.mean(axis=-1)
    if mask is None:
        return per_pixel.mean(axis=(1, 2))
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return (per_pixel * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2))


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.astype(np.float64) - b.astype(np.float64)


@typechecked
def l1(
    generated: UInt8[np.ndarray, "f H W c"],
    truth: UInt8[np.ndarray, "f H W c"],
    mask: Bool[np.ndarray, "f H W"] | None = None,
) -> Float[np.ndarray, " f"]:
    """Mean absolute difference per frame, 0 to 255; inside `mask` if given, NaN where it is empty.

    DisCo's tables hold this number divided by H W once more: `disco_l1`.
    """
    return _mean_over(np.abs(_difference(generated, truth)), mask)


@typechecked
def disco_l1(
    generated: UInt8[np.ndarray, "f H W c"], truth: UInt8[np.ndarray, "f H W c"]
) -> Float[np.ndarray, " f"]:
    """L1 as DisCo prints it: already a mean, and divided by the number of pixels again.

    It depends on the resolution: the 1e-4 of the tables are those of 256 x 256 frames.
    """
    return l1(generated, truth) / (truth.shape[1] * truth.shape[2])


@typechecked
def psnr(
    generated: UInt8[np.ndarray, "f H W c"],
    truth: UInt8[np.ndarray, "f H W c"],
    mask: Bool[np.ndarray, "f H W"] | None = None,
    identical: float = np.inf,
) -> Float[np.ndarray, " f"]:
    """Peak signal-to-noise ratio per frame in dB, peak 255; inside `mask` if given.

    identical: the value of frames without any difference; DisCo counts them as 100.
    NaN where the mask is empty.
    """
    return _decibel(_mean_over(np.square(_difference(generated, truth)), mask), identical)


@typechecked
def psnr_uint8_overflow(
    generated: UInt8[np.ndarray, "f H W c"], truth: UInt8[np.ndarray, "f H W c"]
) -> Float[np.ndarray, " f"]:
    """The wrong PSNR of tables made before April 2024: differences and squares modulo 256.

    About 29 dB for any two pictures. Only to be set beside such tables.
    """
    return _decibel(_mean_over(np.square(generated - truth), None), 100.0)


def _decibel(error: np.ndarray, identical: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, identical, 10 * np.log10(255.0**2 / error))
