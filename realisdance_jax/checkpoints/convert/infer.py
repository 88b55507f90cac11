"""Configuration read off tensor shapes and the `config.json` files beside them."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

Shapes = Mapping[str, tuple[int, ...]]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where there is no such file. Raises `UserError` on anything else."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest index that `pattern`'s group takes among the names."""
    found = (re.match(pattern, name) for name in shapes)
    return max((int(match[1]) for match in found if match), default=-1) + 1


def shape_of(shapes: Shapes, name: str, where: str) -> tuple[int, ...]:
    """Shape of a tensor that must be there; else a `UserError` naming it."""
    if name not in shapes:
        raise UserError(f"{where}: expected tensor {name}, found none of that name")
    return shapes[name]


def unet_config(shapes: Shapes, settings: Mapping[str, Any], where: str) -> UNetConfig:
    """From the names and shapes of one UNet (no prefix) and diffusers' settings, if any."""
    levels = count(shapes, r"down_blocks\.(\d+)\.")
    if not levels:
        raise UserError(f"{where}: expected a Stable Diffusion UNet, found no down_blocks")
    widths = tuple(
        shape_of(shapes, f"down_blocks.{i}.resnets.0.conv1.weight", where)[0] for i in range(levels)
    )
    # diffusers calls the number of heads attention_head_dim (parity.md: H20).
    heads = settings.get("num_attention_heads") or settings.get("attention_head_dim") or 8
    attended = tuple(
        any(name.startswith(f"down_blocks.{i}.attentions.") for name in shapes)
        for i in range(levels)
    )
    cross = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    try:
        return UNetConfig(
            in_channels=shape_of(shapes, "conv_in.weight", where)[1],
            out_channels=shape_of(shapes, "conv_out.weight", where)[0],
            widths=widths,
            layers_per_block=count(shapes, r"down_blocks\.0\.resnets\.(\d+)\."),
            attention_levels=attended,
            heads=tuple(heads) if isinstance(heads, list | tuple) else (int(heads),) * levels,
            context_dim=shape_of(shapes, cross, where)[1],
            norm_groups=int(settings.get("norm_num_groups") or 32),
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from None


def motion_config(shapes: Shapes) -> MotionConfig | None:
    """From any names with motion modules; None without."""
    tables = [shape for name, shape in shapes.items() if name.endswith("pos_encoder.pe")]
    if not tables:
        return None
    attentions = count(shapes, r".*\.attention_blocks\.(\d+)\.")
    return MotionConfig(attentions=attentions, max_frames=tables[0][1])


def pose_config(shapes: Shapes, where: str) -> PoseGuiderConfig:
    """From the pose guider's names (no prefix)."""
    conditions = shape_of(shapes, "gate_module.gate_layer.2.bias", where)[0]
    if conditions > len(CONDITIONS):
        raise UserError(
            f"{where}: expected at most {len(CONDITIONS)} conditions, found {conditions}"
        )
    strided = count(shapes, r"backbone\.blocks\.(\d+)\.") // 2
    names = [
        "backbone.conv_in.bias",
        *(f"backbone.blocks.{2 * i + 1}.bias" for i in range(strided)),
    ]
    return PoseGuiderConfig(
        conditions=CONDITIONS[:conditions],
        encoder_widths=tuple(shape_of(shapes, name, where)[0] // conditions for name in names),
        gate_width=shape_of(shapes, "gate_module.gate_layer.0.bias", where)[0],
    )


def with_token_width(config: RealisDanceConfig, width: int) -> RealisDanceConfig:
    """`config` whose image encoder has the width that the projector takes."""
    dino = dataclasses.replace(config.dino, width=width, heads=max(1, width // 64))
    return dataclasses.replace(config, dino=dino)


def dino_config(shapes: Shapes, settings: Mapping[str, Any], where: str) -> DinoConfig:
    """From transformers' names and settings; every DINOv2 has heads of 64 channels."""
    positions, width = shape_of(shapes, "embeddings.position_embeddings", where)[1:]
    side = round((positions - 1) ** 0.5)
    hidden = shape_of(shapes, "encoder.layer.0.mlp.fc1.weight", where)[0]
    projection = shape_of(shapes, "embeddings.patch_embeddings.projection.weight", where)
    return DinoConfig(
        width=width,
        layers=count(shapes, r"encoder\.layer\.(\d+)\."),
        heads=int(settings.get("num_attention_heads") or max(1, width // 64)),
        mlp_ratio=hidden // width,
        patch=projection[-1],
        table_size=side,
        norm_eps=float(settings.get("layer_norm_eps") or 1e-6),
    )


def vae_config(shapes: Shapes, settings: Mapping[str, Any], where: str) -> VAEConfig:
    """From diffusers' names (no prefix) and settings."""
    levels = count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    names = [f"encoder.down_blocks.{i}.resnets.0.conv1.weight" for i in range(levels)]
    return VAEConfig(
        widths=tuple(shape_of(shapes, name, where)[0] for name in names),
        layers_per_block=count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        latent_channels=shape_of(shapes, "post_quant_conv.weight", where)[1],
        norm_groups=int(settings.get("norm_num_groups") or 32),
        scaling=float(settings.get("scaling_factor") or 0.18215),
    )


def schedule_config(settings: Mapping[str, Any]) -> ScheduleConfig:
    """The base model's schedule with the release's zero-SNR rescale and v-prediction."""
    names = (
        *("num_train_timesteps", "beta_start", "beta_end"),
        *("beta_schedule", "set_alpha_to_one", "steps_offset"),
    )
    return ScheduleConfig(**{name: settings[name] for name in names if name in settings})
