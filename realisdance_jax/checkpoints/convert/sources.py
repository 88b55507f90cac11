"""The trained model's files, each opened as {canonical name: lazy tensor}; no values are read.

Canonical names are those of the official checkpoint, of diffusers and of transformers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realisdance_jax.checkpoints.convert.components import is_motion
from realisdance_jax.checkpoints.convert.lazy import (
    LazyTensor,
    one_line,
    shapes_of,
    tensor_count,
    unexpected,
)
from realisdance_jax.checkpoints.convert.legacy_names import MM_V2_HOMELESS
from realisdance_jax.checkpoints.convert.settings import read_json
from realisdance_jax.checkpoints.convert.tensor_files import (
    TensorSource,
    open_component_folder,
    open_tensors,
)
from realisdance_jax.checkpoints.weights import Origin
from realisdance_jax.models.realisdance import COMPONENTS

Tensors = dict[str, LazyTensor]


@dataclass(frozen=True)
class Source:
    """Tensors by canonical name, the settings beside them and what to say about the file."""

    path: Path
    tensors: Tensors
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return shapes_of(self.tensors)


def open_component(path: Path, kind: str) -> tuple[TensorSource, Mapping[str, Any]]:
    """Weights and `config.json` of a component, given as its folder or its file.

    Raises `UserError` for a folder whose `config.json` is of another `kind` (diffusers' class or
    transformers' model type); beside a lone file such settings are not its own and not used.
    """
    source = open_component_folder(path) if path.is_dir() else open_tensors(path)
    settings_path = source.path.parent / "config.json"
    settings = read_json(settings_path)
    found = settings.get("_class_name", settings.get("model_type"))
    if found == kind or (path.is_dir() and found is None):
        return source, settings
    if path.is_dir():
        raise unexpected(settings_path, f"settings of a {kind}", found)
    return source, {}


def stray(names: Iterable[str], what: str) -> list[str]:
    """A note about tensors of a file that are of no use here."""
    names = list(names)
    listed = one_line(", ".join(names))
    return [f"{tensor_count(len(names))} outside {what} not read: {listed}"] * bool(names)


def _first(names: Iterable[str]) -> str:
    return next(iter(names), "no tensors")


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def official_checkpoint(path: Path) -> tuple[Source, Origin]:
    """A RealisDance stage-1 or stage-2 file, with or without `module.`."""
    raw = open_tensors(path)
    bare = raw.without_prefix("module.")
    prefix = "module." if bare is not raw else ""
    if not any(name.startswith(tuple(f"{c}." for c in COMPONENTS)) for name in bare.tensors):
        expected = f"a RealisDance checkpoint ({', '.join(COMPONENTS)})"
        raise unexpected(path, expected, _first(bare.tensors))
    epoch, step = (_whole(raw.extra.get(key)) for key in ("epoch", "global_step"))
    return Source(path, dict(bare.tensors)), Origin(prefix, epoch, step)


def motion_checkpoint(path: Path) -> Source:
    """AnimateDiff motion modules, without the 28 tensors that have no place (parity.md: H11)."""
    raw = open_tensors(path).without_prefix("module.")
    motion = {name: tensor for name, tensor in raw.tensors.items() if is_motion(name)}
    if not any(".temporal_transformer." in name for name in motion):
        expected = "AnimateDiff motion modules (motion_modules.0.temporal_transformer...)"
        raise unexpected(path, expected, _first(motion or raw.tensors))
    homeless = [name for name in MM_V2_HOMELESS if motion.pop(name, None)]
    notes = stray((name for name in raw.tensors if not is_motion(name)), "motion modules")
    if homeless:
        notes.append(
            f"{tensor_count(len(homeless))} of mid_block.motion_modules.0 without a place here"
        )
    return Source(path, motion, {}, tuple(notes))


def image_encoder(path: Path) -> Source:
    """DINOv2 in transformers layout, a folder or a file, also inside a classifier (`dinov2.`)."""
    raw, settings = open_component(path, "dinov2")
    prefix = "dinov2." if any(name.startswith("dinov2.") for name in raw.tensors) else ""
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in raw.tensors.items()
        if name.startswith(prefix)
    }
    if not any(name.startswith("embeddings.") for name in tensors):
        raise unexpected(path, "DINOv2 in transformers layout", _first(raw.tensors))
    notes = stray((name for name in raw.tensors if not name.startswith(prefix)), "dinov2")
    return Source(raw.path, tensors, settings, tuple(notes))
