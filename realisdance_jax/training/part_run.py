"""A run that trains the VAE and the image encoder, one after the other, and can be resumed."""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh

from realisdance_jax.checkpoints.run import BASE, RunCheckpoints
from realisdance_jax.checkpoints.variables import init_component
from realisdance_jax.checkpoints.weights import (
    FORMAT,
    Manifest,
    is_weights_folder,
    load_component,
    read_manifest,
    save_component,
    write_manifest,
)
from realisdance_jax.data.cached import CachedSource
from realisdance_jax.data.catalogue import open_sources
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.pipeline import Batches, make_batches
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.vae import VAE
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.parallel.shard import batch_sharding, check_batch, replicated
from realisdance_jax.training.base import FROZEN, check_same
from realisdance_jax.training.loop import saved_form, to_devices
from realisdance_jax.training.optim import OptimConfig, make_optimizer
from realisdance_jax.training.parts import (
    DECODER,
    DECODER_PATHS,
    PARTS,
    Part,
    PartConfig,
    latent_statistics,
    make_part_step,
    normalised,
)
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.training.step import TrainState
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.records import to_json
from realisdance_jax.utils.tree import Flat, flatten, split, unflatten

SETTINGS, CURVES, WEIGHTS = "parts.json", "curve.tsv", "weights"
MEASURED = 20
"""Batches whose latents are measured before they are normalised."""


def train_parts(
    recipe: Recipe,
    config: PartConfig,
    folder: Path,
    devices: list | None = None,
    init: Path | None = None,
) -> Path:
    """Train both networks of `recipe.model`; returns the weights folder, which `--init` takes.

    Folder: parts.json, base/ (fresh networks), vae/ and image_encoder/ (checkpoints and curve.tsv),
    weights/ in the end. The same call again resumes. On one host, on `devices` (all by default).
    init: a weights folder with both, of which the VAE's decoder alone learns on (decoder/): latents
    and all that was trained on them stay valid.
    Raises `UserError` for another configuration than the folder's, and for data without pictures.
    """
    if is_weights_folder(folder / WEIGHTS):
        _check_settings(folder, recipe, config, init)
        return folder / WEIGHTS
    mesh = make_mesh({"data": -1}, devices)
    parts: tuple[Part, ...] = PARTS if init is None else (DECODER,)
    for part in parts:
        check_batch(mesh, config.batch(part), 1)
    _check_crop(recipe, config)
    given = None if init is None else _given(recipe, init)
    _check_data(recipe, config)
    _check_settings(folder, recipe, config, init)
    if not is_weights_folder(folder / BASE):
        _write(folder / BASE, recipe, given or {part: _fresh(recipe, part) for part in PARTS})
    trained: dict[Part, dict]
    trained = {part: _train(part, recipe, config, folder, mesh) for part in parts}
    if init is not None:
        trained = {**_given(recipe, folder / BASE), "vae": trained[DECODER]}
    _write(folder / WEIGHTS, recipe, trained)
    return folder / WEIGHTS


def _given(recipe: Recipe, init: Path) -> dict[Part, dict]:
    """Both networks of a weights folder, which must be those of the recipe."""
    manifest = read_manifest(init)
    check_same(init, to_json(recipe.model), to_json(manifest.model), FROZEN)
    return {part: load_component(init, manifest, part) for part in PARTS}


def _check_crop(recipe: Recipe, config: PartConfig) -> None:
    factor, most = VAE(recipe.model.vae).factor, min(recipe.data.size)
    if config.crop % factor or config.crop > most:
        expected = f"a multiple of {factor} up to {most}, or 0 for whole pictures"
        raise UserError(f"crop: expected {expected}, found {config.crop}")


def _fresh(recipe: Recipe, part: Part) -> dict:
    key = jax.random.fold_in(jax.random.key(recipe.seed), PARTS.index(part))
    return nn.unbox(init_component(recipe.model, part, key))


def _write(folder: Path, recipe: Recipe, parts: Mapping[Part, dict]) -> None:
    """A weights folder of the two networks alone."""
    with atomic_output(folder) as draft:
        draft.mkdir()
        hashes = {str(name): save_component(draft, name, tree) for name, tree in parts.items()}
        write_manifest(draft, Manifest(FORMAT, recipe.model, recipe.schedule, components=hashes))


def _check_settings(folder: Path, recipe: Recipe, config: PartConfig, init: Path | None) -> None:
    """Compare with what the folder was begun with, or write it."""
    data = {"sources": recipe.data.sources, "size": recipe.data.size}
    data |= {"decoder_of": None if init is None else read_manifest(init).weight_hash}
    model = {"dino": to_json(recipe.model.dino), "vae": to_json(recipe.model.vae)}
    ours = json.loads(json.dumps({**to_json(config), **data, **model, "seed": recipe.seed}))
    path = folder / SETTINGS
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: expected a folder to write ({error.strerror})") from None
        with atomic_output(path) as partial:
            partial.write_text(json.dumps(ours, indent=1) + "\n", "utf-8")
        return
    try:
        theirs = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: expected JSON, found {error}") from None
    if not isinstance(theirs, dict):
        raise UserError(f"{path}: expected the run's settings, found none")
    for key in ours:
        if ours[key] != theirs.get(key):
            raise UserError(
                f"{folder}: expected the run's own {key}, {theirs.get(key)}, found {ours[key]}"
            )


