"""Weights and inputs of the metric networks for goldens: functions of names, NumPy only."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from realisdance_jax.metrics.i3d import i3d_shapes
from realisdance_jax.metrics.inception import inception_shapes
from realisdance_jax.metrics.lpips import LINEAR, TRUNKS
from realisdance_jax.metrics.resnet3d import resnet3d_shapes
from realisdance_jax.metrics.weights import Shapes

GOLDEN = Path(__file__).parents[1] / "golden" / "metric_networks.npz"
DIVISOR = 8
"""The 3D networks have widths divided by this."""

TOLERANCE = 1e-4
"""Of the largest value of an output."""

SHAPES: Mapping[str, Callable[[], Shapes]] = {
    "lpips_vgg": lambda: TRUNKS["vgg"].shapes | LINEAR["vgg"].shapes,
    "lpips_alex": lambda: TRUNKS["alex"].shapes | LINEAR["alex"].shapes,
    "inception": inception_shapes,
    "i3d": lambda: i3d_shapes(DIVISOR),
    "resnet3d": lambda: resnet3d_shapes(DIVISOR),
}


def _bytes(name: str, count: int) -> np.ndarray:
    return np.frombuffer(hashlib.shake_128(f"metrics/{name}".encode()).digest(count), np.uint8)


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values on 256 levels with variance 1, scaled as the layer needs."""
    levels = _bytes(name, int(np.prod(shape))).astype(np.float32).reshape(shape)
    unit = (levels - 127.5) / np.float32(73.9)
    if name.endswith("running_var"):
        return 1 + np.float32(0.25) * unit
    if name.startswith("lin"):
        return np.abs(unit)
    if len(shape) == 1:
        centre = 1 if name.endswith("weight") else 0
        return centre + np.float32(0.1) * unit
    return unit * np.float32(np.sqrt(2 / np.prod(shape[1:])))


@functools.cache
def state(network: str) -> Mapping[str, np.ndarray]:
    """Torch names and values of `network`."""
    return {name: _weight(name, shape) for name, shape in SHAPES[network]().items()}


def _picture(name: str, *shape: int) -> np.ndarray:
    """8-bit frames `n h w 3` of blocks of 8 pixels with noise on top."""
    n, h, w, c = shape
    coarse = _bytes(f"{name}/coarse", n * (h // 8) * (w // 8) * c).reshape(n, h // 8, w // 8, c)
    blocks = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return (blocks // 2 + _bytes(name, n * h * w * c).reshape(shape) // 2).astype(np.uint8)


@functools.cache
def inputs(network: str) -> tuple[np.ndarray, ...]:
    """What `network` is given, channels last."""
    if network.startswith("lpips"):
        sides = (_picture(f"lpips/{side}", 2, 64, 72, 3) for side in "ab")
        a, b = (x / np.float32(127.5) - 1 for x in sides)
        b[1] = (3 * a[1] + b[1]) / 4
        return a, b
    if network == "inception":
        return (_picture(network, 2, 48, 400, 3),)  # stretched to 299: one side up, one down
    frames, size = {"i3d": (11, 224), "resnet3d": (16, 112)}[network]
    clip = _picture(network, frames, size, size, 3)[None].astype(np.float32)
    return (clip / np.float32(127.5) - 1 if network == "i3d" else clip - np.float32(107),)
