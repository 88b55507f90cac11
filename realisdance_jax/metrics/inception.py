"""InceptionV3 as pytorch-fid has it: the graph of the TensorFlow file that defined FID.

It differs from torchvision's: mean pooling does not count padding, the last block pools by maximum,
and pictures are stretched to 299 x 299 without smoothing first.
"""

import jax
import jax.numpy as jnp

from realisdance_jax.metrics.layers import Params, batch_norm, convolve, max_pool, mean_pool
from realisdance_jax.metrics.weights import Shapes, WeightFile, conv_shapes, norm_shapes
from realisdance_jax.shapes import Array, Float, UInt8, typechecked

SIZE = 299
_EPS = 1e-3

Unit = tuple[str, int, tuple[int, int]]  # name, width, kernel
Chain = tuple[Unit, ...]

_STEM: tuple[tuple[str, int, tuple[int, int], int, int], ...] = (
    # name, width, kernel, stride, padding; a max pooling follows 2b and 4a
    ("Conv2d_1a_3x3", 32, (3, 3), 2, 0),
    ("Conv2d_2a_3x3", 32, (3, 3), 1, 0),
    ("Conv2d_2b_3x3", 64, (3, 3), 1, 1),
    ("Conv2d_3b_1x1", 80, (1, 1), 1, 0),
    ("Conv2d_4a_3x3", 192, (3, 3), 1, 0),
)
_POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")


def _square(pool: int) -> tuple[Chain, ...]:
    """5x5 and doubled 3x3 branches at 35 x 35."""
    return (
        (("branch1x1", 64, (1, 1)),),
        (("branch5x5_1", 48, (1, 1)), ("branch5x5_2", 64, (5, 5))),
        (
            ("branch3x3dbl_1", 64, (1, 1)),
            ("branch3x3dbl_2", 96, (3, 3)),
            ("branch3x3dbl_3", 96, (3, 3)),
        ),
        (("branch_pool", pool, (1, 1)),),
    )


def _factored(width: int) -> tuple[Chain, ...]:
    """7x7 branches as rows and columns at 17 x 17."""
    return (
        (("branch1x1", 192, (1, 1)),),
        (
            ("branch7x7_1", width, (1, 1)),
            ("branch7x7_2", width, (1, 7)),
            ("branch7x7_3", 192, (7, 1)),
        ),
        (
            ("branch7x7dbl_1", width, (1, 1)),
            ("branch7x7dbl_2", width, (7, 1)),
            ("branch7x7dbl_3", width, (1, 7)),
            ("branch7x7dbl_4", width, (7, 1)),
            ("branch7x7dbl_5", 192, (1, 7)),
        ),
        (("branch_pool", 192, (1, 1)),),
    )


_ROW: Unit = ("a", 384, (1, 3))
_COLUMN: Unit = ("b", 384, (3, 1))
_FORKED: tuple[Chain, ...] = (  # the second and third branch end in a row and a column side by side
    (("branch1x1", 320, (1, 1)),),
    (("branch3x3_1", 384, (1, 1)),),
    (("branch3x3dbl_1", 448, (1, 1)), ("branch3x3dbl_2", 384, (3, 3))),
    (("branch_pool", 192, (1, 1)),),
)
_FORKS = {1: "branch3x3_2", 2: "branch3x3dbl_3"}

_BLOCKS: dict[str, tuple[Chain, ...]] = {
    "Mixed_5b": _square(32),
    "Mixed_5c": _square(64),
    "Mixed_5d": _square(64),
    "Mixed_6a": (
        (("branch3x3", 384, (3, 3)),),
        (
            ("branch3x3dbl_1", 64, (1, 1)),
            ("branch3x3dbl_2", 96, (3, 3)),
            ("branch3x3dbl_3", 96, (3, 3)),
        ),
    ),
    "Mixed_6b": _factored(128),
    "Mixed_6c": _factored(160),
    "Mixed_6d": _factored(160),
    "Mixed_6e": _factored(192),
    "Mixed_7a": (
        (("branch3x3_1", 192, (1, 1)), ("branch3x3_2", 320, (3, 3))),
        (
            ("branch7x7x3_1", 192, (1, 1)),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
            ("branch7x7x3_4", 192, (3, 3)),
        ),
    ),
    "Mixed_7b": _FORKED,
    "Mixed_7c": _FORKED,
}
_SHRINKING = (
    "Mixed_6a",
    "Mixed_7a",
)  # the last unit of a branch strides; beside them a max pooling
_FORKING = ("Mixed_7b", "Mixed_7c")


