"""Weights of the metric networks: torch files that the user supplies, checked and laid out once.

Numbers of other weights, or of none, would not compare with anything, so nothing stands in for a
file that is missing.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from realisdance_jax.shapes import Array, typechecked
from realisdance_jax.utils.files import existing_file
from realisdance_jax.utils.torch_files.lazy import unexpected
from realisdance_jax.utils.torch_files.torchzip import open_torch_zip

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class WeightFile:
    """What a file of weights must hold.

    title: what the weights are, for messages. source: where they are published.
    shapes: torch names and shapes. ignored: pattern of further names that may be there.
    """

    filename: str
    title: str
    source: str
    shapes: Shapes
    ignored: str = r"(?!)"


@typechecked
def read_weights(path: str | Path, wanted: WeightFile) -> dict[str, Array]:
    """Arrays of `wanted` from a file of torch.save, float32, kernels `... i o`.

    path: the file, or a folder that holds it under its published name.
    Raises `UserError` that names the file when it is missing, is no torch file, or holds other
    names or shapes.
    """
    path = Path(path) / wanted.filename if os.path.isdir(path) else Path(path)
    path = existing_file(path, f"{wanted.title} ({wanted.filename} of {wanted.source})")
    found = {k.removeprefix("module."): v for k, v in open_torch_zip(path).tensors.items()}
    _check(path, wanted, {name: tensor.shape for name, tensor in found.items()})
    return lay_out({name: found[name].read() for name in wanted.shapes})


def _check(path: Path, wanted: WeightFile, found: Shapes) -> None:
    for name, shape in wanted.shapes.items():
        if found.get(name) != shape:
            there = found.get(name, "no such tensor")
            raise unexpected(path, f"{wanted.title}, in it {name} {shape}", there)
    skipped = rf"({wanted.ignored})|.*\.num_batches_tracked"
    for name in found:
        if name not in wanted.shapes and not re.fullmatch(skipped, name):
            raise unexpected(path, f"{wanted.title} and no other tensor", f"{name!r} in it")


@typechecked
def lay_out(state: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Torch tensors as the networks take them: kernels `o i ...` become `... i o`."""
    return {
        name: jnp.asarray(np.moveaxis(x, (1, 0), (-2, -1)) if x.ndim > 2 else x, jnp.float32)
        for name, x in state.items()
    }


def conv_shapes(
    name: str, inputs: int, outputs: int, kernel: tuple[int, ...], bias: bool = False
) -> Shapes:
    """Names and shapes of a convolution."""
    shapes: Shapes = {f"{name}.weight": (outputs, inputs, *kernel)}
    return shapes | ({f"{name}.bias": (outputs,)} if bias else {})


def norm_shapes(name: str, width: int) -> Shapes:
    """Names and shapes of a batch normalisation."""
    return {f"{name}.{p}": (width,) for p in ("weight", "bias", "running_mean", "running_var")}
