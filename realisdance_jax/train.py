"""Train a stage: `python -m realisdance_jax.train --config configs/stage2.py --workdir runs/x`.

The same call again resumes. Who gives the weights, the first that applies: the run's own last
checkpoint; the run's own base; `--init`, a weights folder or another run; fresh networks.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from absl import flags

from realisdance_jax.checkpoints.run import (
    BASE,
    CHECKPOINTS,
    RunCheckpoints,
    check_config,
    store_config,
)
from realisdance_jax.checkpoints.weights import Manifest, is_weights_folder, read_manifest
from realisdance_jax.data.pipeline import Batches, make_batches
from realisdance_jax.evaluation.preview import make_preview
from realisdance_jax.parallel.devices import chip_of
from realisdance_jax.parallel.shard import host_rows
from realisdance_jax.training.base import mark_trained, write_base
from realisdance_jax.training.loop import Meaning, saved_form, train
from realisdance_jax.training.optim import learning_rate
from realisdance_jax.training.program import Program, first_state, load_frozen, make_program
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.training.start import check_start, read_start, store_start
from realisdance_jax.training.step import TrainState
from realisdance_jax.training.work import step_flops
from realisdance_jax.training.writer import RunWriter
from realisdance_jax.utils.compilation import keep_compiled
from realisdance_jax.utils.distributed import (
    abandon,
    check_alike,
    first_host,
    gathered,
    on_all,
    start_distributed,
)
from realisdance_jax.utils.errors import UserError, exit_on_user_error
from realisdance_jax.utils.flags import config_flag, local_path, parse_flags
from realisdance_jax.utils.tree import flatten

FLAGS = flags.FlagValues()
CONFIG = config_flag(FLAGS)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run; the same one again resumes", flag_values=FLAGS
)
INIT = flags.DEFINE_string(
    "init", None, "weights to start from: what convert wrote, or a run", flag_values=FLAGS
)
MOTION = flags.DEFINE_string(
    "motion", None, "AnimateDiff checkpoint, for weights without motion", flag_values=FLAGS
)
ALLOW_CHANGE = flags.DEFINE_bool(
    "allow-config-change", False, "resume with another configuration", flag_values=FLAGS
)
PREEMPT_EXIT_CODE = flags.DEFINE_integer(
    "preempt-exit-code", 0, "exit code after a preemption", flag_values=FLAGS
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0, to start by hand", flag_values=FLAGS
)
PROCESSES = flags.DEFINE_integer(
    "processes", 1, "number of processes, with --coordinator", flag_values=FLAGS
)
PROCESS = flags.DEFINE_integer(
    "process", 0, "number of this process, with --coordinator", flag_values=FLAGS
)


def run() -> int:
    """Train as the flags say; returns the exit code."""
    config, workdir = CONFIG.value, WORKDIR.value
    if config is None or workdir is None:
        raise UserError("expected --config FILE and --workdir FOLDER")
    recipe, folder = Recipe.of(config), local_path("--workdir", workdir)
    for flag in (INIT, MOTION):
        local_path(f"--{flag.name}", flag.value or "")
    keep_compiled()
    start_distributed(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    program = make_program(recipe)  # refuses a mesh or batch before anything is written
    fingerprint, cached = on_all(lambda: _data(program))
    check_alike("data set", fingerprint)
    program = make_program(recipe, cached=cached) if cached else program
    resolved = json.loads(config.to_json_best_effort())
    first_host(lambda: _begin(folder, recipe, resolved), "base")
    manifest = on_all(lambda: read_manifest(folder / BASE))
    if cached:
        on_all(lambda: _check_cache(program, manifest))
    trainable, frozen = load_frozen(program, folder / BASE, manifest)
    checkpoints = RunCheckpoints(folder, recipe.train.save_every, recipe.train.keep)
    check_alike("last checkpoint", checkpoints.latest)
    state, unreadable = _resumed(program, checkpoints, fingerprint)
    if state is None:
        state = first_state(program, trainable)
    del trainable
    first_host(lambda: _go_on(folder, recipe, resolved), "go on")
    manifest = on_all(lambda: read_manifest(folder / BASE))
    batches = _batches(program, int(state.step), unreadable)
    mixture = list(recipe.data.weights)
    fixed = {"seed": recipe.seed, "data": fingerprint, "mixture": mixture, "config": resolved}

    told = set(unreadable)

    def facts() -> dict[str, Any]:
        found = gathered(batches.unreadable)
        for name in found.keys() - told if jax.process_index() == 0 else ():
            print(f"unreadable, replaced: {name}: {found[name]}", flush=True)
        told.update(found)
        batches.check(found)
        return {**fixed, "unreadable": found}

    preview = None
    if recipe.train.preview_every:
        preview = make_preview(folder, program, frozen, manifest)
    if jax.process_index() == 0:
        print("compiling the first step: seconds for small models, else minutes", flush=True)
    try:
        with batches, RunWriter(folder, recipe.train.steps, jax.process_index() == 0) as writer:
            outcome = train(
                program.compiled(),
                state,
                frozen,
                program.batch_sharding,
                batches,
                checkpoints,
                facts,
                recipe.train,
                writer,
                _meaning(program, cached),
                preview,
            )
            checkpoints.close()
    except UserError as error:
        abandon(error)
        with suppress(UserError):
            checkpoints.finish()  # a save that has begun
        raise
    print(f"stopped at step {outcome.step}" + (": preempted" if outcome.preempted else ""))
    return PREEMPT_EXIT_CODE.value if outcome.preempted else 0


def _data(program: Program) -> tuple[str, bool]:
    """Fingerprint of the data, and whether it is cached."""
    with _batches(program, 0) as first:
        return first.fingerprint(), first.cached


def _check_cache(program: Program, manifest: Manifest) -> None:
    """Raise `UserError` unless caches were made by the run's own VAE and image encoder."""
    with _batches(program, 0) as first:
        first.check_encoder(manifest.components)


