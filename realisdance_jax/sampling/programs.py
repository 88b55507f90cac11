"""The pure programs of denoising; `denoise.py` runs them over steps and windows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from realisdance_jax.diffusion.guidance import classifier_free_guidance, rescale_guidance
from realisdance_jax.diffusion.solvers import Solver
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.models.transformer import Context, ReferenceKV
from realisdance_jax.sampling.caches import ALL, Caches
from realisdance_jax.sampling.shortcuts import Step
from realisdance_jax.shapes import Array


class RawReference(NamedTuple):
    """Of which a step makes the reference's K/V itself: latents `1 h w c`, image tokens `1 m d`."""

    latents: Array
    tokens: Array


class ClipState(NamedTuple):
    """What a clip gives the denoiser.

    context, uncond_context: of projected image tokens `1 m d` and reference: K/V of the reference,
    on the devices. pose: pose features `f h w c` on the host, None inside programs. With a cache
    turned off it holds what is made anew: the tokens, the raw reference, the pictures `f H W c`.
    """

    context: Context
    uncond_context: Context
    reference: ReferenceKV | RawReference
    pose: np.ndarray | None


jax.export.register_namedtuple_serialization(ClipState, serialized_name="realisdance_jax.ClipState")

Pose = Array | tuple[Array, ...]
"""Of a batch of windows: features `w s h w c` (or pictures), or the guidance made of them."""


@dataclass(frozen=True)
class Guidance:
    """Scale of classifier-free guidance (1 is off) and phi of its rescale (0 is off)."""

    scale: float
    rescale: float = 0.0

    def at(self, step: Step) -> "Guidance":
        """What there is of it at `step`."""
        return self if step.guided else Guidance(1.0)


def frame_noise(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal `f h w c`, each frame from its own key: length and devices change nothing."""
    draw = partial(jax.random.normal, shape=shape[1:], dtype=jnp.float32)
    return jax.vmap(lambda frame: draw(jax.random.fold_in(key, frame)))(jnp.arange(shape[0]))


def take_windows(latents: Array, index: Array) -> Array:
    """Windows `w s h w c` of the latents `f h w c`, with the index `w s`."""
    return latents[index]


def add_windows(total: Array, predicted: Array, index: Array, weight: Array) -> Array:
    """`total`, `branch f h w c`, plus weight * predicted of each window, `branch w s h w c`.

    A product with a 0/1 matrix, not a scatter, whose order of additions is undefined on GPUs.
    """
    chosen = (index[..., None] == jnp.arange(total.shape[1])) * weight[..., None]
    return total + jnp.einsum("wsf,bws...->bf...", chosen, predicted, precision="highest")


def make_window_step(
    model: RealisDance, guidance: Guidance, caches: Caches = ALL, mode: Step | None = None
) -> Callable[..., Any]:
    """The pure program of a batch of windows, whatever the length of the clip they are from:

    (variables, clip, pose, x, t) -> predictions `branch w s h w c` for the windows x, `w s h w c`.
    The conditional branch comes first; there is another if `guidance` says so. A step that keeps
    its deep features gives them, too, `branch w s h w d`; one that reuses them takes them last.
    """
    kind, layers = (mode.mode, mode.layers) if mode else ("plain", 0)

    def step(
        variables: Any, clip: ClipState, pose: Pose, x: Array, t: Array, deep: Array | None = None
    ) -> Any:
        times = jnp.full((x.shape[0],), t)

        def call(method: str, *inputs: Any) -> Any:
            return model.apply(variables, *inputs, method=method)

        def guide() -> Any:
            if isinstance(pose, tuple):
                return pose
            return call("guide", pose if caches.pose else call("encode_pose", pose)[0])

        once = guide() if caches.guidance else None

        def denoise(branch: int, context: Context, reference: ReferenceKV | None) -> Any:
            guided = guide() if once is None else once
            inputs = (x, times, context, guided, reference)
            if kind == "keep":
                return call("denoise_keeping", *inputs, layers)
            if deep is not None:
                return call("denoise_reusing", *inputs, deep[branch], layers)
            return call("denoise", *inputs)

        reference = clip.reference
        if isinstance(reference, RawReference):
            reference = call("reference_kv", call("encode_reference", *reference))
        branches = [denoise(0, clip.context, reference)]
        if guidance.scale > 1:
            branches.append(denoise(1, clip.uncond_context, None))
        return jax.tree.map(lambda *parts: jnp.stack(parts), *branches)

    return step


def make_update(solver: Solver, guidance: Guidance) -> Callable[..., tuple[Array, Any]]:
    """The pure end of a step: (table, i, total, count, latents, state, noise) -> (latents, state).

    total: weighted sums over all windows, `branch f h w c`; count: the sums of weights, `f`.
    """

    def update(table, i, total, count, latents, state, noise):
        mean = total / count[:, None, None, None]
        output = mean[0]
        if guidance.scale > 1:
            output = classifier_free_guidance(mean[1], mean[0], guidance.scale)
        if guidance.scale > 1 and guidance.rescale > 0:
            output = rescale_guidance(output[None], mean[:1], guidance.rescale)[0]
        x, state = solver.step(table, i, latents[None], output[None], state, noise)
        return x[0], state

    return update
