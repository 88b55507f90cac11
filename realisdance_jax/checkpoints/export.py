"""The weights of a training run as a weights folder: starting weights, then what training made."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from realisdance_jax.checkpoints.run import BASE, CHECKPOINTS, WEIGHTS, is_run
from realisdance_jax.checkpoints.weights import (
    load_component,
    lone_checkpointer,
    read_manifest,
    save_component,
    write_manifest,
)
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.tree import flatten, unflatten

Say = Callable[[str], None]


def weights_of(folder: str | Path, say: Say = print) -> Path:
    """`folder` if it holds weights; of a training run, those of its last step, written once.

    A run with a moving average gives the average. Raises `UserError` for a run without checkpoints.
    """
    folder = Path(folder)
    if not is_run(folder):
        return folder
    step = last_step(folder)
    target = folder / WEIGHTS / str(step)
    if not target.is_dir():
        kind = export(folder, step, target)
        say(f"{folder}: wrote {kind} of step {step} to {target}")
    return target


def last_step(run: Path) -> int:
    """The last complete step of a run. Raises `UserError` if there is none."""
    try:
        steps = ocp.utils.checkpoint_steps((run / CHECKPOINTS).absolute())
    except (OSError, ValueError):
        steps = []
    if not steps:
        raise UserError(f"{run}: expected a saved step in {CHECKPOINTS}/, found none")
    return max(steps)


def export(run: Path, step: int, out: Path) -> str:
    """Write the weights of `step` to `out`, component by component; says which they are."""
    item = (run / CHECKPOINTS / str(step) / "state").absolute()
    with lone_checkpointer() as checkpointer:
        try:
            tree: Any = checkpointer.metadata(item).item_metadata.tree
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{item}: expected a checkpoint, found {error}") from None
        kind = "ema" if tree.get("ema") else "trainable"
        trained = _read(checkpointer, item, kind, tree[kind])
    manifest = read_manifest(run / BASE)
    hashes = dict(manifest.components)
    with atomic_output(out) as partial:
        partial.mkdir()
        for name in manifest.components:
            variables = load_component(run / BASE, manifest, name)
            if name in COMPONENTS:
                flat = flatten(variables)
                variables = unflatten({path: trained.pop(path, x) for path, x in flat.items()})
            hashes[name] = save_component(partial, name, jax.tree.map(jax.numpy.asarray, variables))
        if trained:
            found = next(iter(trained))
            raise UserError(f"{item}: expected parameters of {run / BASE}, found {found}")
        origin = dataclasses.replace(manifest.origin, global_step=step)
        write_manifest(
            partial, dataclasses.replace(manifest, components=hashes, fresh=(), origin=origin)
        )
    return "the moving average" if kind == "ema" else "the parameters"


def _read(checkpointer: Any, item: Path, kind: str, tree: Any) -> dict[str, np.ndarray]:
    """One part of a saved state as host arrays by path."""
    wanted = {kind: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)}
    restore = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    args = ocp.args.PyTreeRestore(item=wanted, restore_args=restore, partial_restore=True)
    return flatten(checkpointer.restore(item, args=args)[kind])
