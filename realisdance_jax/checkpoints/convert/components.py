"""Key table of every component, from a configuration."""

import re

from realisdance_jax.checkpoints.convert.engine import Leaf, Path, key_table, torch_name
from realisdance_jax.checkpoints.variables import abstract_component
from realisdance_jax.models.config import DinoConfig, RealisDanceConfig, UNetConfig, VAEConfig
from realisdance_jax.models.motion import BUFFERS
from realisdance_jax.models.realisdance import COMPONENTS

Table = dict[str, Leaf]

_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def vae_name(path: Path) -> str:
    """diffusers' PyTorch name of a leaf of diffusers' Flax autoencoder."""
    parts = [re.sub(r"^(\w+s)_(\d+)$", r"\1.\2", part) for part in path]
    return torch_name(tuple(_VAE_ATTENTION.get(part, part) for part in parts))


def model_tables(config: RealisDanceConfig) -> dict[str, Table]:
    """Table of each trained component, by the names of the official checkpoint."""
    return {name: key_table(abstract_component(config, name)) for name in COMPONENTS}


def model_table(config: RealisDanceConfig) -> Table:
    """`model_tables` as one."""
    return {name: leaf for part in model_tables(config).values() for name, leaf in part.items()}


def unet_table(config: UNetConfig) -> Table:
    """Table of one Stable Diffusion UNet by diffusers' names."""
    table = key_table(abstract_component(RealisDanceConfig(unet=config), "unet_ref"))
    return without_prefix(table, "unet_ref.")


def dino_table(config: DinoConfig) -> Table:
    """Table of the image encoder by transformers' names."""
    return key_table(abstract_component(RealisDanceConfig(dino=config), "image_encoder"))


def vae_table(config: VAEConfig) -> Table:
    """Table of the autoencoder by diffusers' PyTorch names."""
    return key_table(abstract_component(RealisDanceConfig(vae=config), "vae"), vae_name)


def without_prefix(table: Table, prefix: str) -> Table:
    """The leaves whose names start with `prefix`, by the rest of their names."""
    return {
        name.removeprefix(prefix): leaf for name, leaf in table.items() if name.startswith(prefix)
    }


def is_motion(name: str) -> bool:
    """Whether a tensor belongs to a motion module (parity.md: H25)."""
    return "motion_modules." in name


def is_buffer(leaf: Leaf) -> bool:
    """Whether a leaf is a constant table rather than a parameter."""
    return leaf.path[0] == BUFFERS
