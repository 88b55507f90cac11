"""A weights folder: `config.json` and one Orbax checkpoint per component.

Components are loaded one by one, straight into a dtype and a sharding, so that a large one can be
dropped before the next is needed.
"""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from realisdance_jax.checkpoints.convert.components import init_dino, init_model
from realisdance_jax.checkpoints.convert.engine import abstract
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.motion import BUFFERS
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.models.vae import VAE
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import from_json, to_json

FORMAT = 1
CONFIG = "config.json"
ALL_COMPONENTS = (*COMPONENTS, "image_encoder", "vae")


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
    initialised tensors.
    """

    format: int
    model: RealisDanceConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    uncond: Literal["fake", "image"] = "fake"
    components: dict[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    origin: Origin = field(default_factory=Origin)
    sources: tuple[str, ...] = ()

    @property
    def weight_hash(self) -> str:
        """Short hash of all stored tensors."""
        joined = "\n".join(f"{name} {self.components[name]}" for name in sorted(self.components))
        return hashlib.sha256(joined.encode()).hexdigest()[:16]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `config.json` into `folder`."""
    text = json.dumps(to_json(manifest), indent=1)
    (folder / CONFIG).write_text(text + "\n", "utf-8")


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
    found = data.get("format") if isinstance(data, Mapping) else None
    if found != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT}, found {found!r}")
    return from_json(Manifest, data, str(path))


@functools.cache
def abstract_components(config: RealisDanceConfig) -> Mapping[str, dict]:
    """Shapes of each component's variables: {"params": {component: ...}, "buffers": ...}."""
    key = jax.random.key(0)
    model = abstract(lambda: init_model(config, key))
    parts: dict[str, dict] = {
        component: {
            collection: {component: tree[component]}
            for collection, tree in model.items()
            if component in tree
        }
        for component in COMPONENTS
    }
    parts["image_encoder"] = abstract(lambda: init_dino(config.dino, key))
    parts["vae"] = abstract(lambda: {"params": VAE(config.vae).init(key)})
    return parts


def hash_tensors(variables: Mapping) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all leaves in name order."""
    digest = hashlib.sha256()
    for path, leaf in sorted(_leaves(variables).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{'.'.join(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def save_component(folder: Path, component: str, variables: dict) -> str:
    """Write float32 `variables` of `component` into `folder`; returns their hash."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(os.path.abspath(folder / component), args=ocp.args.PyTreeSave(variables))
    return hash_tensors(variables)


def load_component(
    folder: str | Path,
    manifest: Manifest,
    component: str,
    dtype: jnp.dtype = jnp.float32,
    sharding: jax.sharding.Sharding | None = None,
) -> dict:
    """Variables of `component` as device arrays; parameters in `dtype`, buffers in float32.

    Raises `UserError` when the folder lacks it or holds tensors of other shapes than its config.
    """
    path = Path(folder).absolute() / component
    if component not in manifest.components or not path.is_dir():
        stored = ", ".join(sorted(manifest.components)) or "nothing"
        raise UserError(f"{folder}: expected the component {component}, found {stored}")
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def target(name: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        kept = jnp.float32 if name[0] == BUFFERS else dtype
        return jax.ShapeDtypeStruct(leaf.shape, kept, sharding=sharding)

    stored_shapes = abstract_components(manifest.model)[component]
    wanted = dict(traverse_util.path_aware_map(target, stored_shapes))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        _check_shapes(path, checkpointer, wanted)
        restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        return checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(item=wanted, restore_args=restore_args)
        )


def _leaves(tree: Mapping) -> dict[tuple[str, ...], Any]:
    return cast(dict, traverse_util.flatten_dict(dict(tree)))


def _check_shapes(path: Path, checkpointer: ocp.Checkpointer, wanted: dict) -> None:
    try:
        metadata: Any = checkpointer.metadata(path).item_metadata
        found = {name: tuple(leaf.shape) for name, leaf in _leaves(metadata.tree).items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"{path}: expected an Orbax checkpoint, found {reason}") from None
    for name, leaf in _leaves(wanted).items():
        if found.get(name) != leaf.shape:
            raise UserError(
                f"{path}: {'.'.join(name[1:])}: expected shape {list(leaf.shape)} "
                f"(from config.json), found {list(found.get(name, ())) or 'no such tensor'}"
            )


def merge(*parts: dict) -> dict:
    """Variables of several components as one {"params": ..., "buffers": ...}."""
    joined: dict = {}
    for part in parts:
        for collection, tree in part.items():
            joined.setdefault(collection, {}).update(tree)
    return joined
