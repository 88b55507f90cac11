"""The weights a run starts from, written into the run once."""

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from flax import linen as nn

from realisdance_jax.checkpoints.convert.components import is_motion, model_tables
from realisdance_jax.checkpoints.convert.layers import Layer, check
from realisdance_jax.checkpoints.convert.sources import motion_checkpoint
from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, init_component
from realisdance_jax.checkpoints.weights import (
    FORMAT,
    Manifest,
    load_component,
    read_manifest,
    save_component,
    write_manifest,
)
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.records import to_json
from realisdance_jax.utils.tree import flatten, unflatten

Say = Callable[[str], None]

FROZEN = ("dino", "vae")
"""Parts of a model's configuration whose networks no stage trains."""


def write_base(
    base: Path, recipe: Recipe, init: Path | None, motion: Path | None, say: Say = print
) -> None:
    """Write the starting weights to `base`, whole or not at all.

    init: a weights folder or the folder of a run; None is fresh networks. Of a folder with the VAE
    and the image encoder alone, as `train_parts` writes, the rest is fresh. motion: an AnimateDiff
    checkpoint for the motion modules of the main UNet, for an `init` without any.
    Raises `UserError` when the model of `init` is not the configuration's.
    """
    if init is None:
        say("no --init: all networks start from random values")
        _write_fresh(base, recipe)
        return
    folder = weights_of(init, say)
    manifest = read_manifest(folder)
    _check_fits(folder, manifest, recipe)
    if not trained_parts(manifest):
        if motion is not None:
            raise UserError(f"{motion}: expected trained weights beside --motion, found none")
        say(f"{folder}: {', '.join(manifest.components)}; the others start from random values")
        _write_fresh(base, recipe, folder)
        return
    adds_motion = recipe.model.motion is not None and manifest.model.motion is None
    if motion is not None and not adds_motion:
        has = "has motion modules" if manifest.model.motion else "is an image-stage configuration"
        raise UserError(f"{motion}: expected weights without motion modules, but {init} {has}")
    with atomic_output(base) as partial:
        if not adds_motion:
            shutil.copytree(folder, partial)
            mark_trained(partial, recipe)
            return
        partial.mkdir()
        _add_motion(partial, folder, manifest, recipe, motion, say)


def trained_parts(manifest: Manifest) -> list[str]:
    """Components that training changes."""
    return [name for name in COMPONENTS if name in manifest.components]


def _check_fits(folder: Path, manifest: Manifest, recipe: Recipe) -> None:
    frozen = tuple(name for name in ALL_COMPONENTS if name not in COMPONENTS)
    needed = ALL_COMPONENTS if trained_parts(manifest) else frozen
    if missing := [name for name in needed if name not in manifest.components]:
        hint = "convert with --vae or --base, and --image-encoder"
        raise UserError(f"{folder}: expected the component {missing[0]}, found none ({hint})")
    ours, theirs = to_json(recipe.model), to_json(manifest.model)
    if theirs["motion"] is None:  # nothing there yet that the pose path's setting would shape
        theirs["pose"]["motion"] = ours["pose"]["motion"]
        theirs["motion"] = ours["motion"]
    check_same(folder, ours, theirs, ours if trained_parts(manifest) else FROZEN)


def check_same(folder: Path, ours: Mapping, theirs: Mapping, keys: Iterable[str]) -> None:
    """Raise `UserError` where parts `keys` of two model configurations as JSON differ."""
    for key in keys:
        if ours[key] != theirs[key]:
            raise UserError(
                f"{folder}: expected {key} {ours[key]} (config.model), found {theirs[key]}"
            )


def mark_trained(folder: Path, recipe: Recipe) -> None:
    """Write into the manifest what weights learn when trained as `recipe` says."""
    manifest = read_manifest(folder)
    uncond = _uncond(recipe, manifest.uncond)
    changed = dataclasses.replace(manifest, schedule=recipe.schedule, uncond=uncond)
    write_manifest(folder, changed)


def _uncond(recipe: Recipe, before: Literal["fake", "image"]) -> Literal["fake", "image"]:
    """Examples that are dropped see a zero picture, which the weights then know (parity.md: H4)."""
    return "image" if recipe.loss.drop > 0 else before


def _write_fresh(folder: Path, recipe: Recipe, given: Path | None = None) -> None:
    """All components: those of the weights folder `given`, the others new."""
    hashes = {}
    there = read_manifest(given) if given else None
    with atomic_output(folder) as partial:
        partial.mkdir()
        for name in ALL_COMPONENTS:
            if given and there and name in there.components:
                variables = load_component(given, there, name)
            else:
                variables = _fresh(recipe, name)
            hashes[name] = save_component(partial, name, variables)
        uncond = _uncond(recipe, "fake")
        manifest = Manifest(FORMAT, recipe.model, recipe.schedule, uncond, hashes, ALL_COMPONENTS)
        write_manifest(partial, manifest)


def _fresh(recipe: Recipe, component: str) -> dict:
    """Both UNets have one key and so begin alike, as they do when one base model is given for both.

    So what one makes of a picture, the other knows how to look up.
    """
    number = ALL_COMPONENTS.index("unet_main" if component == "unet_ref" else component)
    key = jax.random.fold_in(jax.random.key(recipe.seed), number)
    return nn.unbox(init_component(recipe.model, component, key))


def _add_motion(
    partial: Path, folder: Path, manifest: Manifest, recipe: Recipe, motion: Path | None, say: Say
) -> None:
    """Image-stage weights with motion modules: the main UNet's from `motion`, the rest fresh."""
    given: dict[str, np.ndarray] = {}
    if motion is None:
        say("no --motion: motion modules start from random values (their last layer from zero)")
    else:
        given = _motion_values(motion, recipe)
        say(f"{motion}: {len(given)} tensors of the main UNet's motion modules")
    hashes = dict(manifest.components)
    pose = recipe.model.pose
    guided = pose.motion and pose.kind != "embedding"
    with_motion = ("unet_main", "pose_guider") if guided else ("unet_main",)
    for name in ALL_COMPONENTS:
        variables = load_component(folder, manifest, name)
        if name in with_motion:
            flat = flatten(_fresh(recipe, name)) | flatten(variables)
            mine = {path: x for path, x in given.items() if path in flat}
            variables = jax.tree.map(jax.numpy.asarray, unflatten(flat | mine))
        hashes[name] = save_component(partial, name, variables)
    fresh = tuple(name for name in with_motion if not (given and name == "unet_main"))
    changed = dataclasses.replace(
        manifest,
        model=recipe.model,
        schedule=recipe.schedule,
        uncond=_uncond(recipe, manifest.uncond),
        components=hashes,
        fresh=fresh,
    )
    write_manifest(partial, changed)


def _motion_values(path: Path, recipe: Recipe) -> dict[str, np.ndarray]:
    """Leaves of the main UNet's motion modules by path."""
    layer = Layer("motion", motion_checkpoint(path), ("unet_main.",), True)
    tables = model_tables(recipe.model)
    check([layer], recipe.model.unet.widths, tables)
    table = {name: leaf for part in COMPONENTS for name, leaf in tables[part].items()}
    tensors = layer.tensors()
    return {
        "/".join(table[name].path): table[name].to_jax(tensors[name].read())
        for name in tensors
        if is_motion(name)
    }
