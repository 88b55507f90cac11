"""3D ResNet-50 (Hara et al., 2018), trained on Kinetics, as DisCo uses it for FID-VID."""

import jax

from realisdance_jax.metrics.layers import Params, batch_norm, convolve, max_pool
from realisdance_jax.metrics.weights import Shapes, WeightFile, conv_shapes, norm_shapes
from realisdance_jax.shapes import Array, Float, typechecked

SIZE = 112
_EPS = 1e-5
_STEM = 64
_LAYERS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride of the first
_WIDER = 4  # outputs of a block over its width


def resnet3d_shapes(divisor: int = 1) -> Shapes:
    """Torch names and shapes; all widths are divided by `divisor`."""
    width = _STEM // divisor
    shapes = conv_shapes("conv1", 3, width, (7, 7, 7)) | norm_shapes("bn1", width)
    for layer, (inner, blocks, _) in enumerate(_LAYERS, start=1):
        inner //= divisor
        outer = inner * _WIDER
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            shapes |= conv_shapes(f"{name}.conv1", width, inner, (1, 1, 1))
            shapes |= conv_shapes(f"{name}.conv2", inner, inner, (3, 3, 3))
            shapes |= conv_shapes(f"{name}.conv3", inner, outer, (1, 1, 1))
            for i, features in enumerate((inner, inner, outer), start=1):
                shapes |= norm_shapes(f"{name}.bn{i}", features)
            if block == 0:
                shapes |= conv_shapes(f"{name}.downsample.0", width, outer, (1, 1, 1))
                shapes |= norm_shapes(f"{name}.downsample.1", outer)
            width = outer
    return shapes


RESNET3D = WeightFile(
    "resnet-50-kinetics.pth",
    "3D ResNet-50 weights for FID-VID",
    "Wangt-CN/DisCo, folder eval_fvd",
    resnet3d_shapes(),
    r"fc\..*",
)


def _block(params: Params, name: str, x: Array, stride: int) -> Array:
    def norm(which: str, y: Array) -> Array:
        return batch_norm(params, f"{name}.{which}", y, _EPS)

    y = jax.nn.relu(norm("bn1", convolve(params, f"{name}.conv1", x)))
    y = jax.nn.relu(norm("bn2", convolve(params, f"{name}.conv2", y, stride)))
    y = norm("bn3", convolve(params, f"{name}.conv3", y))
    if f"{name}.downsample.0.weight" in params:
        x = norm("downsample.1", convolve(params, f"{name}.downsample.0", x, stride))
    return jax.nn.relu(x + y)


@typechecked
def resnet3d_features(params: Params, clips: Float[Array, "n t 112 112 3"]) -> Float[Array, "n d"]:
    """Features of clips: 2048 of them, or fewer with narrow parameters.

    clips: 0 to 255 less the channel means, as `clips.network_frames` gives them.
    Raises `ValueError` for more than 16 frames, of which DisCo would keep a time axis.
    """
    if clips.shape[1] > 16:
        raise ValueError(f"expected clips of at most 16 frames, found {clips.shape[1]}")
    return _resnet3d_features(dict(params), clips)


@jax.jit
def _resnet3d_features(params: Params, x: Array) -> Array:
    x = jax.nn.relu(batch_norm(params, "bn1", convolve(params, "conv1", x, (1, 2, 2)), _EPS))
    x = max_pool(x, (3, 3, 3), (2, 2, 2), [(1, 1)] * 3)
    for layer, (_, blocks, stride) in enumerate(_LAYERS, start=1):
        for block in range(blocks):
            x = _block(params, f"layer{layer}.{block}", x, stride if block == 0 else 1)
    return x.mean(axis=(1, 2, 3))
