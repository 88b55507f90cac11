"""Down, middle and up blocks of the UNet; spatial transformers and motion modules are optional."""

from collections.abc import Iterator

import flax.linen as nn
import jax.numpy as jnp

from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import MotionConfig
from realisdance_jax.models.motion import MotionModule
from realisdance_jax.models.resnet import Downsample, ResnetBlock, Upsample
from realisdance_jax.models.transformer import Context, Features, ReferenceKV, SpatialTransformer
from realisdance_jax.shapes import Array


class _Level(nn.Module):
    """Shared by the blocks: `count` resnets, each with optional transformer and motion module."""

    width: int
    count: int
    heads: int
    groups: int
    key: str
    attention: bool
    motion: MotionConfig | None
    compute: Compute = Compute()

    def make_resnets(self, count: int) -> list[ResnetBlock]:
        block, dtype = self.compute.block(ResnetBlock), self.compute.dtype
        return [block(self.width, self.groups, dtype, name=f"resnets.{i}") for i in range(count)]

    def make_attentions(self) -> list[SpatialTransformer]:
        block = self.compute.block(SpatialTransformer)
        return [
            block(
                self.width,
                self.heads,
                self.groups,
                f"{self.key}.attentions.{i}",
                self.compute,
                name=f"attentions.{i}",
            )
            for i in range(self.count if self.attention else 0)
        ]

    def make_motions(self) -> list[MotionModule]:
        if self.motion is None:
            return []
        block = self.compute.block(MotionModule)
        return [
            block(self.motion, self.groups, self.compute, name=f"motion_modules.{i}")
            for i in range(self.count)
        ]

    def transformers(self) -> Iterator[SpatialTransformer]:
        yield from self.attentions

    def attend_and_move(
        self,
        i: int,
        x: Array,
        context: Context,
        reference: ReferenceKV | None,
        keep: Array | None,
        features: Features,
    ) -> Array:
        """Transformer i (normed tokens go to `features`), then motion module i, where present."""
        if self.attention:
            x, normed = self.attentions[i](x, context, reference, keep)
            features.update(normed)
        return self.motions[i](x) if self.motions else x


class DownBlock(_Level):
    """resnet, transformer, motion per layer, a skip after each; then downsampler and its skip."""

    downsample: bool = True

    def setup(self):
        self.resnets = self.make_resnets(self.count)
        self.attentions = self.make_attentions()
        self.motions = self.make_motions()
        if self.downsample:
            self.downsampler = Downsample(self.width, self.compute.dtype, name="downsamplers.0")

    def __call__(
        self,
        x: Array,
        time: Array,
        context: Context,
        reference: ReferenceKV | None = None,
        keep: Array | None = None,
        layers: int | None = None,
    ) -> tuple[Array, list[Array], Features]:
        """`layers`: only the first so many, and no downsampler."""
        skips: list[Array] = []
        features: Features = {}
        for i, resnet in enumerate(self.resnets[:layers]):
            x = self.attend_and_move(i, resnet(x, time), context, reference, keep, features)
            skips.append(x)
        if self.downsample and layers is None:
            x = self.downsampler(x)
            skips.append(x)
        return x, skips, features


class MidBlock(_Level):
    """resnet, transformer, resnet; no motion modules (parity.md: H11)."""

    def setup(self):
        self.resnets = self.make_resnets(2)
        self.attentions = self.make_attentions()
        self.motions = self.make_motions()

    def __call__(
        self,
        x: Array,
        time: Array,
        context: Context,
        reference: ReferenceKV | None = None,
        keep: Array | None = None,
    ) -> tuple[Array, Features]:
        features: Features = {}
        x = self.resnets[0](x, time)
        x = self.attend_and_move(0, x, context, reference, keep, features)
        return self.resnets[1](x, time), features


class UpBlock(_Level):
    """Per layer: concatenate next skip, resnet, transformer, motion; then upsample to `size`."""

    upsample: bool = True

    def setup(self):
        self.resnets = self.make_resnets(self.count)
        self.attentions = self.make_attentions()
        self.motions = self.make_motions()
        if self.upsample:
            self.upsampler = Upsample(self.width, self.compute.dtype, name="upsamplers.0")

    def __call__(
        self,
        x: Array,
        skips: list[Array],
        size: tuple[int, ...],
        time: Array,
        context: Context,
        reference: ReferenceKV | None = None,
        keep: Array | None = None,
        first: int = 0,
    ) -> tuple[Array, Features]:
        """`skips` in order of use; `size` is the height and width of the next level's skips.

        As many layers run as there are skips, from layer `first` on.
        """
        features: Features = {}
        for i, skip in enumerate(skips, first):
            x = self.resnets[i](jnp.concatenate([x, skip], axis=-1), time)
            x = self.attend_and_move(i, x, context, reference, keep, features)
        if self.upsample:
            height, width = size
            x = self.upsampler(x, height, width)
        return x, features
