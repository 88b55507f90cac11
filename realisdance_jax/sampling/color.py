"""Colour restoration: give the decoded video the mean and spread of the reference's colours.

Per sample and channel, (x - mean_video) * std_ref / std_video + mean_ref, standard deviations with
n - 1 (parity.md: H7). The statistics are those of the whole video, so a long one is read twice:
`color_statistics` of each chunk of frames, merged, then `apply_color` to each chunk.
"""

from functools import reduce
from typing import NamedTuple

import numpy as np

from realisdance_jax.shapes import Float, typechecked
from realisdance_jax.utils.errors import UserError


class ColorStatistics(NamedTuple):
    """Pixels seen, their mean, and the sum of squared deviations from it, in float64."""

    count: int
    mean: Float[np.ndarray, "b c"]
    squares: Float[np.ndarray, "b c"]

    @property
    def std(self) -> Float[np.ndarray, "b c"]:
        """Unbiased standard deviation; 0 for a single pixel."""
        return np.sqrt(self.squares / max(self.count - 1, 1))


@typechecked
def color_statistics(frames: Float[np.ndarray, "b f h w c"]) -> ColorStatistics:
    """Statistics of a chunk of frames in any linear range."""
    b, *inner, c = frames.shape
    pixels = frames.reshape(b, -1, c).astype(np.float64)
    mean = pixels.mean(axis=1)
    squares = np.square(pixels - mean[:, None]).sum(axis=1)
    return ColorStatistics(int(np.prod(inner)), mean, squares)


def merge_color(a: ColorStatistics, b: ColorStatistics) -> ColorStatistics:
    """Statistics of two chunks together (Chan, Golub and LeVeque 1983)."""
    count = a.count + b.count
    shift = b.mean - a.mean
    mean = a.mean + shift * (b.count / count)
    squares = a.squares + b.squares + shift**2 * (a.count * b.count / count)
    return ColorStatistics(count, mean, squares)


@typechecked
def apply_color(
    frames: Float[np.ndarray, "b f h w c"], video: ColorStatistics, reference: ColorStatistics
) -> Float[np.ndarray, "b f h w c"]:
    """`frames` moved from the statistics of `video` to those of `reference`; float32."""
    scale = reference.std / np.maximum(video.std, 1e-10)
    shape = (scale.shape[0], 1, 1, 1, scale.shape[1])
    scale, mean, target = (
        part.reshape(shape).astype(np.float32) for part in (scale, video.mean, reference.mean)
    )
    return (frames.astype(np.float32) - mean) * scale + target


@typechecked
def restore_color(
    video: Float[np.ndarray, "b f h w c"], reference: Float[np.ndarray, "b H W c"]
) -> Float[np.ndarray, "b f h w c"]:
    """A whole video, decoded to [-1, 1] and not clamped, in the colours of `reference` in [-1, 1].

    Sizes of video and reference may differ. Raises `UserError` on a video without frames.
    """
    if video.shape[1] == 0:
        raise UserError("colour restoration: expected at least one frame, found none")
    chunks = (color_statistics(video[:, k : k + 1]) for k in range(video.shape[1]))
    return apply_color(video, reduce(merge_color, chunks), color_statistics(reference[:, None]))
