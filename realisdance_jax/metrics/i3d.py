"""I3D (Carreira and Zisserman, 2017) as DisCo uses it for FVD: logits of 400 Kinetics classes.

Padding follows TensorFlow: as much as a whole number of strides needs, the odd one behind.
Unlike in piergiaj/pytorch-i3d, the last mean pooling spans one step of time instead of two, and
copies of that code with a normalisation epsilon of 1e-5 give logits that differ by 1 %.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from realisdance_jax.metrics.layers import Pads, Params, batch_norm, convolve, max_pool
from realisdance_jax.metrics.weights import Shapes, WeightFile, conv_shapes, norm_shapes
from realisdance_jax.shapes import Array, Float, typechecked

SIZE = 224
CLASSES = 400
_EPS = 1e-3
_WINDOW = 7  # of the mean over height and width

Sizes = tuple[int, int, int]  # t h w

_POOLS: dict[str, tuple[Sizes, Sizes]] = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
_CONVS: dict[str, tuple[int, int, int]] = {  # width, kernel, stride
    "Conv3d_1a_7x7": (64, 7, 2),
    "Conv3d_2b_1x1": (64, 1, 1),
    "Conv3d_2c_3x3": (192, 3, 1),
}
_MIXED: dict[str, tuple[int, ...]] = {  # widths of b0, b1a, b1b, b2a, b2b, b3b
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_ORDER = (
    "Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3",
    "Mixed_3b", "Mixed_3c", "MaxPool3d_4a_3x3",
    "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "MaxPool3d_5a_2x2",
    "Mixed_5b", "Mixed_5c",
)  # fmt: skip


def i3d_shapes(divisor: int = 1) -> Shapes:
    """Torch names and shapes; all widths but the classes are divided by `divisor`."""
    shapes: Shapes = {}

    def unit(name: str, inputs: int, outputs: int, kernel: int) -> None:
        sizes = (kernel,) * 3
        shapes.update(conv_shapes(f"{name}.conv3d", inputs, outputs, sizes))
        shapes.update(norm_shapes(f"{name}.bn", outputs))

    width = 3
    for name in _ORDER:
        if name in _CONVS:
            outputs, kernel, _ = _CONVS[name]
            unit(name, width, outputs // divisor, kernel)
            width = outputs // divisor
        elif name in _MIXED:
            b0, b1a, b1b, b2a, b2b, b3b = (w // divisor for w in _MIXED[name])
            unit(f"{name}.b0", width, b0, 1)
            unit(f"{name}.b1a", width, b1a, 1)
            unit(f"{name}.b1b", b1a, b1b, 3)
            unit(f"{name}.b2a", width, b2a, 1)
            unit(f"{name}.b2b", b2a, b2b, 3)
            unit(f"{name}.b3b", width, b3b, 1)
            width = b0 + b1b + b2b + b3b
    return shapes | conv_shapes("logits.conv3d", width, CLASSES, (1, 1, 1), bias=True)


I3D = WeightFile(
    "i3d_pretrained_400.pt",
    "I3D weights for FVD",
    "Wangt-CN/DisCo, folder eval_fvd",
    i3d_shapes(),
)


def _pads(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> Pads:
    """Padding in front and behind for windows that cover `sizes`."""
    needed = [max(k - (n % s or s), 0) for n, k, s in zip(sizes, kernel, stride, strict=True)]
    return [(n // 2, n - n // 2) for n in needed]


def _unit(params: Params, name: str, x: Array, stride: int = 1) -> Array:
    kernel = params[f"{name}.conv3d.weight"].shape[:3]
    steps = (stride,) * 3
    y = convolve(params, f"{name}.conv3d", x, steps, _pads(x.shape[1:4], kernel, steps))
    return jax.nn.relu(batch_norm(params, f"{name}.bn", y, _EPS))


def _pool(x: Array, size: Sizes, stride: Sizes) -> Array:
    # Padded with zeros, which lose against every feature: those are behind a ReLU.
    return max_pool(x, size, stride, _pads(x.shape[1:4], size, stride))


def _mixed(params: Params, name: str, x: Array) -> Array:
    b0 = _unit(params, f"{name}.b0", x)
    b1 = _unit(params, f"{name}.b1b", _unit(params, f"{name}.b1a", x))
    b2 = _unit(params, f"{name}.b2b", _unit(params, f"{name}.b2a", x))
    b3 = _unit(params, f"{name}.b3b", _pool(x, (3, 3, 3), (1, 1, 1)))
    return jnp.concatenate([b0, b1, b2, b3], axis=-1)


@typechecked
def i3d_logits(params: Params, clips: Float[Array, "n t 224 224 3"]) -> Float[Array, "n 400"]:
    """Logits of clips of any length in [-1, 1], mean over time."""
    return _i3d_logits(dict(params), clips)


@jax.jit
def _i3d_logits(params: Params, x: Array) -> Array:
    for name in _ORDER:
        if name in _POOLS:
            x = _pool(x, *_POOLS[name])
        elif name in _CONVS:
            x = _unit(params, name, x, _CONVS[name][2])
        else:
            x = _mixed(params, name, x)
    assert x.shape[2:4] == (_WINDOW, _WINDOW)
    x = x.mean(axis=(2, 3), keepdims=True)
    return convolve(params, "logits.conv3d", x).mean(axis=(1, 2, 3))
