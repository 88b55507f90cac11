"""The denoising loop: jitted programs per batch of windows and per step, run from the host.

Once per clip: K/V of reference and image tokens. Once per frame: pose features, kept on the host
and sent to the devices window by window, so that of a long clip they hold latents only. Once per
distinct window (where several devices share a batch: per distinct batch), shared by both branches:
the pose guidance, kept for the steps to come as far as `GUIDANCE_BYTES` go.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from realisdance_jax.diffusion.solvers import Solver
from realisdance_jax.sampling.caches import ALL, Caches
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import (
    ClipState,
    Guidance,
    Pose,
    add_windows,
    frame_noise,
    make_update,
    make_window_step,
    take_windows,
)
from realisdance_jax.sampling.shortcuts import Step
from realisdance_jax.sampling.windows import WindowPlan
from realisdance_jax.shapes import Array

OnStep = Callable[[int, Array], None]
"""Called with the step's number and the latents `f h w c` after it."""

GUIDANCE_BYTES = 2**30
"""Of pose guidance kept on each device: ten windows of 16 frames at 768x576 in bfloat16."""


@dataclass(frozen=True)
class Timing:
    """Seconds to trace programs, to compile them (`compiled.py`) and to run each step.

    guided: of how many windows each step made the pose guidance, the first one with what was made
    before it.
    """

    trace_seconds: float
    compile_seconds: float
    step_seconds: tuple[float, ...]
    guided: tuple[int, ...] = ()


class WindowPoses:
    """Gives the pose of a batch of windows with the index `w s`: their guidance.

    That is made of features sent from the host, on one device window by window, and kept, while
    there is room, if it is used again. With a cache off, `make_window_step` makes it.

    made: of how many windows so far.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        pose: np.ndarray,
        plan: WindowPlan,
        window_batch: int,
        caches: Caches = ALL,
    ):
        self.made = 0
        self._pipeline, self._pose = pipeline, pose
        self._sharding = NamedSharding(pipeline.mesh, PartitionSpec("data"))
        self._guided = caches.pose and caches.guidance
        self._size = size = window_batch if pipeline.mesh.shape["data"] > 1 else 1
        steps = range(len(plan.index))
        self._uses = Counter(index.tobytes() for i in steps for index, _ in plan.batches(i, size))
        self._kept: dict[bytes, tuple[Array, ...]] = {}

    def __call__(self, index: np.ndarray) -> Pose:
        if not self._guided:
            return self._sent(index)
        size = self._size
        parts = [self._part(index[k : k + size]) for k in range(0, len(index), size)]
        return parts[0] if len(parts) == 1 else jax.tree.map(_joined, *parts)

    def _sent(self, index: np.ndarray) -> Array:
        return jax.device_put(self._pose[index], self._sharding)

    def _part(self, index: np.ndarray) -> tuple[Array, ...]:
        name = index.tobytes()
        if name in self._kept:
            return self._kept[name]
        made = self._pipeline.call("model", "guide", self._sent(index))
        self.made += len(index)
        fitting = GUIDANCE_BYTES // max(1, _device_bytes(made))
        if self._uses[name] > 1 and len(self._kept) < fitting:
            self._kept[name] = made
        return made


def _joined(*parts: Array) -> Array:
    return jnp.concatenate(parts)


def guided_windows(plan: WindowPlan, devices: int) -> int:
    """At most how many windows' guidance is kept: of all distinct ones, or, where several devices
    share a batch, of the batches of all distinct steps."""
    if devices == 1:
        return len({window.tobytes() for step in plan.index for window in step})
    windows = -(-plan.index.shape[1] // devices) * devices
    return windows * len({step.tobytes() for step in plan.index})


def _device_bytes(arrays: tuple[Array, ...]) -> int:
    """Of the parts on one device."""
    return sum(x.addressable_shards[0].data.nbytes for x in arrays)


class _Programs(NamedTuple):
    """Of one sort of step, compiled for the shapes of a clip.

    Only `predict` takes long, and any clip's will do.
    """

    take: Callable
    predict: Callable
    add: Callable
    update: Callable


@dataclass(frozen=True, eq=False)
class _Run:
    """A clip's denoising: what goes into its programs, and the programs."""

    pipeline: Pipeline
    clip: ClipState
    plan: WindowPlan
    solver: Solver
    guidance: Guidance
    window_batch: int
    key: Array
    poses: WindowPoses
    caches: Caches
    steps: tuple[Step, ...]

    def window_inputs(self, i: int, x: Array, index: np.ndarray) -> tuple:
        t = self.pipeline.everywhere(jnp.int32(self.solver.timesteps[i]))
        constant = self.clip._replace(pose=None)
        return self.pipeline.variables, constant, self.poses(index), x, t

    def update_inputs(self, i: int, latents: Array, total: Array, state: Any) -> tuple:
        noise = None
        if self.solver.stochastic:
            noise = frame_noise(jax.random.fold_in(self.key, i), latents.shape)[None]
        numbers = (self.solver.table, jnp.int32(i), self.plan.count[i], noise)
        table, i, count, noise = self.pipeline.everywhere(numbers)
        return table, i, total, count, latents, state, noise

    def zero(self, step: Step, latents: Array) -> Array:
        shape = (1 + step.guided, *latents.shape)
        return self.pipeline.everywhere(jnp.zeros(shape, jnp.float32))

    def total(self, i: int, latents: Array, programs: _Programs, kept: dict[int, Array]) -> Array:
        """Weighted sums of the predictions of all windows.

        kept: deep features by the number of the batch, from here to the steps that reuse them.
        """
        step = self.steps[i]
        total = self.zero(step, latents)
        for k, (index, weight) in enumerate(self.plan.batches(i, self.window_batch)):
            where, share = self.pipeline.everywhere((index, weight))
            inputs = self.window_inputs(i, programs.take(latents, where), index)
            if step.mode == "keep":
                kept.pop(k, None)
                predicted, kept[k] = programs.predict(*inputs)
            elif step.mode == "reuse":
                predicted = programs.predict(*inputs, kept[k])
            else:
                predicted = programs.predict(*inputs)
            total = programs.add(total, predicted, where, share)
            # Or the next windows' features would pile up on the devices.
            jax.block_until_ready(total)
        return total

    def compile(self, latents: Array, state: Any) -> dict[Step, _Programs]:
        """The programs of every sort of step, in the order in which they come."""
        found: dict[Step, _Programs] = {}
        for step in dict.fromkeys(self.steps):
            deep = None
            if step.mode == "reuse":
                deep = found[step._replace(mode="keep")].predict.out_info[1]
            found[step] = self._compile(step, latents, state, deep)
        return found

    def _compile(self, step: Step, latents: Array, state: Any, deep: Any) -> _Programs:
        """The programs for these shapes; those of an earlier clip where they are the same.

        deep: the shape of what the step reuses.
        """
        everywhere, mesh = self.pipeline.everywhere, self.pipeline.mesh
        whole, by_window = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
        compiled = self._compiled
        index, weight = next(self.plan.batches(0, self.window_batch))
        where, share = everywhere((index, weight))
        take = compiled(("take",), take_windows, (), by_window, (latents, where))
        inputs = self.window_inputs(0, take(latents, where), index)
        guidance = self.guidance.at(step)
        window = make_window_step(self.pipeline.model, guidance, self.caches, step)
        by_branch = NamedSharding(mesh, PartitionSpec(None, "data"))
        name = ("window", self.caches, step)
        reused = () if deep is None else (placed(deep, by_branch),)
        predict = compiled(name, window, (), by_branch, (*inputs, *reused))
        sums = (1 + step.guided, *inputs[3].shape)
        predicted = placed(jax.ShapeDtypeStruct(sums, jnp.float32), by_branch)
        inputs = (self.zero(step, latents), predicted, where, share)
        add = compiled(("add",), add_windows, (0,), whole, inputs)
        inputs = self.update_inputs(0, latents, self.zero(step, latents), state)
        name = (self.solver.name, self.solver.stochastic, guidance)
        update = make_update(self.solver, guidance)
        return _Programs(take, predict, add, compiled(name, update, (4, 5), whole, inputs))

    def _compiled(
        self,
        name: tuple,
        program: Callable,
        donated: tuple[int, ...],
        out: NamedSharding,
        inputs: tuple,
    ) -> Callable:
        def make() -> Any:
            if name[0] != "window":
                return jax.jit(program, donate_argnums=donated, out_shardings=out)
            kind, rest = _kind(*name[1:]), inputs[1:]
            jitted = self.pipeline.jitted(kind, program, rest, out)
            self.pipeline.record(kind, jitted, inputs, rest)
            return jitted

        with self.pipeline.precision():
            return self.pipeline.compiled.get(name, make, inputs)


