"""The sources that a configuration names, opened and checked against it."""

from collections.abc import Sequence
from pathlib import Path

from realisdance_jax.data.cached import CachedSource, open_cached
from realisdance_jax.data.config import DANCER, DRAWN, SYNTHETIC, DataConfig
from realisdance_jax.data.corruptions import Corruption
from realisdance_jax.data.dancer_source import DancerSource
from realisdance_jax.data.encoded import open_encoded
from realisdance_jax.data.layout import (
    is_image_list,
    read_image_list,
    read_video_folder,
    video_root,
)
from realisdance_jax.data.picking import clip_span
from realisdance_jax.data.sources import (
    ClipSource,
    FileSource,
    Source,
    SyntheticSource,
    hashed,
)
from realisdance_jax.data.stored import is_stored, read_index
from realisdance_jax.utils.errors import UserError


def open_source(source: str, config: DataConfig) -> Source:
    """One of `config.sources`: drawn (`synthetic`, `dancer`), files, or a prepared data set.

    Raises `UserError` for anything else, for a missing modality, and for a prepared data set that
    does not fit `config`.
    """
    if source not in DRAWN and is_stored(source):
        return _open_stored(Path(source), config)
    return open_raw(source, config)


def open_raw(source: str, config: DataConfig) -> ClipSource:
    """A source that is not prepared yet."""
    if source == SYNTHETIC:
        return SyntheticSource(config.synthetic_clips, config.synthetic_frames, config.size)
    if source == DANCER:
        wrong = Corruption(*config.corruption, config.corruption_seed)
        amount = (config.synthetic_clips, config.synthetic_frames, config.size)
        return DancerSource(*amount, config.split, wrong)
    if is_image_list(source):
        roots = (config.hamer_root, config.smpl_root)
        return FileSource(tuple(read_image_list(Path(source), config.conditions, *roots)), True)
    root = video_root(source, config.split)
    if root is None:
        raise UserError(
            f"{source}: expected {', '.join(map(repr, DRAWN))}, a folder with video/ or "
            f"{config.split}/video/, an image list (.txt, .csv) or a folder written by prepare "
            "dataset, found none of them"
        )
    return FileSource(tuple(read_video_folder(root, config.conditions)))


def _open_stored(folder: Path, config: DataConfig) -> Source:
    index = read_index(folder)
    if missing := [name for name in config.conditions if name not in index.conditions]:
        found = ", ".join(index.conditions)
        raise UserError(f"{folder}: expected the condition {missing[0]}, found {found}")
    if index.kind == "encoded":
        return open_encoded(folder)
    if tuple(index.size) != tuple(config.size):
        wanted, found = ("x".join(map(str, size)) for size in (config.size, index.size))
        raise UserError(f"{folder}: expected a cache of {wanted} pictures, found {found}")
    require_uncropped(config, str(folder))
    return open_cached(folder)


def require_uncropped(config: DataConfig, where: str) -> None:
    """Raise `UserError` for random crops or flips: what is cached has been cropped already."""
    if config.crops_at_random or config.flip:
        option = "crop_scale and crop_ratio" if config.crops_at_random else "flip"
        raise UserError(
            f"{where}: expected no random {option} with a cache, found "
            f"crop_scale={config.crop_scale}, crop_ratio={config.crop_ratio}, flip={config.flip}"
        )


def open_sources(config: DataConfig) -> list[Source]:
    """All of `config.sources`.

    Raises `UserError` as `open_source`, for cached and other data in one mixture, for image lists
    where clips are wanted, and, when the gap is fixed, for a clip that is too short.
    """
    sources = [open_source(source, config) for source in config.sources]
    cached = [isinstance(source, CachedSource) for source in sources]
    if any(cached) and not all(cached):
        odd = config.sources[cached.index(False)]
        raise UserError(f"{odd}: expected a cached data set like the others, found another kind")
    for name, source in zip(config.sources, sources, strict=True):
        if source.images and config.frames > 1:
            raise UserError(
                f"{name}: expected videos for {config.frames} frames per example, found single "
                "pictures (set frames to 1 for the image stage)"
            )
        if config.fixed_gap and config.frames > 1:
            _require_length(name, source, clip_span(config.frames, config.stride))
    return sources


def _require_length(name: str, source: Source, span: int) -> None:
    """Of every clip that can be read; others are replaced when they are met."""
    for number in range(len(source)):
        try:
            found = source.frames(number)
        except UserError:
            continue
        if found < span:
            raise UserError(
                f"{name}: {source.name(number)}: expected at least {span} frames, found {found}"
            )


def dataset_fingerprint(config: DataConfig) -> str:
    """Short hash of what the sources hold, wherever they lie; the rest of `config` is not in it."""
    return fingerprint_of(open_sources(config))


def fingerprint_of(sources: Sequence[Source]) -> str:
    """As `dataset_fingerprint`, of sources that are open."""
    return hashed(source.fingerprint() for source in sources)[:16]