def _unit_shapes(name: str, inputs: int, outputs: int, kernel: tuple[int, int]) -> Shapes:
    return conv_shapes(f"{name}.conv", inputs, outputs, kernel) | norm_shapes(f"{name}.bn", outputs)


def inception_shapes() -> Shapes:
    """Torch names and shapes of everything the features need."""
    shapes: Shapes = {}
    width = 3
    for name, outputs, kernel, _, _ in _STEM:
        shapes |= _unit_shapes(name, width, outputs, kernel)
        width = outputs
    for block, chains in _BLOCKS.items():
        ends = [width] if block in _SHRINKING else []
        for number, chain in enumerate(chains):
            inputs = width
            for unit, outputs, kernel in chain:
                shapes |= _unit_shapes(f"{block}.{unit}", inputs, outputs, kernel)
                inputs = outputs
            ends.append(inputs)
            if block in _FORKING and number in _FORKS:
                for side, outputs, kernel in (_ROW, _COLUMN):
                    name = f"{block}.{_FORKS[number]}{side}"
                    shapes |= _unit_shapes(name, inputs, outputs, kernel)
                ends[-1] = _ROW[1] + _COLUMN[1]
        width = sum(ends)
    return shapes


INCEPTION = WeightFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "InceptionV3 weights for FID",
    "mseitzer/pytorch-fid, release fid_weights",
    inception_shapes(),
    r"fc\..*",
)


def _unit(params: Params, name: str, x: Array, stride: int = 1, pad: int | None = None) -> Array:
    pads = None if pad is None else [(pad, pad)] * 2
    y = convolve(params, f"{name}.conv", x, stride, pads)
    return jax.nn.relu(batch_norm(params, f"{name}.bn", y, _EPS))


def _shrink(x: Array) -> Array:
    return max_pool(x, (3, 3), (2, 2), ((0, 0), (0, 0)))


def _block(params: Params, block: str, x: Array) -> Array:
    outputs = []
    for number, chain in enumerate(_BLOCKS[block]):
        y = x
        for unit, _, _ in chain:
            if unit == "branch_pool":
                by_maximum = block == "Mixed_7c"
                around = ((1, 1), (1, 1))
                y = (
                    max_pool(y, (3, 3), (1, 1), around)
                    if by_maximum
                    else mean_pool(y, (3, 3), around)
                )
            last = block in _SHRINKING and unit == chain[-1][0]
            y = _unit(params, f"{block}.{unit}", y, *((2, 0) if last else ()))
        if block in _FORKING and number in _FORKS:
            sides = [_unit(params, f"{block}.{_FORKS[number]}{s}", y) for s in "ab"]
            y = jnp.concatenate(sides, axis=-1)
        outputs.append(y)
    if block in _SHRINKING:
        outputs.append(_shrink(x))
    return jnp.concatenate(outputs, axis=-1)


@typechecked
def inception_features(params: Params, frames: UInt8[Array, "n H W 3"]) -> Float[Array, "n 2048"]:
    """Features of FID, of frames of any size."""
    return _features(dict(params), frames)


@jax.jit
def _features(params: Params, frames: Array) -> Array:
    x = 2 * (frames.astype(jnp.float32) / 255) - 1
    shape, exact = (len(frames), SIZE, SIZE, 3), jax.lax.Precision.HIGHEST
    x = jax.image.resize(x, shape, "linear", antialias=False, precision=exact)
    for name, _, _, stride, pad in _STEM:
        x = _unit(params, name, x, stride, pad)
        x = _shrink(x) if name in _POOLED else x
    for block in _BLOCKS:
        x = _block(params, block, x)
    return x.mean(axis=(1, 2))