def placed(shape: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """The shape of an array that is spread so."""
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _kind(caches: Caches, step: Step) -> str:
    """What a program of windows is called in files."""
    branches = "both branches" if step.guided else "one branch"
    layers = f" {step.layers}" if step.layers else ""
    rest = "" if caches == ALL else f", {caches}"
    return f"window: {branches}, {step.mode}{layers}{rest}"


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
    caches: Caches = ALL,
    steps: tuple[Step, ...] | None = None,
) -> tuple[Array, Timing]:
    """Denoise initial latents `f h w c` (unit variance) with the windows of `plan`.

    `window_batch` divides the plan's windows and is a multiple of the mesh's devices. `key` feeds
    the noise of stochastic solvers only. `caches` says what `clip` holds (`encode_reference`).
    `steps` says what each step runs, as planned from the same guidance, and `plan` holds its
    windows (`hold_windows`); by default all of them run everything.
    """
    assert clip.pose is not None
    steps = steps or (Step(guidance.scale > 1),) * len(solver.timesteps)
    poses = WindowPoses(pipeline, clip.pose, plan, window_batch, caches)
    run = _Run(pipeline, clip, plan, solver, guidance, window_batch, key, poses, caches, steps)
    latents = pipeline.everywhere(jnp.array(initial, jnp.float32))
    state = pipeline.everywhere(solver.init(latents[None]))
    with tqdm(total=len(solver.timesteps), unit="step", disable=not progress) as bar:
        bar.set_description("compiling")
        before = pipeline.compiled.seconds
        programs = run.compile(latents, state)
        spent = pipeline.compiled.since(before)
        bar.set_description(f"denoising (compiled in {spent.compile:.1f} s)")
        bar.reset()
        seconds: list[float] = []
        guided: list[int] = []
        kept: dict[int, Array] = {}
        for i in range(len(solver.timesteps)):
            started = time.perf_counter()
            total = run.total(i, latents, programs[steps[i]], kept)
            update = programs[steps[i]].update
            latents, state = update(*run.update_inputs(i, latents, total, state))
            jax.block_until_ready(latents)
            seconds.append(time.perf_counter() - started)
            guided.append(poses.made - sum(guided))
            if on_step:
                on_step(i, latents)
            bar.update()
    return latents, Timing(*spent, tuple(seconds), tuple(guided))
