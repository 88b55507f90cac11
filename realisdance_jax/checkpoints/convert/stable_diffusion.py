"""The base model and its autoencoder: diffusers folders, and single files with LDM names."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from realisdance_jax.checkpoints.convert.components import unet_table, vae_table
from realisdance_jax.checkpoints.convert.legacy_names import (
    LDM_UNET_PREFIX,
    LDM_VAE_PREFIX,
    ldm_unet_names,
    ldm_vae_convolutions,
    ldm_vae_names,
    legacy_vae_names,
    single_file_ignored,
)
from realisdance_jax.checkpoints.convert.settings import read_json
from realisdance_jax.checkpoints.convert.sources import (
    Source,
    Tensors,
    beside,
    open_component,
    stray,
)
from realisdance_jax.checkpoints.convert.tensor_files import TensorSource, open_tensors
from realisdance_jax.models.config import UNetConfig, VAEConfig
from realisdance_jax.utils.torch_files.lazy import LazyTensor, tensor_count, unexpected

_VAE_ATTENTIONS = tuple(
    f"{half}.mid_block.attentions.0.{part}.{leaf}"
    for half in ("encoder", "decoder")
    for part in ("to_q", "to_k", "to_v", "to_out.0")
    for leaf in ("weight", "bias")
)


@dataclass(frozen=True)
class Base:
    """A Stable Diffusion model, its parts opened only when asked for."""

    path: Path
    unet: Callable[[], Source]
    vae: Callable[[], Source] | None
    scheduler: Mapping[str, Any]
    unet_settings: Mapping[str, Any]


def base_model(path: Path) -> Base:
    """A diffusers folder or a single-file checkpoint. Raises `UserError` for anything else."""
    return _folder(path) if os.path.isdir(path) else _single_file(path)


def _folder(path: Path) -> Base:
    has_vae = (path / "vae").is_dir()
    if not (path / "unet").is_dir() and not has_vae:
        raise unexpected(path, "a diffusers folder with unet/ and vae/", "neither")

    def unet() -> Source:
        raw, settings = open_component(path / "unet", "UNet2DConditionModel")
        return Source(raw.path, dict(raw.tensors), settings, tuple(beside(raw)))

    return Base(
        path,
        unet,
        (lambda: autoencoder(path / "vae")) if has_vae else None,
        read_json(path / "scheduler" / "scheduler_config.json"),
        read_json(path / "unet" / "config.json"),
    )


def _single_file(path: Path) -> Base:
    raw = open_tensors(path)
    if not any(name.startswith(LDM_UNET_PREFIX) for name in raw.tensors):
        found = next(iter(raw.tensors))
        raise unexpected(path, "a single-file Stable Diffusion checkpoint", found)
    has_vae = any(name.startswith(LDM_VAE_PREFIX) for name in raw.tensors)
    vae = (lambda: _ldm_autoencoder(raw, LDM_VAE_PREFIX)) if has_vae else None
    return Base(path, lambda: _ldm_unet(raw), vae, {}, {})


def _ldm_unet(raw: TensorSource) -> Source:
    # The names follow from the topology of Stable Diffusion 1.5 alone, whatever the widths.
    names = ldm_unet_names(unet_table(UNetConfig()))
    ignored = [name for name in raw.tensors if single_file_ignored(name)]
    parts = (LDM_UNET_PREFIX, LDM_VAE_PREFIX)
    others = [name for name in raw.tensors if not name.startswith(parts) and name not in ignored]
    notes = stray(others, "UNet and VAE") + beside(raw)
    if ignored:
        notes.append(
            f"{tensor_count(len(ignored))} of text encoder, averages and schedule not read"
        )
    return Source(raw.path, _renamed(raw, LDM_UNET_PREFIX, names), {}, tuple(notes))


def _renamed(raw: TensorSource, prefix: str, names: Mapping[str, str]) -> Tensors:
    """Tensors under `prefix` by today's name (`names`: {today: then}), unknown ones by their own.

    The check against the key table then says what is unknown.
    """
    today = {old: new for new, old in names.items()}
    return {
        today.get(name, name): tensor
        for name, tensor in raw.tensors.items()
        if name.startswith(prefix) and not single_file_ignored(name)
    }


def autoencoder(path: Path) -> Source:
    """A Stable Diffusion VAE: a diffusers folder or file, of today or before 0.18, or LDM names."""
    if os.path.isdir(path) and not (path / "config.json").is_file() and (path / "vae").is_dir():
        path = path / "vae"
    raw, settings = open_component(path, "AutoencoderKL")
    for prefix in (LDM_VAE_PREFIX, ""):
        if any(name.startswith(f"{prefix}encoder.down.") for name in raw.tensors):
            return _ldm_autoencoder(raw, prefix)
    old = legacy_vae_names(_VAE_ATTENTIONS)
    names = {new: name for new, name in old.items() if new not in raw.tensors}
    tensors = _as_matrices(_renamed(raw, "", names))
    return Source(raw.path, tensors, settings, tuple(beside(raw)))


def _ldm_autoencoder(raw: TensorSource, prefix: str) -> Source:
    tensors = _renamed(raw, prefix, ldm_vae_names(vae_table(VAEConfig()), prefix))
    return Source(raw.path, _as_matrices(tensors), {}, tuple(beside(raw)))


def _as_matrices(tensors: Tensors) -> Tensors:
    """Projections of the attention, which some files hold as 1x1 convolutions, as matrices."""
    projections = ldm_vae_convolutions(tensors)
    return {name: _squeezed(t) if name in projections else t for name, t in tensors.items()}


def _squeezed(tensor: LazyTensor) -> LazyTensor:
    """A 1x1 convolution as the matrix it is."""
    if tensor.shape[2:] != (1, 1):
        return tensor
    shape = tensor.shape[:2]
    return replace(tensor, shape=shape, read=lambda: tensor.read().reshape(shape))
