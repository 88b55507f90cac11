"""A weights folder: `config.json` and one Orbax checkpoint per component.

Components are loaded one by one, straight into a dtype and a sharding, so that a large one can be
dropped before the next is needed.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from realisdance_jax.checkpoints.variables import abstract_component, check_sizes
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.motion import BUFFERS
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from realisdance_jax.utils.records import from_json, to_json

FORMAT = 1
CONFIG = "config.json"


@dataclass(frozen=True)
class Origin:
    """What the official checkpoint said beside its tensors; kept for the way back."""

    prefix: str = ""
    epoch: int = 0
    global_step: int = 0


@dataclass(frozen=True)
class Manifest:
    """`config.json`. `components` maps each stored component to the SHA-256 of its tensors.

    `uncond` is the unconditional branch the weights are for: zero tokens (`fake`, converted ones)
    or DINOv2 of a zero picture (`image`; parity.md: H4). `fresh` names components that hold newly
    initialised tensors. `files` maps each component to the sizes of its files in bytes, by name;
    folders written before it was recorded have none.
    """

    format: int
    model: RealisDanceConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    uncond: Literal["fake", "image"] = "fake"
    components: dict[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    origin: Origin = field(default_factory=Origin)
    sources: tuple[str, ...] = ()
    files: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def weight_hash(self) -> str:
        """Short hash of all tensors as they were written; `verify_component` looks at them."""
        joined = "\n".join(f"{name} {self.components[name]}" for name in sorted(self.components))
        return hashlib.sha256(joined.encode()).hexdigest()[:16]


def is_weights_folder(path: Path) -> bool:
    """Whether `path` holds a `config.json` of ours, of whatever format."""
    try:
        return "format" in json.loads((path / CONFIG).read_text("utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def stored_files(path: Path) -> dict[str, int]:
    """Sizes in bytes of all files of a component, by their names below `path`."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in files}


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write `config.json` into `folder`, whole or not at all, unless it says the same already.

    Returns it with the files of the components there.
    """
    names = [name for name in manifest.components if (folder / name).is_dir()]
    written = dataclasses.replace(
        manifest, files={name: stored_files(folder / name) for name in names}
    )
    text, path = json.dumps(to_json(written), indent=1) + "\n", folder / CONFIG
    if not path.is_file() or path.read_bytes() != text.encode():
        with atomic_output(path) as partial:
            partial.write_text(text, "utf-8")
    return written


def read_manifest(folder: str | Path) -> Manifest:
    """`config.json` of a weights folder.

    Raises `UserError` when it is absent, damaged, of another format, or has an unknown key.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        hint = "make one: python -m realisdance_jax.convert to-jax"
        raise UserError(f"{folder}: expected a weights folder with {CONFIG}, found none ({hint})")
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found {error}") from None
    return manifest_of(data, str(path))


def manifest_of(data: Any, where: str) -> Manifest:
    """What was read of `where`, checked as `read_manifest` says."""
    found = data.get("format") if isinstance(data, Mapping) else None
    if found != FORMAT:
        raise UserError(f"{where}: expected format {FORMAT}, found {found!r}")
    try:
        manifest = from_json(Manifest, data, where)
    except ZeroDivisionError:
        raise UserError(f"{where}: expected sizes of at least 1, found 0") from None
    check_sizes(manifest.model, where)
    return manifest


