"""The trained model's files, each opened as {canonical name: lazy tensor}; no values are read.

Canonical names are those of the official checkpoint, of diffusers and of transformers.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.checkpoints.convert.components import is_motion
from realisdance_jax.checkpoints.convert.legacy_names import MM_V2_HOMELESS
from realisdance_jax.checkpoints.convert.settings import read_json
from realisdance_jax.checkpoints.convert.tensor_files import (
    TensorSource,
    open_component_folder,
    open_tensors,
)
from realisdance_jax.checkpoints.weights import Origin
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.torch_files.lazy import (
    LazyTensor,
    one_line,
    shapes_of,
    tensor_count,
    unexpected,
)

Tensors = dict[str, LazyTensor]

_COUNTERS = ("epoch", "global_step")
_MASK = "embeddings.mask_token"


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
    source = open_component_folder(path) if os.path.isdir(path) else open_tensors(path)
    settings_path = source.path.parent / "config.json"
    settings = read_json(settings_path)
    found = settings.get("_class_name", settings.get("model_type"))
    if found == kind or (os.path.isdir(path) and found is None):
        return source, settings
    if os.path.isdir(path):
        raise unexpected(settings_path, f"settings of a {kind}", found)
    return source, {}


def stray(names: Iterable[str], what: str) -> list[str]:
    """A note about tensors of a file that are of no use here."""
    names = list(names)
    listed = one_line(", ".join(names))
    return [f"{tensor_count(len(names))} outside {what} not read: {listed}"] * bool(names)


def beside(source: TensorSource) -> list[str]:
    """A note about tensors that a torch file holds in other entries than its state dict."""
    others = {key: value for key, value in source.extra.items() if key not in _COUNTERS}
    found = {str(key): count for key, value in others.items() if (count := _tensors_in(value))}
    listed = one_line(", ".join(found))
    note = f"{tensor_count(sum(found.values()))} beside the state dict not read: {listed}"
    return [note] * bool(found)


def _tensors_in(value: Any) -> int:
    """How many tensors nested plain data hold; what stands in two places counts once."""
    waiting, seen = [value], {}
    while waiting:
        item = waiting.pop()
        if id(item) not in seen:
            seen[id(item)] = item
            nested = item.values() if isinstance(item, dict) else item
            waiting.extend(nested if isinstance(item, dict | list | tuple | set) else ())
    return sum(isinstance(item, LazyTensor) for item in seen.values())


def _first(names: Iterable[str]) -> str:
    return next(iter(names), "no tensors")


def _counter(raw: TensorSource, key: str) -> int:
    """A whole number beside the tensors, also as a scalar tensor or as text; 0 where absent."""
    value = raw.extra.get(key)
    if isinstance(value, LazyTensor) and value.shape in ((), (1,)):
        value = value.read().item()
    elif isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if value is None:
        return 0
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    if type(value) is not int:
        found = f"a {type(value).__name__} {value!s:.80}"
        raise unexpected(raw.path, f"a whole number as {key}", found)
    return value


def official_checkpoint(path: Path) -> tuple[Source, Origin]:
    """A RealisDance stage-1 or stage-2 file, with or without `module.`."""
    raw = open_tensors(path)
    bare = raw.without_prefix("module.")
    prefix = "module." if bare is not raw else ""
    if not any(name.startswith(tuple(f"{c}." for c in COMPONENTS)) for name in bare.tensors):
        expected = f"a RealisDance checkpoint ({', '.join(COMPONENTS)})"
        raise unexpected(path, expected, _first(bare.tensors))
    epoch, step = (_counter(raw, key) for key in _COUNTERS)
    return Source(path, dict(bare.tensors), {}, tuple(beside(raw))), Origin(prefix, epoch, step)


def motion_checkpoint(path: Path) -> Source:
    """AnimateDiff motion modules, without the 28 tensors that have no place (parity.md: H11)."""
    raw = open_tensors(path).without_prefix("module.")
    motion = {name: tensor for name, tensor in raw.tensors.items() if is_motion(name)}
    if not any(".temporal_transformer." in name for name in motion):
        expected = "AnimateDiff motion modules (motion_modules.0.temporal_transformer...)"
        raise unexpected(path, expected, _first(motion or raw.tensors))
    homeless = [name for name in MM_V2_HOMELESS if motion.pop(name, None)]
    notes = stray((name for name in raw.tensors if not is_motion(name)), "motion modules")
    notes += beside(raw)
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
    notes += beside(raw)
    token = tensors.get("embeddings.cls_token")
    if _MASK not in tensors and token is not None and token.shape:
        tensors[_MASK] = LazyTensor.of(np.zeros((1, token.shape[-1]), np.float32))
        notes.append(f"{_MASK} is absent: zeros instead, which nothing uses")
    return Source(raw.path, tensors, settings, tuple(notes))
