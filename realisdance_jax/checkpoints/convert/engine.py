"""The key table: which tensor of a PyTorch file is which leaf, exactly once in both directions.

A leaf's path joined with dots is the PyTorch name, up to the last part (`kernel` and `scale` are
`weight` there), so the table follows from the model's abstract variables; no list of names is kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from realisdance_jax.utils.torch_files.lazy import LazyTensor

Path = tuple[str, ...]

_LEAF_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
_TO_TORCH = {2: (1, 0), 4: (3, 2, 0, 1)}
"""Axes of a kernel by rank: (in, out) -> (out, in) and (h, w, in, out) -> (out, in, h, w)."""


@dataclass(frozen=True)
class Leaf:
    """One tensor: its path (collection first), PyTorch shape and axis order."""

    path: Path
    torch_shape: tuple[int, ...]
    axes: tuple[int, ...] | None

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """A leaf in PyTorch's layout (contiguous)."""
        return np.ascontiguousarray(array if self.axes is None else array.transpose(self.axes))

    def to_jax(self, tensor: np.ndarray) -> np.ndarray:
        """A tensor of the file in our layout (contiguous), float32."""
        if self.axes is not None:
            tensor = tensor.transpose(np.argsort(self.axes))
        return np.ascontiguousarray(tensor, dtype=np.float32)


def torch_name(path: Path) -> str:
    """PyTorch name of the leaf at `path` (without its collection)."""
    *parents, last = ".".join(path).split(".")
    return ".".join([*parents, _LEAF_NAMES.get(last, last)])


def key_table(variables: Mapping, rename: Callable[[Path], str] = torch_name) -> dict[str, Leaf]:
    """Table by PyTorch name of every leaf of abstract or real `variables` ({collection: tree}).

    Raises ValueError when two leaves claim one name.
    """
    table: dict[str, Leaf] = {}
    leaves = cast(Mapping[Path, Any], traverse_util.flatten_dict(dict(variables)))
    for path, leaf in leaves.items():
        name = rename(path[1:])
        is_kernel = path[-1].split(".")[-1] == "kernel"
        axes = _TO_TORCH.get(len(leaf.shape)) if is_kernel else None
        shape = leaf.shape if axes is None else tuple(leaf.shape[i] for i in axes)
        if name in table:
            raise ValueError(f"{name}: claimed by {table[name].path} and {path}")
        table[name] = Leaf(path, tuple(shape), axes)
    return table


def mismatches(table: Mapping[str, Leaf], tensors: Mapping[str, LazyTensor]) -> list[str]:
    """Every way in which the tensors of a file fail to fill `table` exactly once."""
    found = [f"missing {name}" for name in table if name not in tensors]
    found += [f"unexpected {name}" for name in tensors if name not in table]
    found += [
        f"{name}: expected shape {list(leaf.torch_shape)}, found {list(tensors[name].shape)}"
        for name, leaf in table.items()
        if name in tensors and tensors[name].shape != leaf.torch_shape
    ]
    found += [
        f"{name}: expected floating-point numbers, found {tensor.dtype}"
        for name, tensor in tensors.items()
        if name in table and not jnp.issubdtype(tensor.dtype, jnp.floating)
    ]
    return found


def fill(
    table: Mapping[str, Leaf],
    read: Callable[[str], np.ndarray],
    put: Callable[[np.ndarray], Any] = np.asarray,
) -> dict[str, dict]:
    """Variables ({collection: tree}): `put` of every leaf of `table`, read by its PyTorch name."""
    flat = {leaf.path: put(leaf.to_jax(read(name))) for name, leaf in table.items()}
    return traverse_util.unflatten_dict(flat)