def hash_tensors(variables: Mapping) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all leaves in name order."""
    digest = hashlib.sha256()
    for path, leaf in sorted(_leaves(variables).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{'.'.join(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def lone_checkpointer() -> ocp.Checkpointer:
    """Reads and writes trees in this process alone, waiting for no other process of the job."""
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})
    # Compression saves 8 % of the bytes of trained weights and takes most of the time and memory;
    # unbounded reads and writes hold several copies at once.
    handler = ocp.PyTreeCheckpointHandler(
        use_compression=False,
        save_concurrent_gb=1,
        restore_concurrent_gb=1,
        multiprocessing_options=alone,
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def save_component(folder: Path, component: str, variables: dict) -> str:
    """Write float32 `variables` of `component` into `folder`; returns their hash.

    Give device arrays: of NumPy arrays Orbax makes a copy. Only one process of a job may call it.
    """
    stored = variables
    if jax.process_count() > 1:
        # Orbax takes device arrays that one process holds for a part of what all hold.
        stored = jax.tree.map(np.asarray, variables)
    with lone_checkpointer() as checkpointer:
        checkpointer.save(os.path.abspath(folder / component), args=ocp.args.PyTreeSave(stored))
    return hash_tensors(variables)


def verify_component(folder: str | Path, manifest: Manifest, component: str) -> None:
    """Read all tensors of `component`; `UserError` unless they are those that were written.

    Loading checks names and shapes only: the hash takes seconds and a copy on the host.
    """
    found = hash_tensors(load_component(folder, manifest, component))
    if found != (written := manifest.components[component]):
        expected = f"tensors with the SHA-256 {written[:16]} of {CONFIG}"
        raise UserError(f"{Path(folder) / component}: expected {expected}, found {found[:16]}")


def _target(leaf: jax.ShapeDtypeStruct, sharding: Any, dtype: Any) -> jax.ShapeDtypeStruct:
    """Biases and norms stay float32: they weigh nothing, and norms compute in it."""
    dtype = dtype if len(leaf.shape) > 1 else jnp.float32
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)


def load_component(
    folder: str | Path,
    manifest: Manifest,
    component: str,
    dtype: jnp.dtype = jnp.float32,
    sharding: jax.sharding.Sharding | Mapping | None = None,
) -> dict:
    """Variables of `component` as device arrays; vectors and buffers in float32, others in `dtype`.

    `sharding`: one for all, a tree like the variables, or None for the first device of this
    process. Every process reads its own shards, whether or not others do so, too.
    Raises `UserError` when the folder lacks it, when it is damaged, and when it holds other tensors
    or shapes than `config.json` says; `verify_component` compares values, too.
    """
    path = Path(folder).absolute() / component
    if component not in manifest.components or not path.is_dir():
        stored = ", ".join(sorted(manifest.components)) or "nothing"
        raise UserError(f"{folder}: expected the component {component}, found {stored}")
    shapes = abstract_component(manifest.model, component)
    shardings: Any = sharding
    if not isinstance(sharding, Mapping):
        one = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda _: one, shapes)
    wanted = {
        collection: jax.tree.map(
            partial(_target, dtype=jnp.float32 if collection == BUFFERS else dtype),
            tree,
            shardings[collection],
        )
        for collection, tree in shapes.items()
    }
    with lone_checkpointer() as checkpointer:
        _check_shapes(path, checkpointer, wanted)
        restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        args = ocp.args.PyTreeRestore(item=wanted, restore_args=restore_args)
        try:
            return checkpointer.restore(path, args=args)
        except Exception as error:
            # Orbax wraps what TensorStore says in a bare Exception.
            if type(error) is Exception or isinstance(error, OSError | ValueError):
                raise _damaged(path, error.__cause__ or error) from None
            raise


def _leaves(tree: Mapping) -> dict[tuple[str, ...], Any]:
    return cast(dict, traverse_util.flatten_dict(dict(tree)))


def _damaged(path: Path, error: BaseException) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path}: expected a whole Orbax checkpoint, found {reason}")


def _check_shapes(path: Path, checkpointer: ocp.Checkpointer, wanted: dict) -> None:
    try:
        metadata: Any = checkpointer.metadata(path).item_metadata
        found = {name: tuple(leaf.shape) for name, leaf in _leaves(metadata.tree).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None
    expected = {name: leaf.shape for name, leaf in _leaves(wanted).items()}
    wrong = sorted(set(found.items()) ^ set(expected.items()))
    if wrong:
        name = wrong[0][0]
        shape, stored = expected.get(name, "no such tensor"), found.get(name, "no such tensor")
        count = len({name for name, _ in wrong})
        raise UserError(
            f"{path}: {count} tensors are not as {CONFIG} says, the first {'.'.join(name[1:])}: "
            f"expected {shape}, found {stored}"
        )


def merge(*parts: dict) -> dict:
    """Variables of several components as one {"params": ..., "buffers": ...}."""
    joined: dict = {}
    for part in parts:
        for collection, tree in part.items():
            joined.setdefault(collection, {}).update(tree)
    return joined
