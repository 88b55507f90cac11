"""One training example out of one clip: picked frames, one augmentation for all its pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np

from realisdance_jax.data.augment import Augmentation, apply_augmentation, draw_augmentation
from realisdance_jax.data.clips import Clip, Sizes
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.picking import (
    pick_frames,
    pick_pair,
    pick_reference,
    reference_candidates,
)
from realisdance_jax.data.transforms import dino_size, imagenet_normalise, to_signed
from realisdance_jax.shapes import Float

Sample = dict[str, np.ndarray]


class Picks(NamedTuple):
    """Frame numbers of the targets, ascending, and of the reference."""

    targets: tuple[int, ...]
    reference: int

    @property
    def needed(self) -> list[int]:
        """Every frame to be read, ascending, once."""
        return sorted({*self.targets, self.reference})


@dataclass(frozen=True)
class Streams:
    """Random streams of one position in the data: functions of (seed, position, name) alone."""

    seed: int
    position: int

    def generator(self, name: str, *more: int) -> np.random.Generator:
        """A fresh generator; the same name gives the same numbers again."""
        tag = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        return np.random.default_rng([self.seed, self.position, tag, *more])


def pick(
    config: DataConfig, streams: Streams, length: int, images: bool = False, references: int = 0
) -> Picks:
    """Frames of one example out of a clip of `length` frames.

    Args:
        images: whether the clip is a line of an image list.
        references: at most so many frames may be the reference (0: all), see `picking.py`.

    Raises `UserError` for a clip that is too short.
    """
    rng = streams.generator("frames")
    candidates = reference_candidates(length, references)
    if config.frames == 1:
        reference, target = pick_pair(length, config.reference, rng, images, candidates)
        return Picks((target,), reference)
    gap = (config.start, config.fixed_gap)
    targets = pick_frames(length, config.frames, config.stride, rng, *gap)
    reference = pick_reference(candidates, config.reference, rng)
    return Picks(tuple(targets.tolist()), reference)


def draw_hash(picks: Picks, augmentation: Augmentation) -> np.ndarray:
    """Int64 fingerprint of the frames and the crop that were drawn for one example."""
    return _hashed((picks.targets, picks.reference, astuple(augmentation)))


def with_clip(drawn: np.ndarray, clip: int, attempt: int) -> np.ndarray:
    """`draw_hash` of everything: also of which clip it is, and of how many were unreadable."""
    return _hashed((int(drawn), clip, attempt))


def _hashed(values: tuple) -> np.ndarray:
    text = repr(values)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.array(int.from_bytes(digest, "little", signed=True), np.int64)


def make_sample(clip: Clip, config: DataConfig, streams: Streams, images: bool = False) -> Sample:
    """Read, crop and resize one example.

    Returns float32 `video` (f H W 3) and `reference` (H W 3) in [-1, 1], `encoder_image` (h w 3)
    normalised for DINOv2, `conditions` (f H W c) in [0, 1], and `draw_hash`.
    Raises `UserError` for a clip that is unreadable or too short.
    """
    picks = pick(config, streams, clip.length(), images)
    augmentation = Augmentation()
    sizes: dict[int, tuple[int, int]] = {}
    pictures: dict[int, np.ndarray] = {}
    encoder_image = np.empty(0, np.float32)
    for index, frame in zip(picks.needed, clip.film(picks.needed), strict=True):
        if not sizes:
            augmentation = draw_augmentation(config, streams.generator("crop"), *frame.shape[:2])
        sizes[index] = frame.shape[:2]
        pictures[index] = apply_augmentation(frame, augmentation, config.size)
        if index == picks.reference:
            encoder_image = apply_augmentation(frame, augmentation, dino_size(config.size))
    return {
        "video": to_signed(np.stack([pictures[index] for index in picks.targets])),
        "reference": to_signed(pictures[picks.reference]),
        "encoder_image": imagenet_normalise(encoder_image),
        "conditions": stack_conditions(clip, config, picks.targets, sizes, augmentation),
        "draw_hash": draw_hash(picks, augmentation),
    }


def stack_conditions(
    clip: Clip,
    config: DataConfig,
    targets: Sequence[int],
    sizes: Sizes,
    augmentation: Augmentation,
) -> Float[np.ndarray, "f H W c"]:
    """Pictures of `config.conditions` at `targets`, cropped as the film was, in [0, 1]."""
    stacked = np.empty((len(targets), *config.size, 3 * len(config.conditions)), np.float32)
    different = sorted(set(targets))
    for channel, name in enumerate(config.conditions):
        pictures = clip.condition(name, different, sizes)
        for index, picture in zip(different, pictures, strict=True):
            resized = apply_augmentation(picture, augmentation, config.size, sizes[index])
            for place in np.flatnonzero(np.equal(targets, index)):
                stacked[place, ..., 3 * channel : 3 * channel + 3] = resized
    return stacked
