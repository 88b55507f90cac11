"""The weights a run starts from, written into the run once."""

import shutil
from pathlib import Path

import jax
from flax import linen as nn

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, init_component
from realisdance_jax.checkpoints.weights import (
    FORMAT,
    Manifest,
    read_manifest,
    save_component,
    write_manifest,
)
from realisdance_jax.training.setup import Recipe
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.records import to_json


def write_base(base: Path, recipe: Recipe, init: Path | None, seed: int) -> None:
    """Copy the weights folder `init` to `base`, or write fresh networks there.

    Raises `UserError` when the model of `init` is not the configuration's.
    """
    if init is None:
        write_fresh(base, recipe, seed)
        return
    manifest = read_manifest(init)
    if missing := set(ALL_COMPONENTS) - set(manifest.components):
        raise UserError(f"{init}: expected the component {min(missing)}, found none")
    if manifest.model != recipe.model:
        ours, theirs = to_json(recipe.model), to_json(manifest.model)
        key = next(k for k in ours if ours[k] != theirs[k])
        raise UserError(f"{init}: expected {key} {ours[key]} (config.model), found {theirs[key]}")
    with atomic_output(base) as partial:
        shutil.copytree(init, partial)


def write_fresh(folder: Path, recipe: Recipe, seed: int = 0) -> None:
    """A weights folder of freshly initialised networks."""
    key, hashes = jax.random.key(seed), {}
    with atomic_output(folder) as partial:
        partial.mkdir()
        for i, name in enumerate(ALL_COMPONENTS):
            variables = init_component(recipe.model, name, jax.random.fold_in(key, i))
            hashes[name] = save_component(partial, name, nn.unbox(variables))
        manifest = Manifest(FORMAT, recipe.model, recipe.schedule, "image", hashes, ALL_COMPONENTS)
        write_manifest(partial, manifest)
