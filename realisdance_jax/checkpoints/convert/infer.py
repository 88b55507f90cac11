"""Configuration read off tensor shapes and the `config.json` files beside them.

A size shows in several tensors; the majority counts, so that one damaged tensor is not believed but
found by the check against the key table, and named.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from realisdance_jax.checkpoints.convert.settings import agree, number, whole
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.config import (
    CONDITIONS,
    DinoConfig,
    MotionConfig,
    PoseGuiderConfig,
    RealisDanceConfig,
    UNetConfig,
    VAEConfig,
)
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.records import from_json
from realisdance_jax.utils.torch_files.lazy import LazyTensor, shapes_of

Shapes = Mapping[str, tuple[int, ...]]
Axis = tuple[str, int]
"""A tensor's name and one of its axes."""


def count(names: Iterable[str], pattern: str) -> int:
    """How many of the indices 0, 1, ... the group of `pattern` takes among `names`, to a gap."""
    found = {int(match[1]) for name in names if (match := re.match(pattern, name))}
    return next(i for i in range(len(found) + 1) if i not in found)


def majority(lengths: Iterable[int], default: int) -> int:
    """The length found most often, zeros apart; `default` counts once and yields in a tie."""
    return Counter([*filter(None, lengths), default]).most_common(1)[0][0]


def length(shapes: Shapes, name: str, axis: int) -> int:
    """Of one axis of a tensor; 0 where there is no such tensor or axis."""
    return shapes[name][axis] if len(shapes.get(name, ())) > axis else 0


def size(shapes: Shapes, axes: Iterable[Axis], default: int) -> int:
    """The `majority` of some axes."""
    return majority((length(shapes, *axis) for axis in axes), default)


def _outputs(stem: str) -> list[Axis]:
    """Where the output width of a convolution or linear map shows."""
    return [(f"{stem}.weight", 0), (f"{stem}.bias", 0)]


def _resnet_width(stem: str) -> list[Axis]:
    return [*_outputs(f"{stem}.conv1"), *_outputs(f"{stem}.norm2"), *_outputs(f"{stem}.conv2")]


