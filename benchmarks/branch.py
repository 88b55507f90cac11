"""Weights of a variant out of those of the whole model: `python -m benchmarks.branch`.

So a beginning is trained once for ours and its ablations, which then learn on for the same number
of steps each. What a variant lacks is left out, what is new in it is fresh, and of layers with a
part for each condition its conditions' parts are taken. The pose gate is fresh in any case, and so
are the parts of conditions that are to be learned anew.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn

from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.variables import abstract_component, init_component
from realisdance_jax.checkpoints.weights import (
    load_component,
    read_manifest,
    save_component,
    write_manifest,
)
from realisdance_jax.config import apply_variants, base_config
from realisdance_jax.training.optim import ENCODERS, GATE
from realisdance_jax.training.recipe import Recipe
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import UserError, exit_on_user_error
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.tree import flatten, unflatten

FRESH, POSE_GUIDER = f"/{GATE}/", "pose_guider"

CONDITION_AXES = (
    (rf"/{ENCODERS}/.*/kernel$", 3),
    (rf"/{ENCODERS}/.*/bias$", 0),
    (r"/pose_guider/blocks_0\.0/kernel$", 2),
)
"""Of leaves outside the gate that have a part per condition: the axis these lie on."""


def condition_axis(path: str) -> int | None:
    """Axis of the leaf at `path` on which the parts of conditions lie; None where it has none."""
    return next((axis for pattern, axis in CONDITION_AXES if re.search(pattern, path)), None)


def parts_of(leaf: np.ndarray, axis: int, whole: Sequence[str], kept: Sequence[str]) -> np.ndarray:
    """Of `leaf`, whose `axis` holds an equal part for each of `whole`, those of `kept`."""
    shape = leaf.shape
    apart = leaf.reshape(*shape[:axis], len(whole), -1, *shape[axis + 1 :])
    taken = np.take(apart, [whole.index(name) for name in kept], axis)
    return taken.reshape(*shape[:axis], -1, *shape[axis + 1 :])


def branched(leaf: np.ndarray, path: str, whole: Sequence[str], kept: Sequence[str]) -> np.ndarray:
    """`leaf` of a model with the conditions `whole` for one with `kept`."""
    axis = condition_axis(path)
    return leaf if axis is None else parts_of(leaf, axis, whole, kept)


def renewed(
    leaf: np.ndarray, fresh: np.ndarray, path: str, names: Sequence[str], anew: Sequence[str]
) -> np.ndarray:
    """`leaf` of a model with the conditions `names`; the parts of `anew` are those of `fresh`."""
    if (axis := condition_axis(path)) is None:
        return leaf
    new, old = (np.split(x, len(names), axis) for x in (fresh, leaf))
    parts = [new[i] if name in anew else old[i] for i, name in enumerate(names)]
    return np.concatenate(parts, axis)


def write_branch(source: Path, target: Path, recipe: Recipe, anew: Sequence[str] = ()) -> None:
    """Weights folder `target` for `recipe.model` from `source`; `UserError` where none fit.

    anew: conditions whose parts are fresh.
    """
    manifest, model, hashes = read_manifest(source), recipe.model, {}
    whole, kept = manifest.model.pose.conditions, model.pose.conditions
    if manifest.model.motion or not set(kept) <= set(whole):
        raise UserError(f"{source}: expected image-stage weights with {kept}, found others")
    if unknown := [name for name in anew if name not in kept]:
        raise UserError(f"--fresh: expected some of {', '.join(kept)}, found {unknown[0]}")
    with atomic_output(target) as draft:
        draft.mkdir(parents=True)
        for name in manifest.components:
            wanted = flatten(dict(abstract_component(model, name)))
            old = flatten(load_component(source, manifest, name))
            leaves = {
                path: branched(np.asarray(old[path]), path, whole, kept)
                for path in wanted.keys() & old.keys()
                if FRESH not in path
            }
            if odd := [path for path in leaves if leaves[path].shape != wanted[path].shape]:
                found = f"expected {wanted[odd[0]].shape}, found {leaves[odd[0]].shape}"
                raise UserError(f"{source}: {odd[0]}: {found}")
            if len(leaves) < len(wanted) or (anew and name == POSE_GUIDER):
                fresh = flatten(_fresh(recipe, name))
                leaves = fresh | {
                    path: renewed(leaf, np.asarray(fresh[path]), path, kept, anew)
                    for path, leaf in leaves.items()
                }
            hashes[name] = save_component(draft, name, unflatten(leaves))
        write_manifest(draft, dataclasses.replace(manifest, model=model, components=hashes))


def _fresh(recipe: Recipe, name: str) -> dict:
    key = jax.random.key(recipe.seed)
    return nn.unbox(init_component(recipe.model, name, key))


def main() -> None:
    parser = Parser(prog="benchmarks.branch", description=__doc__)
    parser.add_argument("--init", type=Path, required=True, help="run of the image stage")
    parser.add_argument("--variants", required=True, help="of configs/stage1.py, as dancer,no_gate")
    which = "conditions whose encoders are fresh, with commas"
    parser.add_argument("--fresh", default="", metavar="NAMES", help=which)
    parser.add_argument("--out", type=Path, required=True, help="weights folder to write")
    options = parser.parse_args()
    recipe = Recipe.of(apply_variants(base_config(1), options.variants))
    anew = [name for name in options.fresh.split(",") if name]
    write_branch(weights_of(options.init), options.out, recipe, anew)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    exit_on_user_error(main)
