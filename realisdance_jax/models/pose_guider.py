"""Pose gating module and pose guidance network (paper section 2)."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange

from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import MotionConfig, PoseGuiderConfig
from realisdance_jax.models.layers import Conv, GroupedConv
from realisdance_jax.models.motion import MotionModule
from realisdance_jax.shapes import Array, Float, typechecked


class ConditionEncoders(nn.Module):
    """One encoder per condition, run side by side as grouped convolutions; SiLU after each."""

    conditions: int
    widths: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`b f H W (k 3)` -> `b f h w (k widths[-1])`."""

        def conv(groups: list[Array], width: int, stride: int, name: str) -> list[Array]:
            layer = GroupedConv(width, stride, self.dtype, name=name)
            return [nn.silu(y) for y in layer(groups)]

        pictures = rearrange(x, "b f h w c -> (b f) h w c")
        groups = jnp.split(pictures, self.conditions, axis=-1)
        groups = conv(groups, self.widths[0], 1, "conv_in")
        for i, (width, wider) in enumerate(zip(self.widths[:-1], self.widths[1:], strict=True)):
            groups = conv(groups, width, 1, f"blocks.{2 * i}")
            groups = conv(groups, wider, 2, f"blocks.{2 * i + 1}")
        return rearrange(jnp.concatenate(groups, axis=-1), "(b f) h w c -> b f h w c", b=len(x))


class Gate(nn.Module):
    """One weight in (0, 1) per condition and pixel (parity.md: H26)."""

    conditions: int
    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.silu(Conv(self.width, dtype=self.dtype, name="gate_layer.0")(x))
        x = Conv(self.conditions, kernel_size=7, dtype=self.dtype, name="gate_layer.2")(x)
        return nn.sigmoid(x.astype(jnp.float32))


class GuidanceBlock(nn.Module):
    """conv, SiLU, conv, SiLU; the first one strided."""

    width: int
    stride: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.silu(Conv(self.width, stride=self.stride, dtype=self.dtype, name="0")(x))
        return nn.silu(Conv(self.width, dtype=self.dtype, name="2")(x))


class PoseGuider(nn.Module):
    """`encode` works per frame, `guide` per window of frames.

    `widths` are the main UNet's; outputs match its conv_in and its down blocks.
    """

    config: PoseGuiderConfig
    widths: tuple[int, ...]
    groups: int
    motion: MotionConfig | None = None
    compute: Compute = Compute()

    def setup(self):
        compute, dtype = self.compute, self.compute.dtype
        count = len(self.config.conditions)
        widths = (self.widths[0], *self.widths)
        last = len(widths) - 1
        self.backbone = compute.block(ConditionEncoders)(count, self.config.encoder_widths, dtype)
        if self.config.kind == "gated":
            self.gate_module = Gate(count, self.config.gate_width, dtype)
        self.merge = Conv(widths[0], kernel_size=1, dtype=dtype, name="blocks_0.0")
        self.blocks = [
            compute.block(GuidanceBlock)(width, 1 if i == last else 2, dtype, name=f"blocks_{i}")
            for i, width in enumerate(widths)
            if i > 0
        ]
        self.motions = [
            compute.block(MotionModule)(
                self.motion, self.groups, compute, name=f"motion_modules.{i}"
            )
            for i, _ in enumerate(widths)
            if self.motion is not None
        ]
        self.out_projections = [
            Conv(
                width,
                kernel_size=1,
                zero_init=True,
                dtype=dtype,
                name=f"block_{i}_out_proj",
            )
            for i, width in enumerate(widths)
        ]

    @typechecked
    def encode(
        self, conditions: Float[Array, "b f H W c"]
    ) -> tuple[Float[Array, "b f h w d"], Float[Array, "b f h w k"]]:
        """Condition pictures in [0, 1], stacked on channels -> (merged features, gate weights).

        Without a gate the weights are ones.
        """
        x = self.backbone(self.compute.spread(conditions, "batch", "frames", None, None, None))
        if self.config.kind != "gated":
            ones = jnp.ones((*x.shape[:-1], len(self.config.conditions)), jnp.float32)
            return nn.silu(self.merge(x)), ones
        gates = self.gate_module(x)
        x = rearrange(x, "... (k c) -> ... k c", k=gates.shape[-1])
        x = rearrange(x * gates[..., None].astype(x.dtype), "... k c -> ... (k c)")
        return nn.silu(self.merge(x)), gates

    @typechecked
    def guide(self, features: Float[Array, "b f h w d"]) -> tuple[Array, ...]:
        """One addend for conv_in and one per down block; motion modules need two frames (H15)."""
        x, outputs = features, []
        for i, project in enumerate(self.out_projections):
            if i > 0:
                x = self.blocks[i - 1](x)
            if self.motions and x.shape[1] > 1:
                x = self.motions[i](x)
            outputs.append(project(x))
        return tuple(outputs)

    def __call__(self, conditions: Float[Array, "b f H W c"]) -> tuple[Array, ...]:
        return self.guide(self.encode(conditions)[0])
