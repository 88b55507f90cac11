"""What users have, each opened as {canonical name: lazy tensor} and checked to be what it claims.

Canonical names are those of the official checkpoint, of diffusers and of transformers.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from realisdance_jax.checkpoints.convert.components import is_motion, unet_table, vae_table
from realisdance_jax.checkpoints.convert.infer import count, read_json, shape_of
from realisdance_jax.checkpoints.convert.legacy_names import (
    LDM_UNET_PREFIX,
    LDM_VAE_PREFIX,
    MM_V2_HOMELESS,
    ldm_unet_names,
    ldm_vae_convolutions,
    ldm_vae_names,
    legacy_vae_names,
    single_file_ignored,
)
from realisdance_jax.checkpoints.convert.tensor_files import (
    LazyTensor,
    TensorSource,
    open_component_folder,
    open_tensors,
)
from realisdance_jax.checkpoints.weights import Origin
from realisdance_jax.models.config import UNetConfig, VAEConfig
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.errors import UserError

Tensors = dict[str, LazyTensor]


@dataclass(frozen=True)
class Source:
    """Tensors by canonical name, the settings beside them and what to say about the file."""

    path: Path
    tensors: Tensors
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def _open(path: Path) -> tuple[TensorSource, Mapping[str, Any]]:
    """Weights and `config.json` of a component, given as its folder or its file."""
    source = open_component_folder(path) if path.is_dir() else open_tensors(path)
    return source, read_json(source.path.parent / "config.json")


def _whole(extra: Mapping, key: str) -> int:
    try:
        return int(extra.get(key, 0))
    except (TypeError, ValueError):
        return 0


def official_checkpoint(path: Path) -> tuple[Source, Origin]:
    """A RealisDance stage-1 or stage-2 file, with or without `module.`."""
    raw = open_tensors(path)
    bare = raw.without_prefix("module.")
    prefix = "module." if bare is not raw else ""
    if not any(name.startswith(tuple(f"{c}." for c in COMPONENTS)) for name in bare.tensors):
        found = next(iter(bare.tensors), "no tensors")
        raise UserError(
            f"{path}: expected a RealisDance checkpoint ({', '.join(COMPONENTS)}), found {found}"
        )
    origin = Origin(prefix, _whole(raw.extra, "epoch"), _whole(raw.extra, "global_step"))
    return Source(path, dict(bare.tensors)), origin


def motion_checkpoint(path: Path) -> Source:
    """AnimateDiff motion modules under the names of `unet_main` (parity.md: H11)."""
    raw = open_tensors(path).without_prefix("module.")
    motion = {name: tensor for name, tensor in raw.tensors.items() if is_motion(name)}
    if not motion:
        found = next(iter(raw.tensors), "no tensors")
        raise UserError(f"{path}: expected AnimateDiff motion modules, found {found}")
    homeless = [name for name in MM_V2_HOMELESS if name in motion]
    notes = []
    if homeless:
        notes.append(f"{len(homeless)} tensors of mid_block.motion_modules.0 have no place here")
    if others := len(raw.tensors) - len(motion):
        notes.append(f"{others} tensors outside motion modules are not read")
    taken = {f"unet_main.{name}": tensor for name, tensor in motion.items() if name not in homeless}
    return Source(path, taken, {}, tuple(notes))


def image_encoder(path: Path) -> Source:
    """DINOv2 in transformers layout, a folder or a file."""
    raw, settings = _open(path)
    if "embeddings.position_embeddings" not in raw.tensors:
        found = next(iter(raw.tensors), "no tensors")
        raise UserError(f"{path}: expected DINOv2 in transformers layout, found {found}")
    return Source(raw.path, dict(raw.tensors), settings)


def autoencoder(path: Path) -> Source:
    """A Stable Diffusion VAE: diffusers folder or file (old or new names), or a single LDM file."""
    if path.is_dir() and not (path / "config.json").is_file() and (path / "vae").is_dir():
        path = path / "vae"
    raw, settings = _open(path)
    for prefix in (LDM_VAE_PREFIX, ""):
        if f"{prefix}encoder.conv_in.weight" in raw.tensors and any(
            name.startswith(f"{prefix}encoder.down.") for name in raw.tensors
        ):
            return _ldm_autoencoder(raw, prefix)
    names = legacy_vae_names(_new_vae_names(raw.tensors))
    canonical = {old: new for new, old in names.items()}
    tensors = {canonical.get(name, name): tensor for name, tensor in raw.tensors.items()}
    return Source(raw.path, tensors, settings)


def _new_vae_names(names: Iterable[str]) -> list[str]:
    """Candidates among which `legacy_vae_names` finds the old spellings in a file."""
    stems = {m[1] for name in names if (m := re.match(r"(.*\.attentions\.0\.)(query|key)\.", name))}
    parts = ("to_q", "to_k", "to_v", "to_out.0")
    return [
        f"{stem}{part}.{leaf}" for stem in stems for part in parts for leaf in ("weight", "bias")
    ]


def _squeezed(tensor: LazyTensor) -> LazyTensor:
    """A 1x1 convolution as the matrix it is."""
    if len(tensor.shape) != 4:
        return tensor
    shape = tensor.shape[:2]
    return replace(tensor, shape=shape, read=lambda: tensor.read().reshape(shape))


def _picked(raw: TensorSource, names: Mapping[str, str]) -> Tensors:
    return {new: raw.tensors[old] for new, old in names.items() if old in raw.tensors}


def _ldm_autoencoder(raw: TensorSource, prefix: str) -> Source:
    shapes = {name: tensor.shape for name, tensor in raw.tensors.items()}
    where, stem = str(raw.path), re.escape(prefix)
    levels = count(shapes, rf"{stem}encoder\.down\.(\d+)\.")
    first = f"{prefix}encoder.down.{{}}.block.0.conv1.weight"
    config = VAEConfig(
        widths=tuple(shape_of(shapes, first.format(i), where)[0] for i in range(levels)),
        layers_per_block=count(shapes, rf"{stem}encoder\.down\.0\.block\.(\d+)\."),
    )
    names = ldm_vae_names(vae_table(config), prefix)
    tensors = _picked(raw, names)
    for name in ldm_vae_convolutions(tensors):
        tensors[name] = _squeezed(tensors[name])
    return Source(raw.path, tensors)


def _ldm_unet(raw: TensorSource) -> Source:
    """The UNet of a single-file checkpoint; its topology is read off the numbering of blocks."""
    prefix = LDM_UNET_PREFIX
    shapes = {
        name.removeprefix(prefix): tensor.shape
        for name, tensor in raw.tensors.items()
        if name.startswith(prefix)
    }
    where, inputs = str(raw.path), count(shapes, r"input_blocks\.(\d+)\.")
    levels = 1 + sum(name.endswith(".0.op.weight") for name in shapes)
    layers = (inputs - levels) // levels
    starts = [1 + level * (layers + 1) for level in range(levels)]
    cross = "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    try:
        config = UNetConfig(
            widths=tuple(
                shape_of(shapes, f"input_blocks.{i}.0.in_layers.2.weight", where)[0] for i in starts
            ),
            layers_per_block=layers,
            attention_levels=tuple(f"input_blocks.{i}.1.norm.weight" in shapes for i in starts),
            heads=(8,) * levels,
            context_dim=shape_of(shapes, cross, where)[1],
            in_channels=shape_of(shapes, "input_blocks.0.0.weight", where)[1],
            out_channels=shape_of(shapes, "out.2.weight", where)[0],
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    names = ldm_unet_names(unet_table(config), prefix)
    strays = [
        name for name in raw.tensors if name.startswith(prefix) and name not in set(names.values())
    ]
    if strays:
        raise UserError(f"{where}: expected a Stable Diffusion 1.x UNet, found {strays[0]}")
    ignored = sum(single_file_ignored(name) for name in raw.tensors)
    note = f"{ignored} tensors of the text encoder, averages and schedule are not read"
    return Source(raw.path, _picked(raw, names), {}, (note,) if ignored else ())


@dataclass(frozen=True)
class Base:
    """A Stable Diffusion model, its parts opened only when asked for."""

    path: Path
    unet: Callable[[], Source]
    vae: Callable[[], Source] | None
    scheduler: Mapping[str, Any]
    unet_settings: Mapping[str, Any]


def base_model(path: Path) -> Base:
    """A diffusers folder or a single-file (LDM) checkpoint."""
    if path.is_dir():

        def folder_unet() -> Source:
            raw, settings = _open(path / "unet")
            return Source(raw.path, dict(raw.tensors), settings)

        has_vae = (path / "vae").is_dir()
        if not (path / "unet").is_dir() and not has_vae:
            raise UserError(
                f"{path}: expected a diffusers folder with unet/ and vae/, found neither"
            )
        return Base(
            path,
            folder_unet,
            (lambda: autoencoder(path / "vae")) if has_vae else None,
            read_json(path / "scheduler" / "scheduler_config.json"),
            read_json(path / "unet" / "config.json"),
        )
    raw = open_tensors(path)
    if not any(name.startswith(LDM_UNET_PREFIX) for name in raw.tensors):
        found = next(iter(raw.tensors), "no tensors")
        raise UserError(
            f"{path}: expected a single-file Stable Diffusion checkpoint, found {found}"
        )
    has_vae = any(name.startswith(LDM_VAE_PREFIX) for name in raw.tensors)
    vae = (lambda: _ldm_autoencoder(raw, LDM_VAE_PREFIX)) if has_vae else None
    return Base(path, lambda: _ldm_unet(raw), vae, {}, {})
