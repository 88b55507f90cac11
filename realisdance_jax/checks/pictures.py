"""Facts about one condition picture: is there something on it, and in which colours."""

from dataclasses import dataclass

import cv2
import numpy as np

from realisdance_jax.shapes import Float, UInt8, typechecked

DARK = 16
"""A picture without a brighter value is empty; lossy video blurs black a little."""

FILLED = 0.7
"""A rendering that covers more of the frame than this is a photo or has a background."""

_LIT = 60  # brighter pixels are well inside a body or hand
_LEAST = 24  # pixels that tell a colour
_HANDS = 4  # times as many pixels as of the nose
_EDGE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Region:
    """Pixels of one kind: how many, and the centre (x, y) as fractions of width and height."""

    count: int
    centre: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Facts:
    """What one picture shows.

    covered: share of pixels brighter than black. red, green, blue: lit pixels by their greatest
    channel, by a clear margin; None where there are too few. least, most: 10th percentile of the
    smallest channel and 99th of the greatest, over lit pixels. ratio: of the mean of the other
    channels to the greatest, over lit pixels.
    """

    covered: float
    red: Region | None
    green: Region | None
    blue: Region | None
    least: float
    most: float
    ratio: float

    @property
    def empty(self) -> bool:
        return self.covered == 0

    @property
    def filled(self) -> bool:
        return self.covered > FILLED


@typechecked
def look_at(picture: UInt8[np.ndarray, "H W 3"]) -> Facts:
    """The facts of a picture, RGB."""
    greatest = picture.max(axis=-1)
    covered = float((greatest > DARK).mean())
    inside = cv2.erode((greatest > _LIT).astype(np.uint8), _EDGE).astype(bool)
    if inside.sum() < _LEAST:  # thin or small: edges count too
        inside = greatest > _LIT
    lit = picture[inside].astype(np.float64)
    if not len(lit):
        return Facts(covered, None, None, None, 0.0, 0.0, 0.0)
    order = np.sort(lit, axis=1)
    return Facts(
        covered=covered,
        red=_region(picture, inside, 0),
        green=_region(picture, inside, 1),
        blue=_region(picture, inside, 2),
        least=float(np.percentile(order[:, 0], 10)),
        most=float(np.percentile(order[:, 2], 99)),
        ratio=float(np.median(order[:, :2].mean(axis=1) / order[:, 2])),
    )


def _region(picture: np.ndarray, inside: np.ndarray, channel: int) -> Region | None:
    """Lit pixels in which `channel` leads by a tenth."""
    others = [picture[..., k] for k in range(3) if k != channel]
    leads = picture[..., channel] > 1.1 * np.maximum(*others) + 4
    return region_of(inside & leads)


def region_of(mask: np.ndarray) -> Region | None:
    """The region of a mask, None if it is too small to tell anything."""
    rows, columns = np.nonzero(mask)
    if len(rows) < _LEAST:
        return None
    height, width = mask.shape
    return Region(
        len(rows), (float(columns.mean() + 0.5) / width, float(rows.mean() + 0.5) / height)
    )


@typechecked
def sticks_read_backwards(picture: UInt8[np.ndarray, "H W 3"]) -> float:
    """How much a drawn DWPose picture speaks for BGR (1) or RGB (-1); 0 where it is silent.

    Points of hands are pure blue discs, noses pure red ones: where both colours are seen, most are
    hands. Otherwise arms are warm and legs, which are below them, cold.
    """
    red, green, blue = (picture[..., k].astype(np.int16) for k in range(3))
    discs = [
        int(((one > 190) & (other < 70) & (green < 70)).sum())
        for one, other in ((red, blue), (blue, red))
    ]
    if min(discs) >= _LEAST and max(discs) > _HANDS * min(discs):
        return 1.0 if discs[0] > discs[1] else -1.0
    greatest = picture.max(axis=-1)
    limb = (greatest > 100) & (greatest < 180)  # limbs are dimmed, discs are not
    limb &= (green > 30) & (np.abs(red - blue) > 40)  # heads and shoulders mix red and blue alone
    mixed = np.abs(np.maximum(red, blue) - green) > 25  # the torso is cyan, a forearm yellow
    warm, cold = region_of(limb & mixed & (red > blue)), region_of(limb & mixed & (blue > red))
    if warm is None or cold is None or abs(warm.centre[1] - cold.centre[1]) < 0.03:
        return 0.0
    return 1.0 if warm.centre[1] > cold.centre[1] else -1.0


def distance(one: Region, point: Float[np.ndarray, "2"]) -> float:
    """From a region's centre to a point, as a fraction of the frame."""
    return float(np.hypot(*(np.asarray(one.centre) - point)))
