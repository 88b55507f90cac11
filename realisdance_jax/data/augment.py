"""Crop and flip of an example: drawn once, then the same for every picture of it.

A flip mirrors film, poses and reference alike, but not what the colours of the poses mean: DWPose
paints each limb, and the HaMeR renderings each hand, in a colour of its side, so a mirrored left
hand looks like a right hand in the colour of left ones. The model learns that as an ambiguity,
which is why flips are off by default, as in the release.
"""

import math
from dataclasses import dataclass

import numpy as np

from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.transforms import crop_resize
from realisdance_jax.shapes import Float, UInt8

_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """One draw. area: share of the picture; None for the centred crop of the official transform.

    ratio: width / height of the box. top, left: its place within the room there is, 0 to 1.
    """

    area: float | None = None
    ratio: float = 1.0
    top: float = 0.0
    left: float = 0.0
    flip: bool = False

    def box(self, height: int, width: int) -> tuple[int, int, int, int] | None:
        """(top, left, height, width) in a film of this size; None for the centred crop."""
        if self.area is None:
            return None
        box_height, box_width = _sides(height, width, self.area, self.ratio)
        box_height, box_width = min(max(1, box_height), height), min(max(1, box_width), width)
        top = min(int(self.top * (height - box_height + 1)), height - box_height)
        left = min(int(self.left * (width - box_width + 1)), width - box_width)
        return top, left, box_height, box_width


def _sides(height: int, width: int, area: float, ratio: float) -> tuple[int, int]:
    pixels = height * width * area
    return round((pixels / ratio) ** 0.5), round((pixels * ratio) ** 0.5)


def draw_augmentation(
    config: DataConfig, rng: np.random.Generator, height: int, width: int
) -> Augmentation:
    """Draw for a film of `height` x `width` pixels.

    Share of the area uniform in `crop_scale`, ratio log-uniform in `crop_ratio` (that of
    `config.size` if None); the first of ten boxes that fits, else the centred crop.
    """
    numbers = rng.random((_TRIES, 2))
    top, left, mirrored = rng.random(3)
    flip = bool(mirrored < config.flip)
    if not config.crops_at_random:
        return Augmentation(flip=flip)
    own = config.size[1] / config.size[0]
    low, high = (math.log(ratio) for ratio in config.crop_ratio or (own, own))
    smallest, largest = config.crop_scale
    for share, shape in numbers:
        area = smallest + share * (largest - smallest)
        ratio = math.exp(low + shape * (high - low))
        box_height, box_width = _sides(height, width, area, ratio)
        if 0 < box_height <= height and 0 < box_width <= width:
            return Augmentation(float(area), ratio, float(top), float(left), flip)
    return Augmentation(flip=flip)


def apply_augmentation(
    picture: UInt8[np.ndarray, "H W 3"],
    augmentation: Augmentation,
    size: tuple[int, int],
    film: tuple[int, int] | None = None,
) -> Float[np.ndarray, "h w 3"]:
    """Crop, resize to `size` (height, width) and mirror; float32 in [0, 1].

    Args:
        film: height and width of the film that `picture` belongs to, its own by default. A pose
            picture of another size is cropped where the film was, each edge to half a pixel.
    """
    height, width = picture.shape[:2]
    film = film or (height, width)
    box = augmentation.box(*film)
    if box is None:
        result = crop_resize(picture, size)
    else:
        rows = _scaled(box[0], box[2], height, film[0])
        columns = _scaled(box[1], box[3], width, film[1])
        part = picture[rows, columns]
        result = crop_resize(part, size, part.shape[1] / part.shape[0])
    return np.ascontiguousarray(result[:, ::-1]) if augmentation.flip else result


def _scaled(start: int, length: int, target: int, source: int) -> slice:
    """`length` pixels from `start` of a side of `source` pixels, on one of `target` pixels."""
    first = min(round(start * target / source), target - 1)
    last = round((start + length) * target / source)
    return slice(first, max(first + 1, last))
