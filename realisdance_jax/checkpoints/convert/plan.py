"""What will become of the user's files: opened, layered and checked, before a byte is written.

Precedence as in the release: base, then motion, then checkpoint. With a checkpoint the base gives
configuration, schedule and VAE only.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from realisdance_jax.checkpoints.convert import infer, sources
from realisdance_jax.checkpoints.convert.components import (
    Table,
    dino_table,
    is_motion,
    model_tables,
    vae_table,
)
from realisdance_jax.checkpoints.convert.engine import mismatches
from realisdance_jax.checkpoints.convert.layers import Layer, Say, check, complaint, merged
from realisdance_jax.checkpoints.convert.sources import Source
from realisdance_jax.checkpoints.convert.stable_diffusion import Base, autoencoder, base_model
from realisdance_jax.checkpoints.variables import check_sizes
from realisdance_jax.checkpoints.weights import Origin
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import DinoConfig, RealisDanceConfig
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.lazy import LazyTensor, tensor_count, unexpected


@dataclass(frozen=True)
class Request:
    """Paths of the user's files; what is None is absent."""

    checkpoint: Path | None = None
    base: Path | None = None
    vae: Path | None = None
    image_encoder: Path | None = None
    motion: Path | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """What was given, by name only."""
        given = {field: path for field, path in vars(self).items() if path is not None}
        return tuple(f"{field}: {Path(path).name}" for field, path in given.items())


@dataclass(frozen=True)
class Part:
    """A component's table and tensors; names without a tensor are to be newly initialised."""

    table: Table
    tensors: Mapping[str, LazyTensor]

    @property
    def fresh(self) -> set[str]:
        return self.table.keys() - self.tensors.keys()


@dataclass(frozen=True)
class Draft:
    """Everything known before a byte is written. `parts` by component."""

    config: RealisDanceConfig
    schedule: ScheduleConfig
    origin: Origin
    parts: Mapping[str, Part]
    sources: tuple[str, ...]


def plan(request: Request, say: Say = print) -> Draft:
    """Open and check every file, without reading values.

    Raises `UserError` listing every unmapped, missing, unfilled or mis-shaped tensor.
    """
    if request.checkpoint is None and request.base is None:
        raise UserError("expected --checkpoint or --base, found neither")
    base = base_model(request.base) if request.base else None
    layers, origin = _layers(request, base)
    tensors = merged(layers, say)
    if base is None:
        say("base: absent (schedule and heads of Stable Diffusion 1.5; --base gives them)")
    elif request.checkpoint:
        say("base: configuration, schedule and VAE only; the checkpoint brings both UNets")
    encoder = sources.image_encoder(request.image_encoder) if request.image_encoder else None
    where = str(request.checkpoint or request.base)
    config = infer.model_config(tensors, base.unet_settings if base else {}, where)
    if encoder and not request.checkpoint:  # nothing else says how wide the tokens are
        config = dataclasses.replace(config, dino=_dino(encoder))
    check_sizes(config, where)
    tables = model_tables(config)
    check(layers, config.unet.widths, tables)
    parts = {
        component: Part(table, {name: tensors[name] for name in table if name in tensors})
        for component, table in tables.items()
    }
    _say_what_is_new(parts, config, say)
    config, sides = _side_parts(config, encoder, _find_vae(request, base), say)
    scheduler = base.scheduler if base else {}
    schedule = infer.schedule_config(scheduler, f"{request.base}: scheduler")
    return Draft(config, schedule, origin, parts | sides, request.sources)


def _layers(request: Request, base: Base | None) -> tuple[list[Layer], Origin]:
    layers, origin = [], Origin()
    if base and not request.checkpoint:
        layers.append(Layer("base", base.unet(), ("unet_ref.", "unet_main."), False))
    if request.motion:
        motion = sources.motion_checkpoint(request.motion)
        layers.append(Layer("motion", motion, ("unet_main.",), True))
    if request.checkpoint:
        checkpoint, origin = sources.official_checkpoint(request.checkpoint)
        stage = None if any(map(is_motion, checkpoint.tensors)) else False
        layers.append(Layer("checkpoint", checkpoint, ("",), stage))
    return layers, origin


def _dino(encoder: Source) -> DinoConfig:
    return infer.dino_config(encoder.shapes, encoder.settings, str(encoder.path))


def _say_what_is_new(parts: Mapping[str, Part], config: RealisDanceConfig, say: Say) -> None:
    fresh = [name for part in parts.values() for name in part.fresh]
    if fresh:
        places = {".".join(name.split(".")[: 1 + is_motion(name)]) for name in fresh}
        say(f"{tensor_count(len(fresh))} newly initialised: {', '.join(sorted(places))}")
    if config.motion is None:
        say("no motion modules: an image-stage model; frames are animated one by one")


def _find_vae(request: Request, base: Base | None) -> Source | None:
    if request.vae:
        return autoencoder(request.vae)
    return base.vae() if base and base.vae else None


def _side_parts(
    config: RealisDanceConfig, encoder: Source | None, vae: Source | None, say: Say
) -> tuple[RealisDanceConfig, dict[str, Part]]:
    """Image encoder and VAE where given; `config` with theirs, checked against the model's."""
    parts = {}
    if encoder:
        dino = _dino(encoder)
        if dino.width != config.dino.width:
            expected = f"an image encoder of width {config.dino.width}, as clip_projector takes"
            raise unexpected(encoder.path, expected, dino.width)
        config = dataclasses.replace(config, dino=dino)
        check_sizes(config, str(encoder.path))
        parts["image_encoder"] = _whole_part(encoder, dino_table(dino))
    if vae:
        autoencoder_config = infer.vae_config(vae.shapes, vae.settings, str(vae.path))
        config = dataclasses.replace(config, vae=autoencoder_config)
        check_sizes(config, str(vae.path))
        parts["vae"] = _whole_part(vae, vae_table(autoencoder_config))
        channels = autoencoder_config.latent_channels
        if channels != config.unet.in_channels:
            expected = f"{config.unet.in_channels} latent channels, as unet_main takes"
            raise unexpected(vae.path, expected, channels)
    for name, source, option in (
        ("image_encoder", encoder, "--image-encoder gives it"),
        ("vae", vae, "--vae or --base gives it"),
    ):
        brought = tensor_count(len(source.tensors)) if source else f"absent ({option})"
        say(f"{name}: {brought}")
        for note in source.notes if source else ():
            say(f"{name}: {note}")
    return config, parts


def _whole_part(source: Source, table: Table) -> Part:
    if problems := mismatches(table, source.tensors):
        raise UserError(complaint(source.path, problems))
    return Part(table, source.tensors)
