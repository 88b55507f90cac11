"""Training steps with random weights: `python -m benchmarks.train --preset tiny|small|full`.

Both stages as `configs/` has them, on one device, from pictures: the VAE and DINOv2 are part of the
step and of its FLOPs. Pictures are noise.
"""

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import (
    Report,
    Row,
    finish,
    machine,
    make_parser,
    parse,
    peak_of,
    program_bytes,
    seconds_of,
)
from benchmarks.presets import PRESETS, Preset
from realisdance_jax.checkpoints.random_weights import random_variables
from realisdance_jax.config import base_config
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.training.program import Program, batch_shapes, first_state, make_program
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.training.step import Frozen, TrainState
from realisdance_jax.training.work import step_flops
from realisdance_jax.utils.errors import exit_on_user_error
from realisdance_jax.utils.tree import Flat, flatten


def make_recipe(preset: Preset, stage: int) -> Recipe:
    """The stage's configuration with the preset's model, size and batch."""
    recipe = Recipe.of(base_config(stage))
    frames = preset.train_frames if stage == 2 else 1
    motion = preset.model.motion if stage == 2 else None
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(preset.model, motion=motion),
        data=dataclasses.replace(
            recipe.data, batch=preset.batches[stage], frames=frames, size=preset.size
        ),
        train=dataclasses.replace(recipe.train, dtype=preset.dtype, remat=preset.remat),
        mesh={"data": 1},
    )


def _placed(values: dict, shapes: Any) -> Any:
    def place(x: np.ndarray, leaf: Any) -> jax.Array:
        return jax.device_put(jnp.asarray(x, leaf.dtype), leaf.sharding)

    return jax.tree.map(place, values, shapes)


def make_values(program: Program) -> tuple[TrainState, Frozen]:
    """Random weights where the program wants them."""
    model, flat = program.recipe.model, {}
    for i, name in enumerate(COMPONENTS):
        flat |= flatten(random_variables(model, name, i))

    def chosen(shapes: Flat) -> Flat:
        return _placed({path: flat[path] for path in shapes}, dict(shapes))

    dino = _placed(random_variables(model, "image_encoder", 4), program.frozen.dino)
    vae = _placed(random_variables(model, "vae", 5)["params"], program.frozen.vae)
    frozen = Frozen(chosen(program.frozen.model), dino, vae)
    return first_state(program, chosen(program.state.trainable)), frozen


def make_batch(program: Program) -> dict[str, jax.Array]:
    """Noise of the shapes of a batch of pictures."""
    random = np.random.default_rng(0)
    shapes = batch_shapes(program, cached=False)
    return {
        name: jax.device_put(random.random(leaf.shape, np.float32), leaf.sharding)
        for name, leaf in shapes.items()
    }


def stage_row(preset: Preset, stage: int, runs: int) -> Row:
    """The jitted step, which takes over the memory of the state it is given."""
    program = make_program(make_recipe(preset, stage), jax.devices()[:1])
    state, frozen = make_values(program)
    batch = make_batch(program)
    step = program.compiled().lower(state, frozen, batch).compile()

    def once() -> Any:
        nonlocal state
        state, told = step(state, frozen, batch)
        return told

    jax.block_until_ready(once())
    peak = peak_of(once)
    seconds = seconds_of(once, runs)
    data = program.recipe.data
    label = f"stage {stage}, batch {data.batch} x {data.frames} frames"
    more = {"temporaries GiB": program_bytes(step) / 2**30}
    return Row(label, seconds, step_flops(program, cached=False), peak, more)


def run(name: str, options: argparse.Namespace) -> Report:
    """All measurements of a preset."""
    preset = PRESETS[name]
    device = machine(preset.dtype)
    # The second stage first: the device's peak is that of all so far, and the first needs more.
    stages = sorted(options.stages, reverse=True)
    rows = [stage_row(preset, stage, options.runs) for stage in stages]
    settings = {
        "size": f"{preset.size[0]}x{preset.size[1]}",
        "optimizer": "adamw",
        "remat": preset.remat,
        "attention": "auto",
    }
    return Report("train", name, settings, device, rows, {})


def main() -> None:
    parser = make_parser("train", __doc__)
    parser.add_argument("--stages", type=int, nargs="+", choices=(1, 2), default=[1, 2])
    options = parse(parser)
    finish(run(options.preset, options), options)


if __name__ == "__main__":
    exit_on_user_error(main)
