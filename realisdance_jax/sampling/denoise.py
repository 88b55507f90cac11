"""The denoising loop: one jitted program per batch of windows and one per step, run from the host.

Once per clip: reference K/V and image tokens. Once per frame: pose features, kept on the host and
sent to the devices window by window, so that of a long clip they hold latents only. Once per
window, shared by the conditional and the unconditional branch: the pose guidance; again at every
step only where windows move or are too many to keep.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
    """What a clip gives the denoiser.

    context, uncond_context: projected image tokens `1 m c` and reference: K/V of the reference, on
    the devices. pose: pose features `f h w c` on the host, None inside programs.
    """

    context: Array
    uncond_context: Array
    reference: ReferenceKV
    pose: np.ndarray | None


Pose = Array | tuple[Array, ...]
"""Of a batch of windows: features `w s h w c`, or the guidance made of them."""


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


def make_window_step(model: RealisDance, guidance: Guidance, mesh: Mesh) -> Callable[..., Array]:
    """The pure program of a batch of windows:

    (variables, clip, pose, latents, t, index, weight, total) -> total `branch f h w c`, to which it
    adds the windows' weighted predictions. The conditional branch comes first.
    """
    by_window = NamedSharding(mesh, PartitionSpec("data"))

    def predict(variables, clip: ClipState, pose: Pose, latents, t, index) -> Array:
        """Predictions of a batch of windows, `branch w s h w c`."""
        x = jax.lax.with_sharding_constraint(latents[index], by_window)
        guided: Any = pose
        if not isinstance(pose, tuple):
            guided = model.apply(variables, pose, method="guide")
        times = jnp.full((index.shape[0],), t)

        def denoise(context: Array, reference: ReferenceKV | None) -> Any:
            inputs = (x, times, context, guided, reference)
            return model.apply(variables, *inputs, method="denoise")

        branches = [denoise(clip.context, clip.reference)]
        if guidance.scale > 1:
            branches.append(denoise(clip.uncond_context, None))
        return jnp.stack(branches)

    def step(variables, clip, pose, latents, t, index, weight, total):
        predicted = predict(variables, clip, pose, latents, t, index)
        spread = partial(_windows_to_frames, frames=latents.shape[0])
        return total + jax.vmap(spread, (0, None, None))(predicted, index, weight)

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


def window_poses(
    pipeline: Pipeline, pose: np.ndarray, plan: WindowPlan, window_batch: int
) -> Callable[[np.ndarray], Pose]:
    """What gives the pose of a batch of windows with the index `w s`.

    That is their guidance, made once, if one batch of windows serves all steps; else their
    features, sent from the host each time.
    """
    by_window = NamedSharding(pipeline.mesh, PartitionSpec("data"))

    def features(index: np.ndarray) -> Array:
        return jax.device_put(pose[index], by_window)

    if not plan.shared or plan.index.shape[1] != window_batch:
        return features
    guidance = pipeline.call("model", "guide", features(plan.index[0]))
    return lambda _: guidance


@dataclass(frozen=True, eq=False)
class _Run:
    """A clip's denoising: what goes into its two programs, and the programs."""

    pipeline: Pipeline
    clip: ClipState
    plan: WindowPlan
    solver: Solver
    guidance: Guidance
    window_batch: int
    key: Array
    poses: Callable[[np.ndarray], Pose]

    def window_inputs(self, i: int, latents: Array, total: Array, window: tuple) -> tuple:
        t = jnp.int32(self.solver.timesteps[i])
        t, index, weight = self.pipeline.everywhere((t, *window))
        constant = self.clip._replace(pose=None)
        pose = self.poses(window[0])
        return self.pipeline.variables, constant, pose, latents, t, index, weight, total

    def update_inputs(self, i: int, latents: Array, total: Array, state: Any) -> tuple:
        noise = None
        if self.solver.stochastic:
            noise = frame_noise(jax.random.fold_in(self.key, i), latents.shape)[None]
        numbers = (self.solver.table, jnp.int32(i), self.plan.count[i], noise)
        table, i, count, noise = self.pipeline.everywhere(numbers)
        return table, i, total, count, latents, state, noise

    def zero(self, latents: Array) -> Array:
        branches = 2 if self.guidance.scale > 1 else 1
        return self.pipeline.everywhere(jnp.zeros((branches, *latents.shape), jnp.float32))

    def windows(self, i: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.plan.batches(i, self.window_batch)

    def compile(self, latents: Array, state: Any) -> tuple[Callable, Callable]:
        """Both programs, for these shapes; those of an earlier clip where they are the same."""
        pipeline, total = self.pipeline, self.zero(latents)
        window = make_window_step(pipeline.model, self.guidance, pipeline.mesh)
        inputs = self.window_inputs(0, latents, total, next(self.windows(0)))
        name = ("window", self.guidance)
        first = _compiled(pipeline, name, window, (7,), inputs)
        inputs = self.update_inputs(0, latents, total, state)
        name = (self.solver.name, self.solver.stochastic, self.guidance)
        update = make_update(self.solver, self.guidance)
        return first, _compiled(pipeline, name, update, (4, 5), inputs)


def _compiled(
    pipeline: Pipeline, name: tuple, program: Callable, donated: tuple[int, ...], inputs: tuple
) -> Callable:
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(inputs))
    if (name, shapes) not in pipeline.compiled:
        replicated = NamedSharding(pipeline.mesh, PartitionSpec())
        jit = jax.jit(program, donate_argnums=donated, out_shardings=replicated)
        with pipeline.precision():
            pipeline.compiled[name, shapes] = jit.lower(*inputs).compile()
    return pipeline.compiled[name, shapes]


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
    assert clip.pose is not None
    poses = window_poses(pipeline, clip.pose, plan, window_batch)
    run = _Run(pipeline, clip, plan, solver, guidance, window_batch, key, poses)
    latents = pipeline.everywhere(jnp.array(initial, jnp.float32))
    state = pipeline.everywhere(solver.init(latents[None]))
    with tqdm(total=len(solver.timesteps), unit="step", disable=not progress) as bar:
        bar.set_description("compiling")
        started = time.perf_counter()
        window_step, update = run.compile(latents, state)
        compile_seconds = time.perf_counter() - started
        bar.set_description(f"denoising (compiled in {compile_seconds:.1f} s)")
        bar.reset()
        seconds = []
        for i in range(len(solver.timesteps)):
            started = time.perf_counter()
            total = run.zero(latents)
            for window in run.windows(i):
                total = window_step(*run.window_inputs(i, latents, total, window))
                # Or the next windows' features would pile up on the devices.
                jax.block_until_ready(total)
            latents, state = update(*run.update_inputs(i, latents, total, state))
            jax.block_until_ready(latents)
            seconds.append(time.perf_counter() - started)
            if on_step:
                on_step(i, latents)
            bar.update()
    return latents, Timing(compile_seconds, tuple(seconds))
