"""The denoising loop: one jitted step over batches of windows, driven from the host.

Once per clip: reference K/V and image tokens. Once per frame: pose features. Once per window,
shared by the conditional and the unconditional branch: the pose guidance; again at every step only
where windows move or are too many to keep.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from realisdance_jax.diffusion.guidance import classifier_free_guidance, rescale_guidance
from realisdance_jax.diffusion.solvers import Solver
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.models.transformer import ReferenceKV
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.windows import WindowPlan
from realisdance_jax.shapes import Array

OnStep = Callable[[int, Array], None]
"""Called with the step's number and the latents `f h w c` after it."""


class ClipState(NamedTuple):
    """What a clip gives the denoiser; device arrays.

    context, uncond_context: projected image tokens `1 m c`. reference: K/V of the reference.
    pose: pose features `f h w c`. guidance: the pose guidance of the windows, where one batch of
    them serves all steps.
    """

    context: Array
    uncond_context: Array
    reference: ReferenceKV
    pose: Array
    guidance: tuple[Array, ...] | None = None


class StepTables(NamedTuple):
    """Per-step numbers on the device: timesteps `n`, windows `n w s`, solver's coefficients."""

    timesteps: Array | np.ndarray
    index: Array | np.ndarray
    weight: Array | np.ndarray
    solver: Any


@dataclass(frozen=True)
class Guidance:
    """Scale of classifier-free guidance (1 is off) and phi of its rescale (0 is off)."""

    scale: float
    rescale: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Seconds to compile the step and to run each step."""

    compile_seconds: float
    step_seconds: tuple[float, ...]


def frame_noise(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal `f h w c`, each frame from its own key: length and devices change nothing."""
    draw = partial(jax.random.normal, shape=shape[1:], dtype=jnp.float32)
    return jax.vmap(lambda frame: draw(jax.random.fold_in(key, frame)))(jnp.arange(shape[0]))


def _windows_to_frames(values: Array, index: Array, weight: Array, frames: int) -> Array:
    """Sum over windows of weight * value at each frame: `w s ...` -> `f ...`.

    A product with a 0/1 matrix, not a scatter, whose order of additions is undefined on GPUs.
    """
    chosen = (index[..., None] == jnp.arange(frames)) * weight[..., None]
    return jnp.einsum("wsf,ws...->f...", chosen, values, precision="highest")


def make_step(
    model: RealisDance, solver: Solver, guidance: Guidance, window_batch: int, mesh: Mesh
) -> Callable[..., tuple[Array, Any]]:
    """The pure step (variables, clip, tables, i, latents, state, noise) -> (latents, state)."""
    by_window = NamedSharding(mesh, PartitionSpec("data"))

    def predict(variables: dict, clip: ClipState, latents: Array, t: Array, index: Array) -> Array:
        """Predictions of a batch of windows, `branch w s h w c`: conditional comes first."""
        x = jax.lax.with_sharding_constraint(latents[index], by_window)
        pose = clip.guidance
        if pose is None:
            features = jax.lax.with_sharding_constraint(clip.pose[index], by_window)
            pose = model.apply(variables, features, method="guide")
        times = jnp.full((index.shape[0],), t)

        def denoise(context: Array, reference: ReferenceKV | None) -> Any:
            inputs = (x, times, context, pose, reference)
            return model.apply(variables, *inputs, method="denoise")

        branches = [denoise(clip.context, clip.reference)]
        if guidance.scale > 1:
            branches.append(denoise(clip.uncond_context, None))
        return jnp.stack(branches)

    def step(variables, clip, tables, i, latents, state, noise):
        frames, t = latents.shape[0], tables.timesteps[i]
        index, weight = (
            rearrange(table[i], "(n w) s -> n w s", w=window_batch)
            for table in (tables.index, tables.weight)
        )

        def accumulate(total, window):
            predicted = predict(variables, clip, latents, t, window[0])
            spread = partial(_windows_to_frames, frames=frames)
            return total + jax.vmap(spread, (0, None, None))(predicted, *window), None

        every_index, every_weight = tables.index[i], tables.weight[i]
        ones = jnp.ones_like(every_weight)
        count = _windows_to_frames(ones, every_index, every_weight, frames)
        zero = jnp.zeros((2 if guidance.scale > 1 else 1, *latents.shape), jnp.float32)
        total, _ = jax.lax.scan(accumulate, zero, (index, weight))
        mean = total / count[:, None, None, None]
        output = mean[0]
        if guidance.scale > 1:
            output = classifier_free_guidance(mean[1], mean[0], guidance.scale)
        if guidance.scale > 1 and guidance.rescale > 0:
            output = rescale_guidance(output[None], mean[:1], guidance.rescale)[0]
        x, state = solver.step(tables.solver, i, latents[None], output[None], state, noise)
        return x[0], state

    return step


