"""One interface to the weight files of the PyTorch world, read without torch."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.checkpoints.convert.safetensors_io import open_safetensors, write_safetensors
from realisdance_jax.shapes import typechecked
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file
from realisdance_jax.utils.torch_files.lazy import LazyTensor, unexpected
from realisdance_jax.utils.torch_files.torchzip import open_torch_zip

__all__ = [
    "COMPONENT_STEMS",
    "LazyTensor",
    "TensorSource",
    "carries_prefix",
    "open_component_folder",
    "open_tensors",
    "write_safetensors",
]

COMPONENT_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
"""How diffusers and transformers call the weights of a component."""

_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class TensorSource:
    """Tensors of a file (or of its shards) by name, each read when asked for.

    extra: what a torch file holds beside its state dict (epoch, global_step, ...), or the text
        metadata of a safetensors file.
    """

    path: Path
    tensors: Mapping[str, LazyTensor]
    extra: Mapping[Any, Any]

    def keys(self) -> list[str]:
        """Names in file order."""
        return list(self.tensors)

    def info(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype (bfloat16 from ml_dtypes) without reading values."""
        return self.tensors[key].shape, self.tensors[key].dtype

    def read(self, key: str) -> np.ndarray:
        """Values of one tensor, read from the file at every call."""
        return self.tensors[key].read()

    def without_prefix(self, prefix: str) -> "TensorSource":
        """The same tensors with `prefix` taken off their names, if all names carry it.

        Raises `UserError` when only some of them do.
        """
        if not carries_prefix(self.tensors, prefix, str(self.path)):
            return self
        return replace(self, tensors={k.removeprefix(prefix): v for k, v in self.tensors.items()})


def carries_prefix(names: Iterable[str], prefix: str, where: str) -> bool:
    """Whether all names start with `prefix` (True) or none (False); `UserError` for a mixture."""
    names = list(names)
    bare = [name for name in names if not name.startswith(prefix)]
    if bare and len(bare) < len(names):
        found = f"{len(bare)} of {len(names)} without it, such as {bare[0]!r}"
        raise unexpected(where, f"the prefix {prefix!r} on all names or on none", found)
    return bool(names) and not bare


@typechecked
def open_tensors(path: str | Path) -> TensorSource:
    """Tensors of a safetensors file, a torch.save file or the index of a sharded one.

    The contents decide, not the suffix. Nothing pickled is run.
    Raises `UserError` for a file of another kind, a damaged one or a missing shard.
    """
    path = existing_file(
        path, "a weight file (.safetensors, .bin, .ckpt, .pt, .pth or .index.json)"
    )
    if re.search(r"\.index(\.\w+)?\.json$", path.name):
        return _open_index(path)
    with open(path, "rb") as file:
        head = file.read(9 + len(_LFS))
    if head.startswith(_LFS):
        raise unexpected(path, "weights", "a Git LFS pointer to them; fetch them: git lfs pull")
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return TensorSource(path, *open_safetensors(path))
    torch_file = open_torch_zip(path)
    return TensorSource(path, torch_file.tensors, torch_file.extra)


def _open_index(path: Path) -> TensorSource:
    try:
        places = json.loads(path.read_text("utf-8"))["weight_map"]
        shards = sorted({place for place in places.values() if Path(place).name == place})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise unexpected(path, "an index with a weight_map", f"a broken one ({error})") from None
    sources = {shard: open_tensors(path.parent / shard) for shard in shards}
    tensors: dict[str, LazyTensor] = {}
    for name, shard in places.items():
        if shard not in sources:
            raise unexpected(path, "shards in its own folder", f"{shard!r} for {name!r}")
        if name not in sources[shard].tensors:
            raise unexpected(path, f"{name!r} in {shard}", "no such tensor there")
        tensors[name] = sources[shard].tensors[name]
    strays = {name for source in sources.values() for name in source.tensors} - tensors.keys()
    if strays:
        found = f"{min(strays)!r} in a shard only"
        raise unexpected(path, "every tensor of its shards listed", found)
    return TensorSource(path, tensors, {})


@typechecked
def open_component_folder(
    folder: str | Path, stem_candidates: Sequence[str] = COMPONENT_STEMS
) -> TensorSource:
    """Weights of a component saved by diffusers or transformers in `folder`.

    Full precision goes before the fp16 variant, safetensors before torch files.
    Raises `UserError` that lists the names looked for when none is there.
    """
    folder = Path(folder)
    names = [
        pattern.format(stem=stem)
        for pattern in (
            *("{stem}.safetensors", "{stem}.safetensors.index.json"),
            *("{stem}.bin", "{stem}.bin.index.json"),
            *("{stem}.fp16.safetensors", "{stem}.safetensors.index.fp16.json"),
            *("{stem}.fp16.bin", "{stem}.bin.index.fp16.json"),
        )
        for stem in stem_candidates
    ]
    found = [name for name in names if (folder / name).is_file()]
    if found:
        return open_tensors(folder / found[0])
    there = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ""
    raise UserError(
        f"{folder}: expected one of {', '.join(names)}, found {there or 'no such folder or none'}"
    )
