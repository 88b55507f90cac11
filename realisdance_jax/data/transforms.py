"""Crop, resize and normalise one picture: what the official transforms do, in numpy."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from realisdance_jax.shapes import Float, UInt8, typechecked

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
DINO_AREA = 320 * 240

# Rows of the resize matrix handled together. Each block touches only the source rows it needs, and
# products this small stay on one BLAS thread, which matters with several loader processes.
_BLOCK = 8


def crop_box(height: int, width: int, ratio: float) -> tuple[int, int, int, int]:
    """The official crop of an `height` x `width` picture for `ratio` = width / height.

    The whole picture when it has the ratio to within about a pixel, else the largest centred box.
    Returns (top, left, box height, box width) in pixels.
    """
    area = height * width
    if 0 < round((area * ratio) ** 0.5) <= width and 0 < round((area / ratio) ** 0.5) <= height:
        return 0, 0, height, width
    if width < height * ratio:
        box_height, box_width = max(1, round(width / ratio)), width
    else:
        box_height, box_width = height, max(1, round(height * ratio))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@dataclass(frozen=True)
class Cut:
    """The centred part of a frame that becomes a picture; both are (height, width)."""

    frame: tuple[int, int]
    picture: tuple[int, int]

    @property
    def zoom(self) -> float:
        """Pixels of the picture per pixel of the frame, downwards."""
        return self.picture[0] / self._box[2]

    def place(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Fractions (x, y) of the frame to pixels of the picture."""
        top, left, height, width = self._box
        pixels = points * (self.frame[1], self.frame[0]) - (left, top)
        return pixels * (self.picture[1] / width, self.picture[0] / height)

    @property
    def _box(self) -> tuple[int, int, int, int]:
        return crop_box(*self.frame, self.picture[1] / self.picture[0])


@typechecked
def crop_resize(
    image: UInt8[np.ndarray, "H W c"] | Float[np.ndarray, "H W c"],
    size: tuple[int, int],
    ratio: float | None = None,
) -> Float[np.ndarray, "h w c"]:
    """Crop by `crop_box`, then resize with an antialiased triangle filter.

    Args:
        image: float in [0, 1], or uint8, which is divided by 255.
        size: height and width of the result, in pixels.
        ratio: width / height of the crop; that of `size` by default.

    Returns float32 in [0, 1].
    """
    top, left, height, width = crop_box(image.shape[0], image.shape[1], ratio or size[1] / size[0])
    image = image[top : top + height, left : left + width]
    scale = np.float32(255 if image.dtype == np.uint8 else 1)
    pixels = np.ascontiguousarray(np.divide(image, scale, dtype=np.float32))
    return _resize(pixels, *size)


def _resize(pixels: np.ndarray, out_height: int, out_width: int) -> np.ndarray:
    height, width, channels = pixels.shape
    rows = np.empty((out_height, width * channels), np.float32)
    flat = pixels.reshape(height, width * channels)
    for out, source, weights in _blocks(height, out_height):
        np.matmul(weights, flat[source], out=rows[out])
    planes = cv2.split(rows.reshape(out_height, width, channels))
    resized = [np.empty((out_height, out_width), np.float32) for _ in planes]
    for out, source, weights in _blocks(width, out_width):
        for plane, result in zip(planes, resized, strict=True):
            result[:, out] = plane[:, source] @ weights.T
    return cv2.merge(resized).reshape(out_height, out_width, channels)


@lru_cache(maxsize=256)
def _blocks(size: int, out_size: int) -> list[tuple[slice, slice, np.ndarray]]:
    """The 1-D resize matrix cut along its diagonal: (output rows, source rows, weights)."""
    scale = size / out_size
    centres = (np.arange(out_size) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(size) - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    weights /= weights.sum(axis=1, keepdims=True)
    blocks = []
    for start in range(0, out_size, _BLOCK):
        rows = weights[start : start + _BLOCK]
        used = np.flatnonzero(rows.any(axis=0))
        source = slice(int(used[0]), int(used[-1]) + 1)
        part = np.ascontiguousarray(rows[:, source], np.float32)
        blocks.append((slice(start, start + len(rows)), source, part))
    return blocks


def to_signed(image: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """[0, 1] to [-1, 1], float32."""
    return np.float32(2) * image - np.float32(1)


def imagenet_normalise(image: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """RGB in [0, 1] to zero mean and unit deviation by the ImageNet statistics, float32."""
    return (image - IMAGENET_MEAN) / IMAGENET_STD


def dino_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the DINOv2 picture for a target of `size`: 320 x 240 pixels of area.

    768 x 576, and every other 4:3 target, gives the official (320, 240).
    """
    height, width = size
    return round((DINO_AREA * height / width) ** 0.5), round((DINO_AREA * width / height) ** 0.5)
