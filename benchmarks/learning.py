"""Does it learn? Both stages on the synthetic set, and one batch again and again.

`python -m benchmarks.learning` trains the smoke-sized model from random weights and measures the
loss on 64 fixed triples (sample, diffusion time, noise) that no step was trained on.
"""

import argparse
import datetime
import importlib.util
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.curves import plot
from realisdance_jax.checkpoints.weights import read_manifest, save_component, write_manifest
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.training.base import write_base
from realisdance_jax.training.batch import draw
from realisdance_jax.training.loop import to_devices
from realisdance_jax.training.program import Program, first_state, load_frozen, make_program
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.training.step import Frozen, TrainState, loss_fn
from realisdance_jax.utils.errors import exit_on_user_error
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.tree import unflatten

CONFIGS = Path(__file__).parents[1] / "configs"
TRIPLES, HELD_OUT_SEED = 64, 4321
RATE = {1: 1e-3, 2: 1e-3}
STEPS = {1: 300, 2: 300}
REPEATS = 200


def recipe(stage: int) -> Recipe:
    """`configs/stageN.py:smoke` with a rate for a model that starts from nothing."""
    spec = importlib.util.spec_from_file_location("config", CONFIGS / f"stage{stage}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("smoke")
    config.optim.lr = RATE[stage]
    config.train.steps = STEPS[stage]
    return Recipe.of(config)


class Triples:
    """Loss of each of 64 fixed (sample, diffusion time, noise) triples."""

    def __init__(self, program: Program, frozen: Frozen):
        data, loss = program.recipe.data, program.recipe.loss
        self._frozen, networks = frozen, program.networks
        latent = (data.batch, data.frames, data.size[0] // 8, data.size[1] // 8, 4)
        batches = make_batches(data, seed=HELD_OUT_SEED)
        self._inputs = []
        for i in range(TRIPLES // data.batch):
            batch = to_devices(next(batches), program.batch_sharding)
            draws = jax.jit(partial(draw, HELD_OUT_SEED, i, latent, 3, 1000, 0.0, 0.0))()
            self._inputs.append((batch, draws))
        batches.close()

        @jax.jit
        def losses(trainable, frozen, batch, draws):
            one = {"networks": networks, "loss": loss, "frozen": frozen}

            def each(i):
                pick = jax.tree.map(lambda x: x[i][None], (batch, draws))
                return loss_fn(trainable, one["networks"], one["loss"], one["frozen"], *pick)[0]

            return jax.lax.map(each, np.arange(data.batch))

        self._losses = losses

    def __call__(self, state: TrainState) -> np.ndarray:
        """`64` losses at the parameters of `state`."""
        parts = [self._losses(state.trainable, self._frozen, *x) for x in self._inputs]
        return np.concatenate([np.asarray(part) for part in parts])


def run_stage(stage: int, base: Path, every: int = 10) -> dict[str, Any]:
    """Train from `base`; losses on the triples and on the batches, and the last parameters."""
    program = make_program(recipe(stage), jax.devices()[:1])
    trainable, frozen = load_frozen(program, base, read_manifest(base))
    state, step = first_state(program, trainable), program.compiled()
    triples = Triples(program, frozen)
    batches = make_batches(program.recipe.data, seed=program.recipe.seed)
    at, held, losses = [0], [triples(state)], []
    for i in tqdm(range(1, STEPS[stage] + 1), f"stage {stage}"):
        batch = to_devices(next(batches), program.batch_sharding)
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
        if i % every == 0:
            at.append(i)
            held.append(triples(state))
    batches.close()
    return {
        "at": at,
        "held": np.stack(held),
        "losses": losses,
        "parameters": {**frozen.model, **state.trainable},
    }


def run_repeated(base: Path) -> list[float]:
    """One batch with its draws, 200 times: the loss of each step."""
    program = make_program(recipe(1), jax.devices()[:1])
    trainable, frozen = load_frozen(program, base, read_manifest(base))
    state, step = first_state(program, trainable), program.compiled()
    with make_batches(program.recipe.data, seed=0) as batches:
        batch = to_devices(next(batches), program.batch_sharding)
    losses = []
    for _ in tqdm(range(REPEATS), "one batch"):
        state, metrics = step(state._replace(step=jax.numpy.int32(0)), frozen, batch)
        losses.append(float(metrics["loss"]))
    return losses


def keep(parameters: dict, base: Path, out: Path) -> None:
    """A weights folder of `base` with the trained `parameters`."""
    manifest = read_manifest(base)
    tree = unflatten(parameters)
    with atomic_output(out) as partial_folder:
        partial_folder.mkdir()
        for name in manifest.components:
            if name in COMPONENTS:
                part = {kind: {name: x[name]} for kind, x in tree.items() if name in x}
                manifest.components[name] = save_component(partial_folder, name, part)
            else:
                source = base / name
                (partial_folder / name).symlink_to(source.absolute())
        write_manifest(partial_folder, manifest)


def verdicts(image: dict, video: dict, repeated: list[float]) -> dict[str, Any]:
    """The figures the issue of learning is about."""
    means = {stage: run["held"].mean(1) for stage, run in (("image", image), ("video", video))}
    at_ten = image["at"].index(10)
    gained = video["held"][0] - video["held"][-1]
    return {
        "stage 1, step 300 / step 10": float(means["image"][-1] / means["image"][at_ten]),
        "stage 2, start - end": float(gained.mean()),
        "stage 2, standard error": float(gained.std(ddof=1) / np.sqrt(len(gained))),
        "stage 2, start": float(means["video"][0]),
        "one batch, step 200 / step 1": repeated[-1] / repeated[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.learning", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    out = parser.parse_args().out
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fresh, first, second = (Path(folder) / name for name in ("fresh", "first", "second"))
        write_base(fresh, recipe(1), None, None)
        repeated = run_repeated(fresh)
        image = run_stage(1, fresh)
        keep(image["parameters"], fresh, first)
        write_base(second, recipe(2), first, None)
        video = run_stage(2, second)
    found = verdicts(image, video, repeated)
    held = {name: (run["at"], run["held"].mean(1)) for name, run in (("stage 1", image),)}
    held["stage 2"] = (video["at"], video["held"].mean(1))
    axes = ("step", "loss")
    plot(out / "learning.png", "loss on 64 fixed triples", held, axes)
    steps = list(range(1, REPEATS + 1))
    plot(out / "one_batch.png", "one batch repeated", {"stage 1": (steps, repeated)}, axes)
    record = {
        **found,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "date": str(datetime.date.today()),
        "seconds": round(time.perf_counter() - started),
        "rates": RATE,
    }
    text = json.dumps(record, indent=1)
    print(text)
    with atomic_output(out / "learning.json") as path:
        path.write_text(text + "\n")


if __name__ == "__main__":
    exit_on_user_error(main)
