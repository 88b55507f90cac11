"""Are the weights whole, of the sizes they say, and fit for this clip?"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, abstract_component
from realisdance_jax.checkpoints.weights import (
    CONFIG,
    Manifest,
    hash_tensors,
    load_component,
    read_manifest,
    stored_files,
)
from realisdance_jax.checks.case import Case
from realisdance_jax.checks.findings import Finding, error, note, warning
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.utils.errors import UserError

_OPTION = {"image_encoder": "--image-encoder", "vae": "--vae or --base"}
_CONVERT = "`python -m realisdance_jax.convert to-jax`"


def open_weights(folder: Path | None) -> tuple[Manifest | None, list[Finding]]:
    """`config.json` of the folder, None if it cannot be read, and what is wrong with it."""
    if folder is None:
        return None, [note("weights", "weights and memory", "not checked", "give --weights")]
    if not (folder / CONFIG).is_file():
        found = f"expected a weights folder with {CONFIG}, found none"
        return None, [error("weights", folder, found, f"make one: {_CONVERT}")]
    try:
        return read_manifest(folder), []
    except UserError as problem:
        return None, [error("weights", "--weights", str(problem), f"again: {_CONVERT}")]


def check_weights(case: Case, manifest: Manifest, used: int) -> Iterator[Finding]:
    """used: frames of the driver that sampling takes."""
    assert case.weights is not None
    whole = True
    for name in ALL_COMPONENTS:
        if name not in manifest.components:
            option = _OPTION.get(name, "--checkpoint")
            yield error("weights", case.weights, f"no {name}", f"again: {_CONVERT} with {option}")
            whole = False
        elif problem := _damage(case.weights, manifest, name, case.verify):
            yield error("weights", case.weights / name, *problem)
            whole = False
    if whole:
        yield note("weights", case.weights, f"{_how_whole(case, manifest)}, {manifest.weight_hash}")
    yield from _check_sizes(case.weights, manifest)
    yield from _check_fit(case, manifest, used)


def _damage(folder: Path, manifest: Manifest, name: str, verify: bool) -> tuple[str, str] | None:
    """What is wrong with a stored component, and what to do about it."""
    if problem := _stored_shapes(folder / name, manifest.model, name):
        return problem, f"again: {_CONVERT}"
    problem = _missing_files(folder / name, manifest.files.get(name, {}))
    if problem is None and verify:
        problem = _stored_values(folder, manifest, name)
    return (problem, "copy or convert it again") if problem else None


def _how_whole(case: Case, manifest: Manifest) -> str:
    """What stands behind a clean bill."""
    if case.verify:
        return "complete, hashes as recorded"
    if set(ALL_COMPONENTS) <= set(manifest.files):
        return "complete, files of the sizes that were written"
    return "shapes as recorded, values not read (--verify-weights reads them)"


def _missing_files(path: Path, written: Mapping[str, int]) -> str | None:
    """Which files are gone or of another size; further ones do no harm."""
    found = stored_files(path)
    wrong = [name for name, size in written.items() if found.get(name) != size]
    if not wrong:
        return None
    is_there = f"{found[wrong[0]]} bytes" if wrong[0] in found else "missing"
    expected = f"{written[wrong[0]]} bytes were written"
    return f"{len(wrong)} of {len(written)} files not whole: {wrong[0]} is {is_there}, {expected}"


def _stored_shapes(path: Path, config: RealisDanceConfig, name: str) -> str | None:
    """What is wrong with the tensors of a component; nothing is read but their list."""
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            metadata: Any = checkpointer.metadata(path.absolute()).item_metadata
            found = {key: tuple(leaf.shape) for key, leaf in _flat(metadata.tree).items()}
    except Exception as problem:  # Orbax lets through whatever its storage raises
        return f"not a whole checkpoint ({' '.join(str(problem).split())[:120] or 'no list'})"
    wanted = {
        key: tuple(leaf.shape) for key, leaf in _flat(abstract_component(config, name)).items()
    }
    wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if not wrong:
        return None
    first = wrong[0]
    is_there, expected = found.get(first, "none"), wanted.get(first, "none")
    which = ".".join(first[1:])
    return f"{len(wrong)} tensors not as in config.json: {which} is {is_there}, expected {expected}"


def _flat(tree: Any) -> dict[tuple[str, ...], Any]:
    return traverse_util.flatten_dict(dict(tree))  # type: ignore[return-value]


def _stored_values(folder: Path, manifest: Manifest, name: str) -> str | None:
    """Whether the bytes are those that were converted."""
    try:
        variables = load_component(folder, manifest, name)
    except UserError as problem:
        return str(problem)
    arrays = jax.tree.map(np.asarray, variables)
    if hash_tensors(arrays) == manifest.components[name]:
        return None
    return "other values than were written (hash differs)"


def _check_sizes(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    released, model = RealisDanceConfig(), manifest.model
    for part in ("unet", "dino", "vae"):
        one, other = getattr(model, part), getattr(released, part)
        widths = ("widths", "context_dim") if part == "unet" else ("width", "widths")
        for name in widths:
            if getattr(one, name, None) != getattr(other, name, None):
                found = (
                    f"{part}.{name} is {getattr(one, name)}, the release's {getattr(other, name)}"
                )
                yield warning(
                    "weights", folder, found, "a demo or test model? use the released one"
                )
    if manifest.fresh:
        found = f"newly initialised, never trained: {', '.join(manifest.fresh)}"
        yield warning("weights", folder, found, "train it, or convert a trained checkpoint")


def _check_fit(case: Case, manifest: Manifest, used: int) -> Iterator[Finding]:
    motion, config = manifest.model.motion, case.config
    if motion is None and used > 1:
        found = "image-stage weights know no motion: frames will flicker"
        yield warning("weights", str(case.weights), found, "use a stage 2 checkpoint")
    elif motion is not None and min(config.window_size, max(used, 1)) > motion.max_frames:
        found = f"windows of {config.window_size} frames, these weights know {motion.max_frames}"
        yield error("weights", "--window-size", found, f"at most {motion.max_frames}")
    known = manifest.model.pose.conditions
    for name in case.drivers:
        if name not in known:
            found = f"these weights know only {', '.join(known)}"
            yield error("weights", f"--{name}", found, f"leave --{name} out")
