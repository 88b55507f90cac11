"""Abstract variables and key table of every component, from a configuration."""

import dataclasses
import re

import jax
import jax.numpy as jnp

from realisdance_jax.checkpoints.convert.engine import Leaf, Path, abstract, key_table, torch_name
from realisdance_jax.models.config import DinoConfig, RealisDanceConfig, UNetConfig, VAEConfig
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.motion import BUFFERS
from realisdance_jax.models.pose_guider import PoseGuider
from realisdance_jax.models.projector import Projector
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.models.unet import UNet
from realisdance_jax.models.vae import VAE

Table = dict[str, Leaf]

_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def vae_name(path: Path) -> str:
    """diffusers' PyTorch name of a leaf of diffusers' Flax autoencoder."""
    parts = [re.sub(r"^(\w+s)_(\d+)$", r"\1.\2", part) for part in path]
    return torch_name(tuple(_VAE_ATTENTION.get(part, part) for part in parts))


def init_model(config: RealisDanceConfig, key: jax.Array) -> dict:
    """Fresh variables of the four trained components: {"params": ..., "buffers": ...}, boxed."""
    joined: dict = {}
    for i, component in enumerate(COMPONENTS):
        part = init_component(config, component, jax.random.fold_in(key, i))
        for collection, tree in part.items():
            joined.setdefault(collection, {}).update(tree)
    return joined


def init_dino(config: DinoConfig, key: jax.Array) -> dict:
    """Fresh {"params": ...} of the image encoder, boxed."""
    return dict(DinoV2(config).init(key, jnp.zeros((1, config.patch, config.patch, 3))))


def init_component(config: RealisDanceConfig, component: str, key: jax.Array) -> dict:
    """Fresh variables of one component, with its name as the level under each collection, boxed."""
    frames = 2 if config.motion else 1
    inputs = 3 * len(config.pose.conditions)
    if component == "pose_guider":
        widths, groups = config.unet.widths, config.unet.norm_groups
        module = PoseGuider(config.pose, widths, groups, config.motion)
        variables = module.init(key, jnp.zeros((1, frames, 64, 64, inputs)))
    elif component == "clip_projector":
        variables = Projector(config.unet.context_dim).init(
            key, jnp.zeros((1, 2, config.dino.width))
        )
    else:
        motion = config.motion if component == "unet_main" else None
        latents = jnp.zeros((1, frames if motion else 1, 8, 8, config.unet.in_channels))
        context = jnp.zeros((1, 2, config.unet.context_dim))
        variables = UNet(config.unet, motion).init(key, latents, jnp.zeros((1,)), context)
    return {collection: {component: tree} for collection, tree in variables.items()}


def model_tables(config: RealisDanceConfig) -> dict[str, Table]:
    """Table of each trained component, by the names of the official checkpoint."""
    variables = abstract(lambda: init_model(config, jax.random.key(0)))
    return _by_component(key_table(variables))


def _by_component(table: Table) -> dict[str, Table]:
    parts: dict[str, Table] = {}
    for name, leaf in table.items():
        parts.setdefault(name.split(".")[0], {})[name] = leaf
    return parts


def unet_table(config: UNetConfig) -> Table:
    """Table of one Stable Diffusion UNet by diffusers' names."""
    whole = RealisDanceConfig(unet=config)
    key = jax.random.key(0)
    return without_prefix(
        key_table(abstract(lambda: init_component(whole, "unet_ref", key))), "unet_ref"
    )


def dino_table(config: DinoConfig) -> Table:
    """Table of the image encoder by transformers' names."""
    return key_table(abstract(lambda: init_dino(config, jax.random.key(0))))


def vae_table(config: VAEConfig) -> Table:
    """Table of the autoencoder by diffusers' PyTorch names."""
    variables = abstract(lambda: {"params": VAE(config).init(jax.random.key(0))})
    return key_table(variables, vae_name)


def without_prefix(table: Table, prefix: str) -> Table:
    """`table` by names without `prefix.`; for files of a single component."""
    start = len(prefix) + 1
    return {
        name[start:]: dataclasses.replace(leaf, name=name[start:]) for name, leaf in table.items()
    }


def is_motion(name: str) -> bool:
    """Whether a tensor belongs to a motion module (parity.md: H25)."""
    return "motion_modules." in name


def is_buffer(leaf: Leaf) -> bool:
    """Whether a leaf is a constant table rather than a parameter."""
    return leaf.path[0] == BUFFERS