def picture_data(data: DataConfig, batch: int) -> DataConfig:
    """Pairs of frames, and where the hands are, with nothing wrong about them in drawn sources.

    A packed data set has its corruptions in it; hands then weigh more in some wrong places.
    """
    true = (0.0, 0.0, 0.0)
    hands = data.conditions if "hamer" not in data.conditions else ("hamer",)
    return dataclasses.replace(data, frames=1, batch=batch, conditions=hands, corruption=true)


def _check_data(recipe: Recipe, config: PartConfig) -> None:
    """Raise `UserError` unless all sources have pictures."""
    data = picture_data(recipe.data, config.vae_batch)
    if any(isinstance(source, CachedSource) for source in open_sources(data)):
        found = ", ".join(data.sources)
        raise UserError(f"config.data.sources: expected pictures, found a cache ({found})")


def _batches(recipe: Recipe, config: PartConfig, part: Part, step: int) -> Batches:
    data = picture_data(recipe.data, config.batch(part))
    return make_batches(data, seed=recipe.seed, start_step=step, workers=recipe.train.workers)


def _train(part: Part, recipe: Recipe, config: PartConfig, folder: Path, mesh: Mesh) -> dict:
    """Variables of one network after its last step, the moving average."""
    whole, rows = replicated(mesh), batch_sharding(mesh)
    steps = config.steps(part)
    rule = OptimConfig("muon", config.lr, schedule="cosine", warmup_steps=config.warmup_steps)
    optimizer = make_optimizer(rule, steps)
    network = DinoV2(recipe.model.dino) if part == "image_encoder" else VAE(recipe.model.vae)
    step_function = jax.jit(
        make_part_step(part, network, config, optimizer, recipe.seed),
        in_shardings=(whole, rows, whole),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )
    (folder / part).mkdir(exist_ok=True)
    checkpoints = RunCheckpoints(folder / part, config.save_every, 1)
    trainable, frozen = _start(part, folder, whole)
    state = _state(part, trainable, optimizer, checkpoints, whole)
    with _batches(recipe, config, part, int(state.step)) as batches:
        curve = _Curve(part, steps, config.log_every, folder / part / CURVES)
        for step in range(int(state.step) + 1, steps + 1):
            state, told = step_function(state, to_devices(next(batches), rows), frozen)
            curve.add(step, told)
            if checkpoints.due(step) or step == steps:
                checkpoints.save(step, saved_form(state), {"part": part})
        checkpoints.close()
        variables = unflatten(jax.tree.map(jnp.asarray, {**frozen, **state.ema}))
        if part == "vae" and isinstance(network, VAE):
            params = _normal(network, variables["params"], batches)
            variables = {"params": params}
    return variables


def _start(part: Part, folder: Path, whole: Any) -> tuple[Flat, Flat]:
    """What trains and what does not, with the values of the base."""
    component = "vae" if part == DECODER else part
    manifest = read_manifest(folder / BASE)
    flat = flatten(load_component(folder / BASE, manifest, component, sharding=whole))
    trains = [path for path in flat if part != DECODER or path.startswith(DECODER_PATHS)]
    return split(flat, trains)


def _state(
    part: Part,
    flat: Flat,
    optimizer: optax.GradientTransformation,
    checkpoints: RunCheckpoints,
    whole: Any,
) -> TrainState:
    """The last one saved, or the first one."""
    zero = jax.device_put(jnp.int32(0), whole)
    moments = jax.jit(optimizer.init, out_shardings=whole)(flat)
    state = TrainState(zero, flat, moments, jax.tree.map(jnp.copy, flat), jnp.copy(zero))
    if checkpoints.latest is None:
        return state
    form = saved_form(state)
    saved, _ = checkpoints.restore(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), form)
    )
    print(f"{part}: resumed at step {checkpoints.latest}", flush=True)
    trees = {name: flatten(saved[name]) for name in ("trainable", "ema")}
    return TrainState(**{**saved, **trees})


def _normal(vae: VAE, params: dict, batches: Batches) -> dict:
    """With latents normalised by what `batches` go on to give."""
    measure = jax.jit(lambda p, x: latent_statistics(vae, p, x))
    found = [measure(params, jnp.asarray(next(batches)["reference"])) for _ in range(MEASURED)]
    mean, square = (jnp.stack(values).mean(axis=0) for values in zip(*found, strict=True))
    return normalised(params, mean, jnp.sqrt(square - mean**2), vae.config.scaling)


class _Curve:
    """Means over `every` steps: on the console, and in a file with a row for each."""

    def __init__(self, part: Part, steps: int, every: int, path: Path):
        self.part, self.steps, self.every, self.path = part, steps, every, path
        self._told: list[Mapping[str, Any]] = []
        self._since = time.perf_counter()

    def add(self, step: int, told: Mapping[str, Any]) -> None:
        self._told.append(told)
        if step % self.every and step != self.steps:
            return
        rows = jax.device_get(self._told)
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        if not np.isfinite(means["loss"]):
            raise UserError(f"{self.part}: step {step}: expected a finite loss, found none")
        seconds = (time.perf_counter() - self._since) / len(rows)
        text = "  ".join(f"{name} {value:.4f}" for name, value in means.items() if name != "bad")
        print(f"{self.part} {step}/{self.steps}  {text}  {seconds:.2f} s/step", flush=True)
        new = not self.path.exists()
        with self.path.open("a", encoding="utf-8") as file:
            if new:
                file.write("\t".join(["step", *means]) + "\n")
            file.write("\t".join([str(step), *(f"{value:.6g}" for value in means.values())]) + "\n")
        self._told, self._since = [], time.perf_counter()
