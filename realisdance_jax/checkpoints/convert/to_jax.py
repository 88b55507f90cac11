"""From what users have to a weights folder: plan, check everything, write component by component.

Precedence as in the release: base, then motion, then checkpoint. With a checkpoint the base gives
configuration, schedule and VAE only.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from realisdance_jax.checkpoints.convert import infer, sources
from realisdance_jax.checkpoints.convert.components import (
    Table,
    dino_table,
    init_component,
    is_motion,
    model_tables,
    vae_table,
)
from realisdance_jax.checkpoints.convert.engine import fill, mismatches
from realisdance_jax.checkpoints.convert.sources import Base, Source, Tensors
from realisdance_jax.checkpoints.weights import (
    FORMAT,
    Manifest,
    Origin,
    save_component,
    write_manifest,
)
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import DinoConfig, RealisDanceConfig, VAEConfig
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """Paths of the user's files; what is None is absent."""

    checkpoint: Path | None = None
    base: Path | None = None
    vae: Path | None = None
    image_encoder: Path | None = None
    motion: Path | None = None


@dataclass
class Draft:
    """Everything known before a byte is written."""

    config: RealisDanceConfig
    schedule: ScheduleConfig
    origin: Origin
    tables: dict[str, Table]
    tensors: Tensors
    fresh: set[str] = field(default_factory=set)
    sources: tuple[str, ...] = ()


