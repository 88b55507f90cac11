"""RealisDance assembled, in the pieces that depend on different things.

encode_reference, reference_kv, context_kv, fold_context: once per clip. encode_pose: once per
frame. guide: per window. denoise: per window and step. `__call__` composes them for training.
"""

import flax.linen as nn
import jax.numpy as jnp

from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.pose_embedding import make_pose_guider
from realisdance_jax.models.projector import Projector
from realisdance_jax.models.transformer import ContextKV, Features, ReferenceKV
from realisdance_jax.models.unet import UNet
from realisdance_jax.shapes import Array, Bool, Float, Int, typechecked

COMPONENTS = ("unet_ref", "unet_main", "pose_guider", "clip_projector")
"""Submodules, as the official checkpoint names them."""


def reads_reference(path: str, reference_blocks: str) -> bool:
    """Whether the transformer block at `path` reads the reference (parity.md: H3)."""
    return reference_blocks == "full" or path.startswith(("mid_block", "up_blocks"))


class RealisDance(nn.Module):
    """Every method is pure: `model.apply(variables, ..., method="denoise")`.

    A method needs only the variables of the components it uses. DINOv2 and the VAE stand apart:
    the methods take raw DINOv2 tokens and scaled latents.
    """

    config: RealisDanceConfig
    compute: Compute = Compute()

    def setup(self):
        c = self.config
        self.unet_ref = UNet(c.unet, compute=self.compute)
        self.unet_main = UNet(c.unet, c.motion, self.compute)
        self.pose_guider = make_pose_guider(
            c.pose, c.unet.widths, c.unet.norm_groups, c.motion, self.compute
        )
        self.clip_projector = Projector(c.unet.context_dim, self.compute.dtype)

    @typechecked
    def project(self, tokens: Float[Array, "b m c"]) -> Float[Array, "b m d"]:
        """DINOv2 tokens to the cross-attention width."""
        return self.clip_projector(tokens)

    @typechecked
    def encode_reference(
        self,
        latents: Float[Array, "b h w c"],
        context: Float[Array, "b m d"],
        t: Int[Array, "b"] | None = None,
    ) -> Features:
        """Normed tokens `b n c` of the reference picture by block path.

        `t` defaults to zeros, as released (parity.md: H25).
        """
        t = jnp.zeros((latents.shape[0],), jnp.int32) if t is None else t
        features = self.unet_ref(latents[:, None], t, context)[1]
        chosen = self.config.reference_blocks
        return {path: x for path, x in features.items() if reads_reference(path, chosen)}

    def reference_kv(self, features: Features) -> ReferenceKV:
        """The main UNet's keys and values `b n k d` of reference features."""
        return self.unet_main.reference_kv(features)

    @typechecked
    def context_kv(self, context: Float[Array, "b m d"]) -> ContextKV:
        """The main UNet's keys and values `b m k d` of projected image tokens."""
        return self.unet_main.context_kv(context)

    @typechecked
    def fold_context(self, context: Float[Array, "b m d"]) -> ContextKV:
        """What the main UNet's cross-attention gives to tokens that are all alike, `b c` (H4)."""
        return self.unet_main.fold_context(context)

    @typechecked
    def encode_pose(
        self, conditions: Float[Array, "b f H W c"]
    ) -> tuple[Float[Array, "b f h w d"], Float[Array, "b f h w k"]]:
        """Stacked condition pictures in [0, 1] -> (features, gate weights in (0, 1))."""
        return self.pose_guider.encode(conditions)

    @typechecked
    def guide(self, features: Float[Array, "b f h w d"]) -> tuple[Array, ...]:
        """Addends for the main UNet from the pose features of a window."""
        return self.pose_guider.guide(features)

    @typechecked
    def denoise(
        self,
        latents: Float[Array, "b f h w c"],
        t: Int[Array, "b"],
        context: Float[Array, "_ m d"] | ContextKV,
        pose: tuple[Array, ...] | None = None,
        reference: ReferenceKV | None = None,
        keep: Bool[Array, "b"] | None = None,
    ) -> Float[Array, "b f h w c"]:
        """The main UNet's prediction, float32. `reference=None` drops the reference (H4)."""
        return self.unet_main(latents, t, context, pose, reference, keep)[0]

    @typechecked
    def denoise_keeping(
        self,
        latents: Float[Array, "b f h w c"],
        t: Int[Array, "b"],
        context: Float[Array, "_ m d"] | ContextKV,
        pose: tuple[Array, ...] | None,
        reference: ReferenceKV | None,
        layers: int,
    ) -> tuple[Float[Array, "b f h w c"], Float[Array, "b f h w e"]]:
        """`denoise`, and the deep features that `denoise_reusing` takes at later steps."""
        return self.unet_main.keeping(latents, t, context, pose, reference, layers)

    @typechecked
    def denoise_reusing(
        self,
        latents: Float[Array, "b f h w c"],
        t: Int[Array, "b"],
        context: Float[Array, "_ m d"] | ContextKV,
        pose: tuple[Array, ...] | None,
        reference: ReferenceKV | None,
        deep: Float[Array, "b f h w e"],
        layers: int,
    ) -> Float[Array, "b f h w c"]:
        """`denoise` approximately: the outermost `layers` layers anew, the rest from `deep`."""
        return self.unet_main.reusing(latents, t, context, pose, reference, deep, layers)

    @typechecked
    def __call__(
        self,
        latents: Float[Array, "b f h w c"],
        t: Int[Array, "b"],
        reference_latents: Float[Array, "b h w c"],
        tokens: Float[Array, "b m d"],
        conditions: Float[Array, "b f H W k"],
        keep: Bool[Array, "b"] | None = None,
    ) -> Float[Array, "b f h w c"]:
        """The training forward. `keep` marks examples that see the reference (all if None)."""
        context = self.project(tokens)
        reference = self.reference_kv(self.encode_reference(reference_latents, context))
        pose = self.guide(self.encode_pose(conditions)[0])
        return self.denoise(latents, t, context, pose, reference, keep)
