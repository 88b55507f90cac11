"""From a weights folder back to the official checkpoint, streamed."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from flax import traverse_util

from realisdance_jax.checkpoints.convert.components import model_tables
from realisdance_jax.checkpoints.convert.engine import Leaf
from realisdance_jax.checkpoints.convert.safetensors_io import write_safetensors
from realisdance_jax.checkpoints.weights import (
    Manifest,
    hash_tensors,
    load_component,
    read_manifest,
)
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.lazy import LazyTensor
from realisdance_jax.utils.torch_files.torchzip import write_torch_zip

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")


def convert_to_torch(folder: Path, out: Path, force: bool = False) -> int:
    """Write `out` as the official `.ckpt` (epoch and step kept) or safetensors; returns the count.

    Raises `UserError` for an unknown suffix, a file that exists (unless `force`: it may be the very
    one that the weights were made from), an incomplete folder and changed values.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: expected a name ending in {', '.join(SUFFIXES)}")
    if out.is_dir():
        raise UserError(f"{out}: expected a file to write, found a folder")
    if os.path.lexists(out) and not force:
        raise UserError(f"{out}: expected a new file, found one (--force overwrites it)")
    manifest = read_manifest(folder)
    tensors = official_tensors(folder, manifest)
    steps = {"epoch": manifest.origin.epoch, "global_step": manifest.origin.global_step}
    if out.suffix == ".safetensors":
        write_safetensors(out, tensors, {name: str(value) for name, value in steps.items()})
    else:
        write_torch_zip(out, {**steps, "state_dict": tensors})
    return len(tensors)


def official_tensors(folder: Path, manifest: Manifest) -> dict[str, LazyTensor]:
    """Tensors of all trained components by official name with its prefix, grouped by component.

    Read in this order only one component is in memory at a time.
    """
    if missing := [name for name in COMPONENTS if name not in manifest.components]:
        raise UserError(f"{folder}: expected the component {missing[0]}, found none")
    flat = _last_component(folder, manifest)
    return {
        manifest.origin.prefix + name: LazyTensor(
            leaf.torch_shape, np.dtype(np.float32), partial(_read, flat, component, leaf)
        )
        for component, table in model_tables(manifest.model).items()
        for name, leaf in table.items()
    }


def _read(flat: Callable[[str], dict], component: str, leaf: Leaf) -> np.ndarray:
    return leaf.to_torch(np.asarray(flat(component)[leaf.path]))


def _last_component(folder: Path, manifest: Manifest) -> Callable[[str], dict]:
    """Leaves by path of the component asked for; the one before is dropped first."""
    held: dict[str, dict] = {}

    def flat(component: str) -> dict:
        if component not in held:
            held.clear()
            variables = load_component(folder, manifest, component)
            if hash_tensors(variables) != manifest.components[component]:
                expected = "the tensors of which config.json holds the SHA-256"
                raise UserError(f"{folder / component}: expected {expected}, found others")
            held[component] = traverse_util.flatten_dict(variables)
        return held[component]

    return flat