def _shapes(tree: Any) -> tuple:
    return tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree))


def guide_windows(
    pipeline: Pipeline, clip: ClipState, plan: WindowPlan, window_batch: int
) -> ClipState:
    """`clip` with the guidance of its windows, if one batch of windows serves all steps."""
    if not plan.shared or plan.index.shape[1] != window_batch:
        return clip
    by_window = NamedSharding(pipeline.mesh, PartitionSpec("data"))
    features = jax.device_put(clip.pose[plan.index[0]], by_window)
    guidance = pipeline.call("model", "guide", features)
    return clip._replace(guidance=guidance)


def denoise_clip(
    pipeline: Pipeline,
    clip: ClipState,
    initial: Array | np.ndarray,
    plan: WindowPlan,
    solver: Solver,
    guidance: Guidance,
    window_batch: int,
    key: Array,
    on_step: OnStep | None = None,
    progress: bool = False,
) -> tuple[Array, Timing]:
    """Denoise initial latents `f h w c` (unit variance) with the windows of `plan`.

    `window_batch` divides the plan's windows and is a multiple of the mesh's devices. `key` feeds
    the noise of stochastic solvers only.
    """
    clip = guide_windows(pipeline, clip, plan, window_batch)
    tables = StepTables(solver.timesteps, plan.index, plan.weight, solver.table)
    tables, latents = pipeline.everywhere((tables, jnp.array(initial, jnp.float32)))
    state = pipeline.everywhere(solver.init(latents[None]))
    replicated = NamedSharding(pipeline.mesh, PartitionSpec())

    def arguments(i: int, latents: Array, state: Any) -> tuple:
        noise = None
        if solver.stochastic:
            noise = frame_noise(jax.random.fold_in(key, i), latents.shape)[None]
        inputs = pipeline.everywhere((jnp.int32(i), noise))
        return pipeline.variables, clip, tables, inputs[0], latents, state, inputs[1]

    with tqdm(total=len(solver.timesteps), unit="step", disable=not progress) as bar:
        bar.set_description("compiling")
        started = time.perf_counter()
        first = arguments(0, latents, state)
        program = (solver.name, solver.stochastic, guidance, window_batch, _shapes(first[1:]))
        if program not in pipeline.compiled:
            step = make_step(pipeline.model, solver, guidance, window_batch, pipeline.mesh)
            jit = jax.jit(step, donate_argnums=(4, 5), out_shardings=replicated)
            pipeline.compiled[program] = jit.lower(*first).compile()
        compile_seconds = time.perf_counter() - started
        bar.set_description(f"denoising (compiled in {compile_seconds:.1f} s)")
        bar.reset()
        seconds = []
        for i in range(len(solver.timesteps)):
            started = time.perf_counter()
            latents, state = pipeline.compiled[program](*arguments(i, latents, state))
            jax.block_until_ready(latents)
            seconds.append(time.perf_counter() - started)
            if on_step:
                on_step(i, latents)
            bar.update()
    return latents, Timing(compile_seconds, tuple(seconds))
