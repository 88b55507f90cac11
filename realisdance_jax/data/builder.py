"""Checked clips into prepared data sets: their files' bytes, or what the networks make of them."""

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from realisdance_jax.data.cached import (
    FRAMES,
    TOKENS,
    frame_features,
    pack_conditions,
    token_features,
)
from realisdance_jax.data.clips import Clip, FileClip
from realisdance_jax.data.encoded import CLIPS, encode_clip, encoded_features
from realisdance_jax.data.picking import reference_candidates
from realisdance_jax.data.shards import ShardWriter
from realisdance_jax.data.sources import ClipSource
from realisdance_jax.data.stored import FORMAT, INDEX, StoredIndex
from realisdance_jax.data.transforms import crop_resize, dino_size, imagenet_normalise, to_signed
from realisdance_jax.data.validation import Verdict
from realisdance_jax.shapes import Float
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.records import to_json

CLIPS_PER_SHARD, FRAMES_PER_SHARD, TOKENS_PER_SHARD = 128, 2048, 512
"""Files of about a gigabyte at the usual sizes."""

Progress = Callable[[Sequence[int]], Iterable[int]]
"""Wraps the numbers of the clips as they are worked on."""


class FrameEncoder(Protocol):
    """The frozen networks, as arrays in and out. name: hash of their weights."""

    name: str

    def posterior(
        self, pictures: Float[np.ndarray, "f H W 3"]
    ) -> tuple[Float[np.ndarray, "f h w c"], Float[np.ndarray, "f h w c"]]:
        """Mean and standard deviation of unscaled latents of pictures in [-1, 1]."""
        ...

    def tokens(self, pictures: Float[np.ndarray, "f h w 3"]) -> Float[np.ndarray, "f m c"]:
        """DINOv2 tokens of normalised pictures."""
        ...


def write_encoded(
    source: ClipSource,
    verdicts: Sequence[Verdict],
    conditions: Sequence[str],
    out: Path,
    progress: Progress = iter,
) -> StoredIndex:
    """Pack the files of every clip that passed its check into `out`.

    Raises `UserError` when no clip is left, or when `out` exists or cannot be written.
    """
    digest = hashlib.sha256()
    with _output(out, verdicts) as draft:
        features = encoded_features(conditions)
        writer = ShardWriter(draft / CLIPS, features, digest, CLIPS_PER_SHARD)
        for clip in source.successive(progress(_kept(verdicts))):
            if not isinstance(clip, FileClip):
                raise UserError(f"{clip.name}: expected files to pack, found drawn pictures")
            writer.write([encode_clip(clip, conditions)])
        writer.close()
        return _finish(draft, "encoded", source, verdicts, conditions, digest.hexdigest())


def write_cached(
    source: ClipSource,
    verdicts: Sequence[Verdict],
    conditions: Sequence[str],
    out: Path,
    encoder: FrameEncoder,
    size: tuple[int, int],
    references: int = 0,
    chunk: int = 8,
    progress: Progress = iter,
) -> StoredIndex:
    """Encode every frame of every clip that passed its check, officially cropped, into `out`.

    Args:
        size: height and width of the training pictures.
        references: keep the tokens of so many evenly spaced frames per clip, of all if 0.
        chunk: frames per call of `encoder`.

    Raises `UserError` as `write_encoded`, and when a clip cannot be read any more.
    """
    digest = hashlib.sha256()
    with _output(out, verdicts) as draft:
        frames = ShardWriter(draft / FRAMES, frame_features(), digest, FRAMES_PER_SHARD)
        tokens = ShardWriter(draft / TOKENS, token_features(), digest, TOKENS_PER_SHARD)
        numbers = _kept(verdicts)
        for number, clip in zip(numbers, source.successive(progress(numbers)), strict=True):
            length = verdicts[number].frames
            candidates = reference_candidates(length, references)
            for group in _chunks(clip, length, conditions, size, chunk):
                frames.write(_frame_records(group, encoder))
                tokens.write(_token_records(group, encoder, candidates))
        frames.close()
        tokens.close()
        hashed = digest.hexdigest()
        extra = (size, references, encoder.name)
        return _finish(draft, "cached", source, verdicts, conditions, hashed, *extra)


class _Group(NamedTuple):
    """Consecutive frames. numbers: which. film, conditions in [0, 1]; images for the encoder."""

    numbers: list[int]
    film: np.ndarray
    images: np.ndarray
    conditions: np.ndarray


def _chunks(
    clip: Clip, length: int, conditions: Sequence[str], size: tuple[int, int], chunk: int
) -> Iterator[_Group]:
    every = range(length)
    sizes: dict[int, tuple[int, int]] = {}  # known to the painter by the time it needs them
    poses = [clip.condition(name, every, sizes) for name in conditions]
    film = zip(every, clip.film(every), strict=True)
    while group := list(itertools.islice(film, chunk)):
        sizes.update({number: frame.shape[:2] for number, frame in group})
        stacked = [[crop_resize(next(pose), size) for pose in poses] for _ in group]
        yield _Group(
            [number for number, _ in group],
            np.stack([crop_resize(frame, size) for _, frame in group]),
            np.stack([crop_resize(frame, dino_size(size)) for _, frame in group]),
            np.stack([np.concatenate(pictures, axis=-1) for pictures in stacked]),
        )


def _frame_records(group: _Group, encoder: FrameEncoder) -> list[dict[str, Any]]:
    mean, std = encoder.posterior(to_signed(group.film))
    packed = [pack_conditions(pictures) for pictures in group.conditions]
    return [
        {"latent_mean": m, "latent_std": s, "conditions": p}
        for m, s, p in zip(mean, std, packed, strict=True)
    ]


def _token_records(
    group: _Group, encoder: FrameEncoder, candidates: Collection[int]
) -> list[dict[str, Any]]:
    chosen = [place for place, number in enumerate(group.numbers) if number in candidates]
    if not chosen:
        return []
    tokens = encoder.tokens(imagenet_normalise(group.images[chosen]))
    return [{"tokens": frame} for frame in tokens]


def _kept(verdicts: Sequence[Verdict]) -> list[int]:
    return [number for number, verdict in enumerate(verdicts) if not verdict.reason]


@contextmanager
def _output(out: Path, verdicts: Sequence[Verdict]) -> Iterator[Path]:
    if not _kept(verdicts):
        first = f" ({verdicts[0].name}: {verdicts[0].reason})" if verdicts else ""
        raise UserError(f"{out}: expected clips to write, found none that passed{first}")
    if out.exists():
        raise UserError(f"{out}: expected a new folder, found one that exists")
    try:
        with atomic_output(out) as draft:
            draft.mkdir()
            yield draft
    except (OSError, RuntimeError) as error:  # the shard writer raises the latter
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{out}: cannot write the data set ({reason})") from error


def _finish(
    draft: Path,
    kind: Literal["encoded", "cached"],
    source: ClipSource,
    verdicts: Sequence[Verdict],
    conditions: Sequence[str],
    fingerprint: str,
    size: tuple[int, ...] = (),
    references: int = 0,
    encoder: str = "",
) -> StoredIndex:
    kept = [verdicts[number] for number in _kept(verdicts)]
    index = StoredIndex(
        FORMAT,
        kind,
        source.images,
        tuple(conditions),
        tuple(verdict.name for verdict in kept),
        tuple(verdict.frames for verdict in kept),
        fingerprint,
        size,
        references,
        encoder,
        {verdict.name: verdict.reason for verdict in verdicts if verdict.reason},
    )
    (draft / INDEX).write_text(json.dumps(to_json(index)) + "\n", "utf-8")
    return index