def _begin(folder: Path, recipe: Recipe, resolved: dict) -> None:
    """The run's folder: sources and configuration compared, or written before its base is.

    So a kill leaves nothing that a later call would take for another run's base.
    """
    init, motion = (Path(x.value) if x.value else None for x in (INIT, MOTION))
    begun = is_weights_folder(folder / BASE)
    if not begun and (folder / CHECKPOINTS).is_dir() and any((folder / CHECKPOINTS).iterdir()):
        raise UserError(f"{folder / BASE}: expected weights beside the checkpoints, found none")
    start = None if begun else read_start(init, motion)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: expected a folder to write ({error.strerror})") from None
    check_config(folder, resolved, ALLOW_CHANGE.value)
    if start is None:
        check_start(folder, init, motion)
        return
    store_start(folder, start)
    store_config(folder, resolved)
    write_base(folder / BASE, recipe, init, motion)


def _go_on(folder: Path, recipe: Recipe, resolved: dict) -> None:
    """What a changed configuration changes, once its state could be restored."""
    mark_trained(folder / BASE, recipe)
    store_config(folder, resolved)


def _batches(program: Program, step: int, unreadable: dict[str, str] | None = None) -> Batches:
    recipe = program.recipe
    workers = recipe.train.workers if unreadable is not None else 0
    return make_batches(
        recipe.data,
        seed=recipe.seed,
        start_step=step,
        rows=host_rows(program.mesh, recipe.data.batch),
        workers=workers,
        unreadable=unreadable,
    )


def _resumed(
    program: Program, checkpoints: RunCheckpoints, fingerprint: str
) -> tuple[TrainState | None, dict[str, str]]:
    """The run's last state and unreadable clips; None before the first save."""
    if checkpoints.latest is None:
        return None, {}
    saved, facts = checkpoints.restore(saved_form(program.state))
    if facts["data"] != fingerprint and not ALLOW_CHANGE.value:
        raise UserError(
            f"{checkpoints.path}: expected the data set {facts['data'][:16]}, found "
            f"{fingerprint[:16]} (--allow-config-change accepts it)"
        )
    print(f"resumed at step {checkpoints.latest}", flush=True)
    trees = {name: flatten(saved[name]) for name in ("trainable", "ema")}
    same = facts["data"] == fingerprint
    return TrainState(**{**saved, **trees}), facts["unreadable"] if same else {}


def _meaning(program: Program, cached: bool) -> Meaning:
    recipe, devices = program.recipe, program.mesh.devices.flat
    chip = chip_of(devices[0].device_kind)
    return Meaning(
        frames=recipe.data.batch * recipe.data.frames,
        timesteps=recipe.schedule.num_train_timesteps,
        lr=learning_rate(recipe.optim, recipe.train.steps),
        flops=step_flops(program, cached) if chip else None,
        peak=chip.flops * program.mesh.size if chip else None,
    )


def main() -> None:
    parse_flags(FLAGS, __doc__)
    sys.exit(run())


if __name__ == "__main__":
    exit_on_user_error(main, stop_on_signals=False)
