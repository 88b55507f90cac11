"""LPIPS (Zhang et al., 2018), version 0.1: the VGG-16 and AlexNet graphs with linear layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from realisdance_jax.metrics.layers import Params, convolve, max_pool
from realisdance_jax.metrics.weights import Shapes, WeightFile, conv_shapes
from realisdance_jax.shapes import Array, Float, typechecked

Backbone = Literal["vgg", "alex"]

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_TINY = 1e-10  # keeps a feature of zeros from dividing by zero


@dataclass(frozen=True)
class _Conv:
    """A convolution and the ReLU behind it. index: place in torchvision's `features`."""

    index: int
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    pad: int = 1


_STAGES: dict[str, tuple[tuple[_Conv, ...], ...]] = {
    "vgg": (
        (_Conv(0, 3, 64), _Conv(2, 64, 64)),
        (_Conv(5, 64, 128), _Conv(7, 128, 128)),
        (_Conv(10, 128, 256), _Conv(12, 256, 256), _Conv(14, 256, 256)),
        (_Conv(17, 256, 512), _Conv(19, 512, 512), _Conv(21, 512, 512)),
        (_Conv(24, 512, 512), _Conv(26, 512, 512), _Conv(28, 512, 512)),
    ),
    "alex": (
        (_Conv(0, 3, 64, kernel=11, stride=4, pad=2),),
        (_Conv(3, 64, 192, kernel=5, pad=2),),
        (_Conv(6, 192, 384),),
        (_Conv(8, 384, 256),),
        (_Conv(10, 256, 256),),
    ),
}
"""Each stage ends in a feature that is compared."""

_POOL = {"vgg": (2, (1, 2, 3, 4)), "alex": (3, (1, 2))}
"""Window of the max pooling, stride 2, and the stages it stands in front of."""


def _trunk_shapes(backbone: Backbone) -> Shapes:
    shapes: Shapes = {}
    for conv in (conv for stage in _STAGES[backbone] for conv in stage):
        name, kernel = f"features.{conv.index}", (conv.kernel, conv.kernel)
        shapes |= conv_shapes(name, conv.inputs, conv.outputs, kernel, bias=True)
    return shapes


def _linear_shapes(backbone: Backbone) -> Shapes:
    ends = [stage[-1].outputs for stage in _STAGES[backbone]]
    return {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(ends)}


_VISION, _LPIPS = "torchvision", "richzhang/PerceptualSimilarity, lpips/weights/v0.1"
_FULLY = r"classifier\..*"
TRUNKS = {
    "vgg": WeightFile(
        "vgg16-397923af.pth", "VGG-16 weights", _VISION, _trunk_shapes("vgg"), _FULLY
    ),
    "alex": WeightFile(
        "alexnet-owt-7be5be79.pth", "AlexNet weights", _VISION, _trunk_shapes("alex"), _FULLY
    ),
}
LINEAR = {
    "vgg": WeightFile("vgg.pth", "LPIPS linear layers for VGG", _LPIPS, _linear_shapes("vgg")),
    "alex": WeightFile(
        "alex.pth", "LPIPS linear layers for AlexNet", _LPIPS, _linear_shapes("alex")
    ),
}


def _features(backbone: Backbone, params: Params, x: Array) -> Iterator[Array]:
    window, before = _POOL[backbone]
    for number, stage in enumerate(_STAGES[backbone]):
        if number in before:
            x = max_pool(x, (window, window), (2, 2), ((0, 0), (0, 0)))
        for conv in stage:
            pads = [(conv.pad, conv.pad)] * 2
            x = jax.nn.relu(convolve(params, f"features.{conv.index}", x, conv.stride, pads))
        yield x


@typechecked
def lpips(
    backbone: Backbone, params: Params, a: Float[Array, "n H W 3"], b: Float[Array, "n H W 3"]
) -> Float[Array, " n"]:
    """Perceptual distance of pictures in [-1, 1]; `params` of `TRUNKS` and `LINEAR` together.

    DisCo passes pictures in [0, 1], which halves their contrast: such numbers compare with its
    tables only.
    """
    return _lpips(backbone, dict(params), a, b)


@partial(jax.jit, static_argnums=0)
def _lpips(backbone: Backbone, params: Params, a: Array, b: Array) -> Array:
    both = (jnp.concatenate([a, b]) - jnp.asarray(_SHIFT)) / jnp.asarray(_SCALE)
    distance = jnp.zeros(len(a))
    for number, x in enumerate(_features(backbone, params, both)):
        x = x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + _TINY)
        one, other = jnp.split(x, 2)
        linear = params[f"lin{number}.model.1.weight"][0, 0, :, 0]
        distance += (jnp.square(one - other) * linear).sum(axis=-1).mean(axis=(1, 2))
    return distance
