"""Clips in shards as what the networks made of them: nothing is decoded at training time."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from realisdance_jax.data.augment import Augmentation
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.picking import reference_candidates
from realisdance_jax.data.samples import Sample, Streams, draw_hash, pick
from realisdance_jax.data.stored import StoredIndex, open_shards, read_index, readable_record
from realisdance_jax.shapes import Float, UInt8
from realisdance_jax.utils.errors import UserError

FRAMES, TOKENS = "frames", "tokens"
"""Folders of the shards: one record per frame, one per possible reference frame."""

# Mostly black pictures: the fastest level decodes twice as fast as the best for a sixth more bytes.
_LEVEL = 1


def frame_features() -> tfds.features.FeaturesDict:
    """Posterior of the VAE, unscaled; pose pictures as zlib of uint8 (H W c)."""
    latent = tfds.features.Tensor(shape=(None, None, None), dtype=np.float32, encoding="bytes")
    return tfds.features.FeaturesDict(
        {"latent_mean": latent, "latent_std": latent, "conditions": tfds.features.Text()}
    )


def token_features() -> tfds.features.FeaturesDict:
    """DINOv2 tokens of one frame."""
    tokens = tfds.features.Tensor(shape=(None, None), dtype=np.float32, encoding="bytes")
    return tfds.features.FeaturesDict({"tokens": tokens})


def pack_conditions(pictures: Float[np.ndarray, "H W c"]) -> bytes:
    """Pictures in [0, 1], rounded to 8 bits."""
    return zlib.compress(np.rint(pictures * 255).astype(np.uint8).tobytes(), _LEVEL)


def unpack_conditions(data: bytes, size: Sequence[int]) -> UInt8[np.ndarray, "H W c"]:
    """What `pack_conditions` rounded."""
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(*size, -1)


@dataclass(frozen=True, eq=False)
class CachedSource:
    """The `cached` kind of prepared data set; a `Source`.

    first, first_tokens: number of each clip's first record in `records` and `tokens`.
    """

    folder: Path
    images: bool
    index: StoredIndex
    records: Any
    tokens: Any
    first: np.ndarray
    first_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.index.names)

    def name(self, number: int) -> str:
        return self.index.names[number]

    def frames(self, number: int) -> int:
        return self.index.frames[number]

    def fingerprint(self) -> str:
        return self.index.fingerprint

    def sample(self, number: int, config: DataConfig, streams: Streams) -> Sample:
        """One example.

        Returns `latent_mean`, `latent_std` (f h w 4), `reference_mean`, `reference_std` (h w 4),
        `tokens` (m c), uint8 `conditions` (f H W c), and `draw_hash`. The frames and the hash are
        those that the same clips give uncached, as long as every frame has tokens.
        """
        length = self.index.frames[number]
        picks = pick(config, streams, length, self.images, self.index.references)
        candidates = reference_candidates(length, self.index.references)
        token = int(self.first_tokens[number]) + candidates.index(picks.reference)
        with readable_record(self.folder, self.index.names[number]):
            places = [int(self.first[number]) + frame for frame in picks.needed]
            read = dict(zip(picks.needed, self.records.__getitems__(places), strict=True))
            targets, reference = [read[frame] for frame in picks.targets], read[picks.reference]
            return {
                "latent_mean": np.stack([record["latent_mean"] for record in targets]),
                "latent_std": np.stack([record["latent_std"] for record in targets]),
                "reference_mean": reference["latent_mean"],
                "reference_std": reference["latent_std"],
                "tokens": self.tokens[token]["tokens"],
                "conditions": self._conditions(read, picks.targets, config.conditions),
                "draw_hash": draw_hash(picks, Augmentation()),
            }

    def _conditions(
        self, read: dict[int, Any], targets: Sequence[int], names: Sequence[str]
    ) -> UInt8[np.ndarray, "f H W c"]:
        unpacked = {
            frame: unpack_conditions(read[frame]["conditions"], self.index.size)
            for frame in set(targets)
        }
        stacked = np.stack([unpacked[frame] for frame in targets])
        if tuple(names) == self.index.conditions:
            return stacked
        kept = [self.index.conditions.index(name) for name in names]
        return np.concatenate([stacked[..., 3 * k : 3 * k + 3] for k in kept], axis=-1)


def open_cached(folder: Path) -> CachedSource:
    """Raises `UserError` for a missing or damaged data set."""
    index = read_index(folder)
    if len(index.size) != 2:
        raise UserError(f"{folder}: expected the size of cached pictures, found {index.size}")
    lengths = np.array(index.frames)
    tokens = np.minimum(lengths, index.references) if index.references else lengths
    return CachedSource(
        folder,
        index.images,
        index,
        open_shards(folder / FRAMES, int(lengths.sum())),
        open_shards(folder / TOKENS, int(tokens.sum())),
        np.cumsum(lengths) - lengths,
        np.cumsum(tokens) - tokens,
    )
