"""Shapes of what the denoising step takes, from the model and the sizes alone."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from realisdance_jax.data.transforms import dino_size
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.sampling.programs import ClipState

VAE_FACTOR = 8
"""Pixels per latent pixel along one side."""


class StepShapes(NamedTuple):
    """clip, guided (a batch of windows' guidance), x, t: the step's inputs after the variables.

    pictures, features: of one frame, before and after the pose encoders, `1 1 H W c`.
    """

    clip: ClipState
    guided: tuple[Any, ...]
    x: Any
    t: Any
    pictures: Any
    features: Any


def step_shapes(
    model: RealisDance,
    variables: Any,
    size: tuple[int, int],
    frames: int,
    windows: int,
    uncond: Literal["fake", "image"] = "fake",
) -> StepShapes:
    """For `windows` windows of `frames` frames, pictures of `size` pixels; nothing is computed."""
    config = model.config
    h, w = (side // VAE_FACTOR for side in size)
    shape: Callable = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)

    def traced(method: str, *inputs: Any) -> Any:
        return jax.eval_shape(lambda v, *x: model.apply(v, *x, method=method), variables, *inputs)

    rows, columns = (side // config.dino.patch for side in dino_size(size))
    context = traced("project", shape((1, 1 + rows * columns, config.dino.width)))
    channels = config.unet.in_channels
    reference = traced(
        "reference_kv", traced("encode_reference", shape((1, h, w, channels)), context)
    )
    pictures = shape((1, 1, *size, 3 * len(config.pose.conditions)))
    features = traced("encode_pose", pictures)[0]
    window = jax.ShapeDtypeStruct((windows, frames, *features.shape[2:]), features.dtype)
    unseen = "fold_context" if uncond == "fake" else "context_kv"
    clip = ClipState(traced("context_kv", context), traced(unseen, context), reference, None)
    x = shape((windows, frames, h, w, channels))
    t = jax.ShapeDtypeStruct((), jnp.int32)
    return StepShapes(clip, traced("guide", window), x, t, pictures, features)
