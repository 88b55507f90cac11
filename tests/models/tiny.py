"""Small models with every weight at random, so that nothing is hidden behind a zero."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from realisdance_jax.models.config import (
    DinoConfig,
    MotionConfig,
    PoseGuiderConfig,
    RealisDanceConfig,
    UNetConfig,
)
from realisdance_jax.models.motion import sinusoid_table
from realisdance_jax.models.realisdance import RealisDance

TOKENS = 5
POSE = PoseGuiderConfig(encoder_widths=(2, 3, 4, 5), gate_width=3)
TWO_LEVELS = UNetConfig(
    widths=(8, 16),
    layers_per_block=1,
    attention_levels=(True, False),
    heads=(2, 4),
    context_dim=6,
    norm_groups=4,
)
FOUR_LEVELS = UNetConfig(
    widths=(4, 8, 8, 12),
    layers_per_block=1,
    attention_levels=(False, True, False, False),
    heads=(2, 2, 1, 4),
    context_dim=6,
    norm_groups=4,
)


def config(unet: UNetConfig = TWO_LEVELS, **options: Any) -> RealisDanceConfig:
    """A video-stage model of two levels; `options` replace other parts."""
    parts = {"pose": POSE, "dino": DinoConfig(width=8), "motion": MotionConfig(heads=2)}
    return RealisDanceConfig(unet=unet, **(parts | options))


def shapes(config: RealisDanceConfig, b: int, f: int, h: int, w: int) -> tuple:
    """Shapes of the training forward's inputs for latents `b f h w`."""
    floats = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    return (
        floats((b, f, h, w, config.unet.in_channels)),
        jax.ShapeDtypeStruct((b,), jnp.int32),
        floats((b, h, w, config.unet.in_channels)),
        floats((b, TOKENS, config.dino.width)),
        floats((b, f, 8 * h, 8 * w, 3 * len(config.pose.conditions))),
    )


def _draw(tree: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)

    def one(leaf: Any) -> np.ndarray:
        if leaf.dtype == jnp.int32:
            return rng.integers(0, 1000, leaf.shape, np.int32)
        return rng.standard_normal(leaf.shape).astype(np.float32)

    return jax.tree.map(one, tree)


def draw(tree: Any, seed: int) -> Any:
    """Normal values (times: 0..999) in the shape of `tree`."""
    return jax.tree.map(jnp.asarray, _draw(tree, seed))


@functools.cache
def variables(config: RealisDanceConfig) -> dict:
    """Random kernels of unit gain, scales about 1, biases about 0, position tables as they are."""
    # Two frames: the pose guider has no use for motion modules at one (H15), and would make none.
    inputs = shapes(config, 1, 2, 2, 2)
    tree = nn.unbox(jax.eval_shape(RealisDance(config).init, jax.random.key(0), *inputs))
    noise = traverse_util.flatten_dict(_draw(tree, 1))

    def one(path: tuple[str, ...], values: np.ndarray) -> np.ndarray:
        if path[-1] == "pe":
            return sinusoid_table(*values.shape[1:])
        if path[-1] == "kernel":
            return values / np.sqrt(values[..., 0].size, dtype=np.float32)
        return np.float32(path[-1] == "scale") + np.float32(0.1) * values

    # On the host: each operation would be compiled for each of a hundred shapes.
    values = {path: jnp.asarray(one(path, x)) for path, x in noise.items()}
    return traverse_util.unflatten_dict(values)


def bound(config: RealisDanceConfig, method: str = "__call__", **options: Any) -> Callable:
    """`method` of the model, jitted, as a function of variables and inputs."""
    model = RealisDance(config, **options)
    return jax.jit(lambda v, *args: model.apply(v, *args, method=method))