def _one_unet(tensors: Tensors, component: str) -> dict[str, tuple[int, ...]]:
    start = f"{component}."
    return {
        name.removeprefix(start): tensor.shape
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def _layer(layers: list[tuple[str, Tensors]], say: Say) -> Tensors:
    """Later layers win; what they override is counted and said."""
    merged: Tensors = {}
    for label, tensors in layers:
        overridden = sum(name in merged for name in tensors)
        say(
            f"{label}: {len(tensors)} tensors"
            + (f", {overridden} override earlier ones" * bool(overridden))
        )
        merged.update(tensors)
    return merged


def _model_config(
    request: Request, tensors: Tensors, base: Base | None, checkpoint: bool
) -> RealisDanceConfig:
    where = str(request.checkpoint or request.base)
    settings = base.unet_settings if base else {}
    unet = infer.unet_config(_one_unet(tensors, "unet_main"), settings, where)
    motion = infer.motion_config(_one_unet(tensors, "unet_main"))
    config = RealisDanceConfig(unet=unet, motion=motion)
    if not checkpoint:
        return config
    pose = infer.pose_config(_one_unet(tensors, "pose_guider"), where)
    width = infer.shape_of(_one_unet(tensors, "clip_projector"), "identity.weight", where)[1]
    return infer.with_token_width(dataclasses.replace(config, pose=pose), width)


def _may_be_fresh(name: str, request: Request, checkpoint: Tensors) -> bool:
    """New layers: all but the UNets without a checkpoint; else the guider's motion over stage 1."""
    if request.checkpoint is None:
        return name.startswith(("pose_guider.", "clip_projector."))
    has_motion = any(is_motion(key) for key in checkpoint)
    return name.startswith("pose_guider.") and is_motion(name) and not has_motion


def _complain(where: object, problems: list[str]) -> None:
    if problems:
        raise UserError(f"{where}: {len(problems)} tensors do not fit: {'; '.join(problems)}")


def _side_component(
    source: Source | None, table: Table, component: str, draft: Draft, say: Say, hint: str
) -> None:
    if source is None:
        say(f"{component}: absent ({hint})")
        return
    _complain(source.path, mismatches(table, source.shapes))
    say(f"{component}: {len(source.tensors)} tensors")
    draft.tables[component] = table
    draft.tensors |= {f"{component}.{name}": tensor for name, tensor in source.tensors.items()}


def plan(request: Request, say: Say = print) -> Draft:
    """Open and check every file, without reading tensors.

    Raises `UserError` listing every unmapped, missing, unfilled or mis-shaped tensor.
    """
    if request.checkpoint is None and request.base is None:
        raise UserError("expected --checkpoint or --base, found neither")
    base = sources.base_model(request.base) if request.base else None
    checkpoint, origin = Source(Path(), {}), Origin()
    if request.checkpoint:
        checkpoint, origin = sources.official_checkpoint(request.checkpoint)
    layers: list[tuple[str, Tensors]] = []
    notes: list[str] = []
    if base and not request.checkpoint:
        unet = base.unet()
        notes += unet.notes
        layers += [(f"base ({part})", {f"{part}.{k}": t for k, t in unet.tensors.items()})
                   for part in ("unet_ref", "unet_main")]  # fmt: skip
    elif base:
        say("base: configuration, schedule and VAE only; the checkpoint brings both UNets")
    if request.motion:
        motion = sources.motion_checkpoint(request.motion)
        notes += motion.notes
        layers.append(("motion", motion.tensors))
    if request.checkpoint:
        layers.append(("checkpoint", checkpoint.tensors))
    tensors = _layer(layers, say)
    for note in notes:
        say(note)
    config = _model_config(request, tensors, base, request.checkpoint is not None)
    encoder = sources.image_encoder(request.image_encoder) if request.image_encoder else None
    vae = _find_vae(request, base)
    config = dataclasses.replace(config, **_side_configs(config, encoder, vae))
    tables = model_tables(config)
    table = {name: leaf for part in tables.values() for name, leaf in part.items()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    fresh = {
        name
        for name in table
        if name not in tensors and _may_be_fresh(name, request, checkpoint.tensors)
    }
    wanted = {name: leaf for name, leaf in table.items() if name not in fresh}
    _complain(request.checkpoint or request.motion or request.base, mismatches(wanted, shapes))
    if fresh:
        say(f"{len(fresh)} tensors are newly initialised ({', '.join(_stems(fresh))})")
    if config.motion is None:
        say("no motion modules: an image-stage model; frames are animated one by one")
    schedule = infer.schedule_config(base.scheduler if base else {})
    used = tuple(
        f"{name}: {Path(path).name}"
        for name, path in dataclasses.asdict(request).items()
        if path is not None
    )
    draft = Draft(config, schedule, origin, dict(tables), tensors, fresh, used)
    _side_component(
        encoder, dino_table(config.dino), "image_encoder", draft, say, "--image-encoder gives it"
    )
    _side_component(vae, vae_table(config.vae), "vae", draft, say, "--vae or --base gives it")
    return draft


def _stems(names: set[str]) -> list[str]:
    return sorted({".".join(name.split(".")[:2]) for name in names if is_motion(name)} | {
        name.split(".")[0] for name in names if not is_motion(name)
    })  # fmt: skip


def _find_vae(request: Request, base: Base | None) -> Source | None:
    if request.vae:
        return sources.autoencoder(request.vae)
    return base.vae() if base and base.vae else None


def _side_configs(
    config: RealisDanceConfig, encoder: Source | None, vae: Source | None
) -> dict[str, DinoConfig | VAEConfig]:
    """Configurations of the image encoder and the VAE, checked against the model's widths."""
    found: dict[str, DinoConfig | VAEConfig] = {}
    if encoder is not None:
        dino = infer.dino_config(encoder.shapes, encoder.settings, str(encoder.path))
        if dino.width != config.dino.width and config.dino != DinoConfig():
            raise UserError(
                f"{encoder.path}: expected an image encoder of width {config.dino.width} "
                f"(clip_projector), found {dino.width}"
            )
        found["dino"] = dino
    if vae is not None:
        found["vae"] = vae_config = infer.vae_config(vae.shapes, vae.settings, str(vae.path))
        if vae_config.latent_channels != config.unet.in_channels:
            raise UserError(
                f"{vae.path}: expected {config.unet.in_channels} latent channels (unet_main), "
                f"found {vae_config.latent_channels}"
            )
    return found


def _component(draft: Draft, component: str, table: Table, key: jax.Array) -> dict:
    """Variables of one component, float32, read tensor by tensor."""
    stacked = component in ("image_encoder", "vae")
    new: Mapping = {}
    if draft.fresh & table.keys():
        made = jax.jit(lambda: nn.unbox(init_component(draft.config, component, key)))()
        new = traverse_util.flatten_dict(made)

    def read(name: str) -> np.ndarray:
        if name in draft.fresh:
            leaf = table[name]
            return leaf.to_torch(np.asarray(new[leaf.path]))
        return draft.tensors[f"{component}.{name}" if stacked else name].read()

    return fill(table, read)


def write(draft: Draft, out: Path, seed: int = 0, say: Say = print) -> Manifest:
    """Write the weights folder `out`, whole or not at all; one component is in memory at a time."""
    hashes: dict[str, str] = {}
    fresh = tuple(
        component for component, table in draft.tables.items() if draft.fresh & table.keys()
    )
    with atomic_output(out) as folder:
        folder.mkdir()
        for i, (component, table) in enumerate(draft.tables.items()):
            key = jax.random.fold_in(jax.random.key(seed), i)
            variables = _component(draft, component, table, key)
            hashes[component] = save_component(folder, component, variables)
            say(f"wrote {component}: {len(table)} tensors")
        manifest = Manifest(
            format=FORMAT,
            model=draft.config,
            schedule=draft.schedule,
            components=hashes,
            fresh=fresh,
            origin=draft.origin,
            sources=draft.sources,
        )
        write_manifest(folder, manifest)
    return manifest


def convert_to_jax(request: Request, out: Path, seed: int = 0, say: Say = print) -> Manifest:
    """`plan`, then `write`."""
    return write(plan(request, say), out, seed, say)
