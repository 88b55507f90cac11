"""From what users have to a weights folder, component by component."""

import math
import os
import shutil
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from realisdance_jax.checkpoints.convert.engine import fill
from realisdance_jax.checkpoints.convert.plan import Draft, Part, Request, Say, plan
from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, init_component
from realisdance_jax.checkpoints.weights import (
    CONFIG,
    FORMAT,
    Manifest,
    is_weights_folder,
    save_component,
    write_manifest,
)
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.torch_files.lazy import tensor_count


def convert_to_jax(request: Request, out: Path, seed: int = 0, say: Say = print) -> Manifest:
    """`plan`, then `write`. Raises `UserError` before reading if `out` is not to be replaced."""
    check_replaceable(out, request)
    return write(plan(request, say), out, seed, say)


def check_replaceable(out: Path, request: Request) -> None:
    """Raise `UserError` unless `out` is new, empty or a weights folder without anything else in it.

    Files of `request` are no part of a weights folder wherever they lie in it.
    """
    expected = f"{out}: expected a new, empty or weights folder to write, found"
    if not out.is_dir():
        if os.path.lexists(out):
            raise UserError(f"{expected} a file")
        return
    there = sorted(path.name for path in out.iterdir())
    if there and not is_weights_folder(out):
        raise UserError(f"{expected} a folder with other things in it")
    if others := [name for name in there if name not in (CONFIG, *ALL_COMPONENTS)]:
        raise UserError(f"{expected} {others[0]} beside the weights")
    inputs = [path for path in vars(request).values() if path is not None]
    for path in inputs:
        if path.resolve().is_relative_to(out.resolve()):
            raise UserError(f"{expected} {path} in it, which is to be read")


def write(draft: Draft, out: Path, seed: int = 0, say: Say = print) -> Manifest:
    """Write the weights folder `out`, whole or not at all; one component is in memory at a time."""
    hashes: dict[str, str] = {}
    with atomic_output(out) as folder:
        folder.mkdir()
        _check_space(draft, folder)
        for component, part in draft.parts.items():
            key = jax.random.fold_in(jax.random.key(seed), ALL_COMPONENTS.index(component))
            # No name for the variables: the next component is read when these are gone.
            hashes[component] = save_component(
                folder, component, _variables(draft.config, component, part, key)
            )
            say(f"wrote {component}: {tensor_count(len(part.table))}")
        manifest = Manifest(
            format=FORMAT,
            model=draft.config,
            schedule=draft.schedule,
            components=hashes,
            fresh=tuple(component for component, part in draft.parts.items() if part.fresh),
            origin=draft.origin,
            sources=draft.sources,
        )
        return write_manifest(folder, manifest)


def _check_space(draft: Draft, folder: Path) -> None:
    leaves = (leaf for part in draft.parts.values() for leaf in part.table.values())
    needed = 4 * sum(math.prod(leaf.torch_shape) for leaf in leaves)
    free = shutil.disk_usage(folder).free
    if free < needed:
        where = folder.parent.parent
        raise UserError(
            f"{where}: expected {needed / 1e9:.2f} GB of free space, found {free / 1e9:.2f}"
        )


def _variables(config: RealisDanceConfig, component: str, part: Part, key: jax.Array) -> dict:
    """Variables of one component, float32, read tensor by tensor into device arrays."""
    new = _fresh(config, component, {part.table[name].path for name in part.fresh}, key)

    def read(name: str) -> np.ndarray:
        if name in part.tensors:
            return part.tensors[name].read()
        leaf = part.table[name]
        return leaf.to_torch(np.asarray(new[leaf.path]))

    return fill(part.table, read, jax.device_put)


def _fresh(
    config: RealisDanceConfig, component: str, paths: set[tuple[str, ...]], key: jax.Array
) -> dict[tuple[str, ...], jax.Array]:
    """Initial values of the leaves at `paths`; only these are computed."""
    if not paths:
        return {}

    def init() -> dict:
        variables = traverse_util.flatten_dict(nn.unbox(init_component(config, component, key)))
        return {path: variables[path] for path in paths}

    return jax.jit(init)()
