"""The pose path of the baseline: one embedding of the poses, added once (paper section 3)."""

import flax.linen as nn
import jax.numpy as jnp

from realisdance_jax.models.compute import ONE_DEVICE, Compute
from realisdance_jax.models.config import MotionConfig, PoseGuiderConfig
from realisdance_jax.models.layers import Conv
from realisdance_jax.models.pose_guider import ConditionEncoders, PoseGuider
from realisdance_jax.shapes import Array, Float, typechecked


class PoseEmbedding(nn.Module):
    """Animate Anyone's guider as the paper's comparison has it: no gate, no deeper levels.

    A stack of convolutions as ControlNet embeds its condition, ended by a zero-initialised one to
    the main UNet's first width. It has the methods of `PoseGuider` and knows no other frames.
    """

    config: PoseGuiderConfig
    width: int
    compute: Compute = Compute()

    def setup(self):
        count, dtype = len(self.config.conditions), self.compute.dtype
        encoders = self.compute.block(ConditionEncoders)
        self.backbone = encoders(count, self.config.encoder_widths, dtype)
        self.conv_out = Conv(self.width, zero_init=True, dtype=dtype)

    @typechecked
    def encode(
        self, conditions: Float[Array, "b f H W c"]
    ) -> tuple[Float[Array, "b f h w d"], Float[Array, "b f h w k"]]:
        """Condition pictures in [0, 1] -> (features, ones in the place of gate weights)."""
        x = self.backbone(self.compute.spread(conditions, "batch", "frames", None, None, None))
        return x, jnp.ones((*x.shape[:-1], len(self.config.conditions)), jnp.float32)

    @typechecked
    def guide(self, features: Float[Array, "b f h w d"]) -> tuple[Array, ...]:
        """The one addend, for conv_in."""
        return (self.conv_out(features),)

    def __call__(self, conditions: Float[Array, "b f H W c"]) -> tuple[Array, ...]:
        return self.guide(self.encode(conditions)[0])


def make_pose_guider(
    config: PoseGuiderConfig,
    widths: tuple[int, ...],
    groups: int,
    motion: MotionConfig | None = None,
    compute: Compute = ONE_DEVICE,
) -> nn.Module:
    """The pose path that `config.kind` names; `widths` and `groups` are the main UNet's."""
    if config.kind == "embedding":
        return PoseEmbedding(config, widths[0], compute)
    return PoseGuider(config, widths, groups, motion if config.motion else None, compute)
