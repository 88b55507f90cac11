"""What defines a model: widths, depths, conditions. Read from checkpoints, kept in config.json."""

from dataclasses import dataclass
from typing import Literal

CONDITIONS = ("dwpose", "hamer", "smpl")
"""Order of the three pose renderings along the channel axis (parity.md: H26)."""


@dataclass(frozen=True)
class MotionConfig:
    """Temporal modules in the AnimateDiff v2 layout."""

    heads: int = 8
    attentions: int = 2
    max_frames: int = 32


@dataclass(frozen=True)
class UNetConfig:
    """Stable Diffusion 1.5 topology. `heads` counts heads per level (parity.md: H20)."""

    in_channels: int = 4
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (8, 8, 8, 8)
    context_dim: int = 768
    norm_groups: int = 32

    def __post_init__(self):
        levels = len(self.widths)
        if not len(self.attention_levels) == len(self.heads) == levels:
            raise ValueError(
                f"widths, attention_levels and heads need one entry per level, got {levels}, "
                f"{len(self.attention_levels)} and {len(self.heads)}"
            )
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % self.norm_groups or width % heads:
                raise ValueError(
                    f"width {width} must divide by {self.norm_groups} norm groups and {heads} heads"
                )


@dataclass(frozen=True)
class PoseGuiderConfig:
    """Pose gating (grouped encoders, gate) and pose guidance network (paper section 2).

    kind: `gated` is the paper's; `ungated` has every condition at full weight; `embedding` is the
    baseline's, one addend without gate, levels or motion modules. motion: whether there are motion
    modules in the video stage. Only `gated` with motion modules is RealisDance.
    """

    conditions: tuple[str, ...] = CONDITIONS
    encoder_widths: tuple[int, ...] = (16, 32, 96, 256)
    gate_width: int = 128
    kind: Literal["gated", "ungated", "embedding"] = "gated"
    motion: bool = True

    def __post_init__(self):
        known = all(name in CONDITIONS for name in self.conditions)
        if not known or len(set(self.conditions)) < len(self.conditions):
            raise ValueError(
                f"conditions: expected some of {', '.join(CONDITIONS)}, each once, "
                f"got {', '.join(self.conditions)}"
            )


@dataclass(frozen=True)
class DinoConfig:
    """DINOv2 image encoder; `table_size` is the side of the position table in patches."""

    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_ratio: int = 4
    patch: int = 14
    table_size: int = 37
    norm_eps: float = 1e-6


@dataclass(frozen=True)
class VAEConfig:
    """Stable Diffusion autoencoder."""

    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    scaling: float = 0.18215


@dataclass(frozen=True)
class RealisDanceConfig:
    """The whole model. `motion=None` is the image stage (stage 1), otherwise the video stage.

    `reference_blocks` says which transformer blocks read the reference: all 16 (`full`) or those
    of the middle and the up path (`midup`).
    """

    unet: UNetConfig = UNetConfig()
    pose: PoseGuiderConfig = PoseGuiderConfig()
    dino: DinoConfig = DinoConfig()
    vae: VAEConfig = VAEConfig()
    motion: MotionConfig | None = None
    reference_blocks: str = "full"

    def __post_init__(self):
        if self.reference_blocks not in ("full", "midup"):
            raise ValueError(
                f"reference_blocks: expected full or midup, got {self.reference_blocks!r}"
            )
