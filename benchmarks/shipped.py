"""What `make embedded SHIPPED=1` begins with: weights of the package, not to be trained again.

The motion stage leaves all but motion modules alone, so the image stage is in them, too.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from realisdance_jax.checkpoints.packed import unpack_weights
from realisdance_jax.checkpoints.variables import abstract_component
from realisdance_jax.checkpoints.weights import (
    is_weights_folder,
    load_component,
    read_manifest,
    save_component,
    write_manifest,
)
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.training.parts import PARTS
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.tree import flatten, unflatten


def write_some(source: Path, target: Path, model: RealisDanceConfig, names: Iterable[str]) -> None:
    """Of the weights folder `source` the components `names`, as far as `model` has their leaves."""
    manifest, hashes = read_manifest(source), {}
    with atomic_output(target) as draft:
        draft.mkdir(parents=True)
        for name in names:
            wanted = flatten(dict(abstract_component(model, name)))
            leaves = flatten(load_component(source, manifest, name))
            hashes[name] = save_component(draft, name, unflatten({p: leaves[p] for p in wanted}))
        write_manifest(draft, dataclasses.replace(manifest, model=model, components=hashes))


def is_there(folder: Path) -> bool:
    """Whether the weights are unpacked already; `UserError` for a folder of anything else."""
    if is_weights_folder(folder):
        return True
    if folder.exists():
        raise UserError(f"{folder}: expected unpacked weights or nothing, found another folder")
    return False


def begin_with(files: Mapping[str, Path], ends: Mapping[str, str], out: Path) -> set[str]:
    """Unpack weights into OUT/NAME, their image stages into OUT/ENDS[NAME], and OUT/decoder.

    Returns the names of the steps of the recipe that have nothing left to do.
    Raises `UserError` where there is something else, such as a run that was trained here.
    """
    done: set[str] = set()
    for name, file in files.items():
        whole, image = out / name, out / ends[name]
        if not is_there(whole):
            unpack_weights(file, whole)
        manifest = read_manifest(whole)
        without = dataclasses.replace(manifest.model, motion=None)
        parts = out / "decoder" / "weights"
        for target, names in ((image, manifest.components), (parts, PARTS)):
            if not is_there(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_some(whole, target, without, names)
        done |= {name, ends[name], "parts", "decoder"}
    return done
