"""Variables of each component of a weights folder: fresh ones, and their shapes alone."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.pose_embedding import make_pose_guider
from realisdance_jax.models.projector import Projector
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.models.unet import UNet
from realisdance_jax.models.vae import VAE
from realisdance_jax.utils.errors import UserError

ALL_COMPONENTS = (*COMPONENTS, "image_encoder", "vae")

PIXELS_PER_LATENT = 8
"""Along one side; the pose pictures come down to the latents' grid in as many steps."""

_DEPENDS_ON = {
    "unet_ref": ("unet",),
    "unet_main": ("unet", "motion"),
    "pose_guider": ("unet", "pose", "motion"),
    "clip_projector": ("unet", "dino"),
    "image_encoder": ("dino",),
    "vae": ("vae",),
}


def _module_and_inputs(config: RealisDanceConfig, component: str) -> tuple[nn.Module, list]:
    """The network of a component and inputs (shapes only) that reach all of its variables."""
    context = (1, 2, config.unet.context_dim)
    frames = 2 if config.motion else 1
    shapes: list[tuple[int, ...]]
    if component == "image_encoder":
        module = DinoV2(config.dino)
        shapes = [(1, config.dino.patch, config.dino.patch, 3)]
    elif component == "vae":
        module = VAE(config.vae).module
        side = 4 * VAE(config.vae).factor
        shapes = [(1, 3, side, side)]
    elif component == "pose_guider":
        unet = config.unet
        module = make_pose_guider(config.pose, unet.widths, unet.norm_groups, config.motion)
        shapes = [(1, frames, 64, 64, 3 * len(config.pose.conditions))]
    elif component == "clip_projector":
        module, shapes = Projector(config.unet.context_dim), [(1, 2, config.dino.width)]
    else:
        motion = config.motion if component == "unet_main" else None
        module = UNet(config.unet, motion)
        shapes = [(1, frames if motion else 1, 8, 8, config.unet.in_channels), (1,), context]
    return module, [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


def _placed(component: str, variables: Mapping) -> dict:
    if component not in COMPONENTS:
        return dict(variables)
    return {collection: {component: tree} for collection, tree in variables.items()}


def init_component(config: RealisDanceConfig, component: str, key: jax.Array) -> dict:
    """Fresh variables of one of `ALL_COMPONENTS`, boxed; no forward pass is run.

    A trained component has its name as the level under each collection, the other two have not.
    """
    module, inputs = _module_and_inputs(config, component)
    return _placed(component, module.lazy_init(key, *inputs))


def init_model(config: RealisDanceConfig, key: jax.Array) -> dict:
    """Fresh variables of the four trained components: {"params": ..., "buffers": ...}, boxed."""
    joined: dict = {}
    for i, component in enumerate(COMPONENTS):
        part = init_component(config, component, jax.random.fold_in(key, i))
        for collection, tree in part.items():
            joined.setdefault(collection, {}).update(tree)
    return joined


def abstract_component(config: RealisDanceConfig, component: str) -> Mapping[str, dict]:
    """Shapes of `init_component`, unboxed."""
    return nn.unbox(boxed_component(config, component))


def boxed_component(config: RealisDanceConfig, component: str) -> Mapping[str, dict]:
    """Shapes of `init_component` in boxes that carry the logical axis names.

    Tracing takes a second or two; it is done once for all that the component depends on.
    """
    if component == "unet_main" and config.motion is None:
        twin = boxed_component(config, "unet_ref")
        return {name: {component: tree["unet_ref"]} for name, tree in twin.items()}
    parts = {part: getattr(config, part) for part in _DEPENDS_ON[component]}
    if component == "clip_projector":  # only the width matters, however the rest may differ
        parts["dino"] = dataclasses.replace(RealisDanceConfig().dino, width=config.dino.width)
    return _traced(RealisDanceConfig(**parts), component)


@functools.cache
def _traced(config: RealisDanceConfig, component: str) -> Mapping[str, dict]:
    module, inputs = _module_and_inputs(config, component)
    return _placed(component, jax.eval_shape(module.init, jax.random.key(0), *inputs))


def check_sizes(config: RealisDanceConfig, where: str) -> None:
    """Raise `UserError` unless the parts of `config` make a model, and one that fits together.

    Lists hold something, whole numbers are at least 1, others positive and finite; heads and groups
    divide widths; VAE and pose encoders both make pictures 8 times smaller.
    """
    for name, value in _values(config, ""):
        if value == ():
            raise UserError(f"{where}: {name}: expected at least one entry, found none")
        if type(value) is int and value < 1:
            raise UserError(f"{where}: {name}: expected at least 1, found {value}")
        if type(value) is float and not (value > 0 and math.isfinite(value)):
            raise UserError(f"{where}: {name}: expected a positive number, found {value}")
    dino, vae, pose = config.dino, config.vae, config.pose
    divisors = [("dino.width", dino.width, dino.heads)]
    divisors += [("vae.widths", width, vae.norm_groups) for width in vae.widths]
    if config.motion:
        divisors += [("unet.widths", width, config.motion.heads) for width in config.unet.widths]
    for name, width, parts in divisors:
        if width % parts:
            expected = f"multiples of {parts} (heads or groups)"
            raise UserError(f"{where}: {name}: expected {expected}, found {width}")
    for name, widths in (("vae.widths", vae.widths), ("pose.encoder_widths", pose.encoder_widths)):
        if (factor := 2 ** (len(widths) - 1)) != PIXELS_PER_LATENT:
            expected = f"levels that shrink pictures {PIXELS_PER_LATENT} times"
            raise UserError(f"{where}: {name}: expected {expected}, found {factor}")


def _values(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every number, text and empty list below `value`, with its dotted name."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _values(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))
    elif isinstance(value, tuple) and value:
        for item in value:
            yield from _values(item, name)
    else:
        yield name, value
