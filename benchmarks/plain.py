"""Denoising as the release orders it, with our networks: the yardstick of the exact caches.

Every batch of windows runs the reference UNet, the projector and the pose guider anew, the last two
in both branches of guidance, at every step; the branches are programs of their own, so that no
compiler shares work between them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.diffusion.solvers import Solver
from realisdance_jax.models.dinov2 import zero_image
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.sampling.encode import Clip
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import Guidance, add_windows, make_update, take_windows
from realisdance_jax.sampling.windows import WindowPlan
from realisdance_jax.shapes import Array
from realisdance_jax.utils.compilation import loads_fast


class PlainInputs(NamedTuple):
    """DINOv2 tokens of the picture and of its absence `1 m c`, latents of the reference `1 h w c`,
    condition pictures `f H W c` on the host."""

    tokens: Array
    absent: Array
    reference: Array
    pictures: np.ndarray


class PlainPrograms(NamedTuple):
    """Jitted: both branches, and the loop's arithmetic."""

    conditional: Callable
    unconditional: Callable
    take: Callable
    add: Callable
    update: Callable


def plain_inputs(pipeline: Pipeline, clip: Clip, uncond: str) -> PlainInputs:
    """What the release computes once per clip."""
    image, picture = pipeline.everywhere((clip.encoder_image[None], clip.reference[None]))
    tokens = pipeline.call("dino", "__call__", image)
    absent = jnp.zeros_like(tokens)
    if uncond == "image":
        zeros = pipeline.everywhere(zero_image(*image.shape[:3]))
        absent = pipeline.call("dino", "__call__", zeros)
    latents = pipeline.call("vae", "encode", picture)
    return PlainInputs(tokens, absent, latents, np.stack(list(clip.conditions)))


def branch_program(model: RealisDance, conditional: bool) -> Callable[..., Array]:
    """(variables, tokens, reference, pictures `w s H W c`, x `w s h w c`, t) -> prediction."""

    def branch(
        variables: Any, tokens: Array, reference: Array, pictures: Array, x: Array, t: Array
    ):
        def call(method: str, *inputs: Any) -> Any:
            return model.apply(variables, *inputs, method=method)

        context, kv = call("project", tokens), None
        if conditional:
            kv = call("reference_kv", call("encode_reference", reference, context))
        guided = call("guide", call("encode_pose", pictures)[0])
        return call("denoise", x, jnp.full((x.shape[0],), t), context, guided, kv)

    return branch


def plain_programs(pipeline: Pipeline, solver: Solver, guidance: Guidance) -> PlainPrograms:
    """Each is compiled at its first call, with the options of the sampler."""
    jit = partial(jax.jit, compiler_options=dict(loads_fast()))
    branches = (branch_program(pipeline.model, conditional) for conditional in (True, False))
    update = make_update(solver, guidance)
    return PlainPrograms(*map(jit, (*branches, take_windows, add_windows, update)))


def denoise_plain(
    pipeline: Pipeline,
    programs: PlainPrograms,
    inputs: PlainInputs,
    initial: np.ndarray,
    plan: WindowPlan,
    solver: Solver,
    guidance: Guidance,
    window_batch: int,
) -> Array:
    """Latents `f h w c` after all steps; for solvers without noise of their own."""
    assert guidance.scale > 1
    assert not solver.stochastic
    latents = jnp.asarray(initial, jnp.float32)
    state = solver.init(latents[None])
    for i, t in enumerate(solver.timesteps):
        total = jnp.zeros((2, *latents.shape), jnp.float32)
        for index, weight in plan.batches(i, window_batch):
            x = programs.take(latents, index)
            pictures = jnp.asarray(inputs.pictures[index])
            rest = (inputs.reference, pictures, x, jnp.int32(t))
            with pipeline.precision():
                seen = programs.conditional(pipeline.variables, inputs.tokens, *rest)
                unseen = programs.unconditional(pipeline.variables, inputs.absent, *rest)
            total = programs.add(total, jnp.stack([seen, unseen]), index, weight)
        numbers = (solver.table, jnp.int32(i), total, plan.count[i], latents, state, None)
        latents, state = programs.update(*numbers)
    return latents
