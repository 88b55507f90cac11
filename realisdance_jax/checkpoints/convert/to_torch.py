"""From a weights folder back to the official checkpoint, streamed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flax import traverse_util

from realisdance_jax.checkpoints.convert.components import model_tables
from realisdance_jax.checkpoints.convert.engine import Leaf
from realisdance_jax.checkpoints.convert.tensor_files import LazyTensor, write_safetensors
from realisdance_jax.checkpoints.convert.torchzip import write_torch_zip
from realisdance_jax.checkpoints.weights import Manifest, load_component, read_manifest
from realisdance_jax.utils.errors import UserError

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")


class _OneComponent:
    """Leaves of a weights folder; holds the component last asked for."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder, self.manifest = folder, manifest
        self.component, self.flat = "", {}

    def read(self, component: str, leaf: Leaf) -> np.ndarray:
        if component != self.component:
            self.flat = {}
            variables = load_component(self.folder, self.manifest, component)
            self.component, self.flat = component, traverse_util.flatten_dict(variables)
        return leaf.to_torch(np.asarray(self.flat[leaf.path]))


def official_tensors(folder: Path, manifest: Manifest) -> Iterator[tuple[str, LazyTensor]]:
    """(official name with its prefix, tensor) of all trained components, component by component."""
    loader, prefix = _OneComponent(folder, manifest), manifest.origin.prefix
    for component, table in model_tables(manifest.model).items():
        if component not in manifest.components:
            raise UserError(f"{folder}: expected the component {component}, found none")
        for name, leaf in table.items():

            def read(component: str = component, leaf: Leaf = leaf) -> np.ndarray:
                return loader.read(component, leaf)

            tensor = LazyTensor(leaf.torch_shape, np.dtype(np.float32), read)
            yield prefix + name, tensor


def convert_to_torch(folder: Path, out: Path) -> int:
    """Write `out` as the official `.ckpt` (epoch and step kept) or safetensors; returns the count.

    Raises `UserError` for an unknown suffix or an incomplete folder.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: expected a name ending in {', '.join(SUFFIXES)}")
    manifest = read_manifest(folder)
    tensors = dict(official_tensors(folder, manifest))
    origin = manifest.origin
    if out.suffix == ".safetensors":
        notes = {"epoch": str(origin.epoch), "global_step": str(origin.global_step)}
        write_safetensors(out, tensors, notes)
    else:
        state = {"epoch": origin.epoch, "global_step": origin.global_step, "state_dict": tensors}
        write_torch_zip(out, state)
    return len(tensors)