def unet_config(shapes: Shapes, settings: Mapping[str, Any], where: str) -> UNetConfig:
    """From the names and shapes of one UNet (no prefix) and diffusers' settings, if any.

    Raises `UserError` when there is none, and when the settings are of a UNet of other widths.
    """
    default = UNetConfig()
    levels = count(shapes, r"down_blocks\.(\d+)\.")
    if not levels:
        raise UserError(f"{where}: expected a Stable Diffusion UNet, found no down_blocks")
    widths = tuple(
        size(shapes, _resnet_width(f"down_blocks.{i}.resnets.0"), default.widths[min(i, 3)])
        for i in range(levels)
    )
    attended = tuple(
        any(name.startswith(f"down_blocks.{i}.attentions.") for name in shapes)
        for i in range(levels)
    )
    cross = [(name, 1) for name in shapes if re.search(r"attn2\.to_[kv]\.weight$", name)]
    context = size(shapes, cross, default.context_dim)
    agree(settings, {"block_out_channels": list(widths), "cross_attention_dim": context}, where)
    try:
        return UNetConfig(
            in_channels=size(shapes, [("conv_in.weight", 1)], default.in_channels),
            out_channels=size(shapes, _outputs("conv_out"), default.out_channels),
            widths=widths,
            layers_per_block=max(1, count(shapes, r"down_blocks\.0\.resnets\.(\d+)\.")),
            attention_levels=attended,
            heads=_heads(settings, levels, where),
            context_dim=context,
            norm_groups=whole(settings, "norm_num_groups", default.norm_groups, where),
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _heads(settings: Mapping[str, Any], levels: int, where: str) -> tuple[int, ...]:
    """Heads per level; diffusers calls their number attention_head_dim (parity.md: H20)."""
    key = "num_attention_heads" if settings.get("num_attention_heads") else "attention_head_dim"
    value = settings.get(key)
    values = value if isinstance(value, list) else [value] * levels
    return tuple(whole({key: heads}, key, UNetConfig().heads[0], where) for heads in values)


def motion_widths(shapes: Shapes, levels: int) -> tuple[int, ...]:
    """Width of the motion modules of each level of a UNet's way down; 0 where there are none."""
    stem = "down_blocks.{}.motion_modules.0.temporal_transformer.{}"
    return tuple(
        size(shapes, [a for p in ("norm", "proj_in") for a in _outputs(stem.format(i, p))], 0)
        for i in range(levels)
    )


def motion_config(shapes: Shapes) -> MotionConfig | None:
    """From any names with motion modules; None without."""
    if not any("motion_modules." in name for name in shapes):
        return None
    tables = [(name, 1) for name in shapes if name.endswith("pos_encoder.pe")]
    return MotionConfig(
        attentions=max(1, count(shapes, r".*\.attention_blocks\.(\d+)\.")),
        max_frames=size(shapes, tables, MotionConfig().max_frames),
    )


def pose_config(shapes: Shapes, where: str) -> PoseGuiderConfig:
    """From the pose guider's names (no prefix); the released one's without any."""
    default = PoseGuiderConfig()
    if not shapes:
        return default
    kind = _pose_kind(shapes)
    conditions = size(shapes, _outputs("gate_module.gate_layer.2"), len(CONDITIONS))
    if kind != "gated":  # grouped: the inputs of a kernel are those of one condition
        stem = "backbone.blocks.0"
        inputs = length(shapes, f"{stem}.weight", 1)
        conditions = size(shapes, _outputs(stem), inputs) // max(1, inputs)
    if conditions > len(CONDITIONS):
        raise UserError(
            f"{where}: expected at most {len(CONDITIONS)} conditions, found {conditions}"
        )
    strided = count(shapes, r"backbone\.blocks\.(\d+)\.") // 2
    stems = ["conv_in", *(f"blocks.{2 * i + 1}" for i in range(strided))]
    axes = [_outputs(f"backbone.{stem}") for stem in stems]
    for i in range(strided):  # an encoder's width shows in the convolution that keeps it, too
        axes[i] += _outputs(f"backbone.blocks.{2 * i}")
    axes[-1] += [("gate_module.gate_layer.0.weight", 1), ("blocks_0.0.weight", 1)]
    widths = [size(shapes, places, 0) // conditions for places in axes]
    gate = [*_outputs("gate_module.gate_layer.0"), ("gate_module.gate_layer.2.weight", 1)]
    return PoseGuiderConfig(
        conditions=CONDITIONS[:conditions],
        encoder_widths=tuple(max(1, width) for width in widths),
        gate_width=size(shapes, gate, default.gate_width),
        kind=kind,
    )


def _pose_kind(shapes: Shapes) -> Literal["gated", "ungated", "embedding"]:
    """The released kind, if any tensor of its gate is there."""
    if any(name.startswith("gate_module.") for name in shapes):
        return "gated"
    return "embedding" if "conv_out.weight" in shapes else "ungated"


def token_width(shapes: Shapes) -> int:
    """Width of the image tokens that a `clip_projector` (no prefix) takes."""
    gated, inner = length(shapes, "ff.net.0.proj.bias", 0), length(shapes, "ff.net.2.weight", 1)
    axes = [("identity.weight", 1), ("ff.net.0.proj.weight", 1)]
    lengths = [*(length(shapes, *axis) for axis in axes), gated // 4, inner // 2]
    return majority(lengths, DinoConfig().width)


def model_config(
    tensors: Mapping[str, LazyTensor], settings: Mapping[str, Any], where: str
) -> RealisDanceConfig:
    """From official names; absent a pose guider and projector, those of the release.

    settings: diffusers' of the base UNet, if any.
    """
    main, pose, projector = (
        shapes_of(tensors, f"{part}.") for part in ("unet_main", "pose_guider", "clip_projector")
    )
    return RealisDanceConfig(
        unet=unet_config(main, settings, where),
        pose=pose_config(pose, where),
        dino=dino_of_width(token_width(projector)),
        motion=motion_config(main),
    )


def dino_of_width(width: int) -> DinoConfig:
    """DINOv2 of that width: the default one or, absent a file, one with heads of 64 channels."""
    return dataclasses.replace(DinoConfig(), width=width, heads=_dino_heads(width))


def _dino_heads(width: int) -> int:
    return width // 64 if width % 64 == 0 else 1


def dino_config(shapes: Shapes, settings: Mapping[str, Any], where: str) -> DinoConfig:
    """From transformers' names and settings; every DINOv2 has heads of 64 channels."""
    default, position = DinoConfig(), "embeddings.position_embeddings"
    patch = "embeddings.patch_embeddings.projection"
    axes = [
        (position, 2),
        ("embeddings.cls_token", 2),
        *_outputs("layernorm"),
        (f"{patch}.bias", 0),
    ]
    width = size(shapes, axes, default.width)
    layer = "encoder.layer.0.mlp"
    hidden = size(shapes, [*_outputs(f"{layer}.fc1"), (f"{layer}.fc2.weight", 1)], 4 * width)
    places = size(shapes, [(position, 1)], default.table_size**2 + 1) - 1
    return DinoConfig(
        width=width,
        layers=max(1, count(shapes, r"encoder\.layer\.(\d+)\.")),
        heads=whole(settings, "num_attention_heads", _dino_heads(width), where),
        mlp_ratio=max(1, hidden // width),
        patch=size(shapes, [(f"{patch}.weight", 3), (f"{patch}.weight", 2)], default.patch),
        table_size=max(1, math.isqrt(places)),
        norm_eps=number(settings, "layer_norm_eps", default.norm_eps, where),
    )


def vae_config(shapes: Shapes, settings: Mapping[str, Any], where: str) -> VAEConfig:
    """From diffusers' names (no prefix) and settings."""
    default = VAEConfig()
    levels = count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    if not levels:
        raise UserError(f"{where}: expected a Stable Diffusion VAE, found no encoder.down_blocks")
    latent = [*_outputs("post_quant_conv"), ("post_quant_conv.weight", 1)]
    return VAEConfig(
        widths=tuple(
            size(shapes, _resnet_width(f"encoder.down_blocks.{i}.resnets.0"), default.widths[0])
            for i in range(levels)
        ),
        layers_per_block=max(1, count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\.")),
        latent_channels=size(shapes, latent, default.latent_channels),
        norm_groups=whole(settings, "norm_num_groups", default.norm_groups, where),
        scaling=number(settings, "scaling_factor", default.scaling, where),
    )


def schedule_config(settings: Mapping[str, Any], where: str) -> ScheduleConfig:
    """The base model's schedule with the release's zero-SNR rescale and v-prediction.

    An entry that is null counts as absent, and 1000.0 as 1000.
    """
    names = (
        *("num_train_timesteps", "beta_start", "beta_end"),
        *("beta_schedule", "set_alpha_to_one", "steps_offset"),
    )
    given = {name: settings[name] for name in names if settings.get(name) is not None}
    for name in ("num_train_timesteps", "steps_offset"):
        value = given.get(name)
        if type(value) is float and value.is_integer():
            given[name] = int(value)
    return from_json(ScheduleConfig, given, where)
