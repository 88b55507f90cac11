"""Animate a picture: `load(folder)` once, then `animate(pipeline, ...)` per clip."""

import dataclasses
import itertools
from collections.abc import Callable, Sized
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.checkpoints.weights import Manifest
from realisdance_jax.data.images import read_image
from realisdance_jax.data.transforms import crop_resize, dino_size, imagenet_normalise, to_signed
from realisdance_jax.diffusion.solvers import Solver, make_solver
from realisdance_jax.models.unet import outer_layers
from realisdance_jax.sampling.caches import ALL, Caches
from realisdance_jax.sampling.color import apply_color, color_statistics, merge_color
from realisdance_jax.sampling.conditions import open_driver, stacked_conditions
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.denoise import OnStep, Timing, denoise_clip
from realisdance_jax.sampling.encode import (
    Clip,
    decode_frames,
    encode_conditions,
    encode_reference,
)
from realisdance_jax.sampling.memory import Fitted, fit_memory
from realisdance_jax.sampling.pipeline import Pipeline, load
from realisdance_jax.sampling.programs import Guidance, frame_noise
from realisdance_jax.sampling.shortcuts import Step, hold_windows, plan_steps
from realisdance_jax.sampling.windows import WindowPlan, plan_windows
from realisdance_jax.shapes import Array, Float, UInt8, typechecked
from realisdance_jax.utils.errors import UserError

__all__ = ["Animation", "SampleConfig", "animate", "load", "sample_clip"]

Say = Callable[[str], None]


@typechecked
@dataclass(frozen=True, eq=False)
class Animation:
    """A sampled clip.

    video: `f H W 3` in [0, 1] (float32). reference: `H W 3` and pictures: the conditions stacked on
    channels, uint8. gates: weights in (0, 1). initial, latents: before and after denoising.
    conditions: names of the stacked pictures. settings: all that reproduces the clip, the hash of
    the weights among it. fps: of the output.
    """

    video: Float[np.ndarray, "f H W 3"]
    reference: UInt8[np.ndarray, "H W 3"]
    pictures: UInt8[np.ndarray, "f H W d"]
    gates: Float[np.ndarray, "f h w k"]
    initial: Float[np.ndarray, "f h w c"]
    latents: Float[np.ndarray, "f h w c"]
    timing: Timing
    conditions: tuple[str, ...]
    settings: dict[str, Any]
    fps: float = 8.0

    def frame(self, i: int) -> UInt8[np.ndarray, "H W 3"]:
        """Frame i as 0..255, truncated as released."""
        return (self.video[i] * 255).astype(np.uint8)


def check_config(manifest: Manifest, config: SampleConfig, frames: int | None = None) -> None:
    """Raise `UserError` when the options do not suit the weights, of which only this is needed.

    That is the solver, layers to be reused, and windows longer than the motion modules' position
    tables. frames: of the clip; None if not yet known, which leaves the windows for later.
    """
    choose_steps(manifest, config)
    motion = manifest.model.motion
    if motion and frames is not None and min(config.window_size, frames) > motion.max_frames:
        raise UserError(
            f"window size: expected at most {motion.max_frames} frames (positions of these "
            f"weights' motion modules), found {config.window_size}"
        )


def choose_steps(manifest: Manifest, config: SampleConfig) -> tuple[Solver, tuple[Step, ...]]:
    """The solver, and what each of its steps runs. Raises `UserError` as `check_config`."""
    schedule, outer = manifest.schedule, outer_layers(manifest.model.unet)
    solver = make_solver(config.solver, schedule, config.steps, config.spacing, config.eta)
    last, guided = schedule.num_train_timesteps - 1, config.guidance > 1
    return solver, plan_steps(solver.timesteps, last, guided, config.shortcuts, outer)


def check_interval(manifest: Manifest, config: SampleConfig) -> None:
    """Raise `UserError` when there is guidance, but no step in its interval."""
    solver, steps = choose_steps(manifest, config)
    if config.guidance > 1 and not any(step.guided for step in steps):
        last = manifest.schedule.num_train_timesteps - 1
        low, high = config.guidance_interval
        times = ", ".join(f"{t / last:.3g}" for t in solver.timesteps[:5])
        more = ", ..." if len(solver.timesteps) > 5 else ""
        raise UserError(
            f"guidance interval: expected one that holds a step ({times}{more}), "
            f"found {low:g},{high:g}"
        )


def choose_windows(pipeline: Pipeline, config: SampleConfig, frames: int) -> tuple[WindowPlan, int]:
    """Windows of every step and how many go into one call: no more than there are.

    An image-stage model sees one frame at a time.
    """
    sizes = (config.window_size, config.window_stride, config.window_overlap)
    plan = partial(plan_windows, config.windows, config.steps, frames, *sizes)
    if pipeline.manifest.model.motion is None:
        plan = partial(plan_windows, "blend", config.steps, frames, 1, 1, 0)
    windows = plan()
    most, devices = windows.index.shape[1], pipeline.mesh.shape["data"]
    batch = -(-min(config.window_batch, most) // devices) * devices
    return (windows if batch == 1 else plan(batch)), batch


def _decode(
    pipeline: Pipeline, latents: np.ndarray, reference: np.ndarray | None, chunk: int
) -> Float[np.ndarray, "f H W 3"]:
    """The video of `latents` in [0, 1], with the colours of `reference` if there is one.

    Colour statistics are those of the whole video (parity.md: H7); all work is done in place, so
    that memory holds one copy of it.
    """
    chunks = decode_frames(pipeline, latents, chunk)
    first = next(chunks)
    video = np.empty((len(latents), *first.shape[1:]), np.float32)
    done = 0
    for part in itertools.chain([first], chunks):
        video[done : done + len(part)] = part
        done += len(part)
    if reference is not None:
        frames = [video[None, i : i + 1] for i in range(len(video))]
        statistics = reduce(merge_color, map(color_statistics, frames))
        target = color_statistics(reference[None, None])
        for frame in frames:
            frame[:] = apply_color(frame, statistics, target)
    video /= 2
    video += 0.5
    return np.clip(video, 0, 1, out=video)


def _initial_latents(
    initial: Float[np.ndarray, "f h w c"] | None, key: Array, shape: tuple[int, ...]
) -> Float[np.ndarray, "f h w c"]:
    if initial is None:
        return np.asarray(frame_noise(key, shape))
    if initial.shape != shape:
        expected, found = ((1, s[-1], *s[:-1]) for s in (shape, initial.shape))
        raise UserError(f"initial latents: expected shape {expected}, found {found}")
    return initial


@typechecked
def sample_clip(
    pipeline: Pipeline,
    clip: Clip,
    config: SampleConfig,
    initial: Float[np.ndarray, "f h w c"] | None = None,
    on_step: OnStep | None = None,
    progress: bool = False,
    caches: Caches = ALL,
) -> Animation:
    """Sample one clip from arrays.

    `initial` latents default to noise drawn per frame from the seed: it depends on neither devices
    nor window batch nor length. Raises `UserError` when `initial` has another shape, and when
    solver, steps or windows do not suit the weights.
    """
    manifest, before = pipeline.manifest, pipeline.compiled.seconds
    uncond = config.uncond or manifest.uncond
    solver, steps = choose_steps(manifest, config)
    noise_key, step_key = jax.random.split(jax.random.key(config.seed))
    known = len(clip.conditions) if isinstance(clip.conditions, Sized) else None
    check_config(manifest, config, known)
    conditions = clip.conditions if caches.pose else list(clip.conditions)
    encoded = encode_conditions(pipeline, conditions, config.chunk)
    frames, h, w = encoded.features.shape[:3]
    check_config(manifest, config, frames)
    plan, batch = choose_windows(pipeline, config, frames)
    shape = (frames, h, w, manifest.model.unet.in_channels)
    initial = _initial_latents(initial, noise_key, shape)
    pose = encoded.features if caches.pose else np.stack(list(conditions))
    state = encode_reference(pipeline, clip, uncond, pose, caches)
    guidance = Guidance(config.guidance, config.guidance_rescale)
    how = (hold_windows(plan, steps), solver, guidance, batch, step_key)
    denoised, timing = denoise_clip(
        pipeline, state, initial, *how, on_step, progress, caches, steps
    )
    latents = pipeline.on_host(denoised)
    target = clip.reference if config.color else None
    video = _decode(pipeline, latents, target, config.chunk)
    trace_seconds, compile_seconds = pipeline.compiled.since(before)
    timing = dataclasses.replace(
        timing, trace_seconds=trace_seconds, compile_seconds=compile_seconds
    )
    return Animation(
        video=video,
        reference=(np.clip(clip.reference / 2 + 0.5, 0, 1) * 255).astype(np.uint8),
        pictures=encoded.pictures,
        gates=encoded.gates,
        initial=initial,
        latents=latents,
        timing=timing,
        conditions=pipeline.conditions,
        settings={
            **dataclasses.asdict(config),
            "uncond": uncond,
            "dtype": jnp.dtype(pipeline.model.compute.dtype).name,
            "quantize": pipeline.quantize,
            "weights": manifest.weight_hash,
        },
    )


@typechecked
def animate(
    pipeline: Pipeline,
    reference: str | Path,
    dwpose: str | Path | None = None,
    hamer: str | Path | None = None,
    smpl: str | Path | None = None,
    config: SampleConfig | None = None,
    *,
    trim: bool = False,
    alpha: Literal["white", "drop"] = "white",
    initial: Float[np.ndarray, "f h w c"] | None = None,
    fit: tuple[Fitted, ...] = (),
    progress: bool = False,
    say: Say = lambda line: None,
) -> Animation:
    """Animate a picture with driver files.

    Args:
      pipeline: from `load`.
      reference: picture of any size; the largest centred crop of the target's ratio is used.
      dwpose: keypoints (.pkl, .json, folder of JSON) or a video; hamer, smpl: videos or folders of
        pictures. Any subset, at least one; absent ones are black frames.
      config: options; the release's by default.
      trim: use the shortest driver's frames where counts differ, rather than raise.
      alpha: of the reference, over white or dropped as released.
      initial: initial latents, to compare with another implementation.
      fit: which of `window_batch` and `chunk` are made for what memory is free.
      progress: show a bar. say: told what a user should know.

    Raises `UserError` for bad input, before any weight is used.
    """
    config = config or SampleConfig()
    driver = open_driver(dwpose, hamer, smpl, config, trim)
    check_config(pipeline.manifest, config, len(driver.indices))
    picture = read_image(reference, alpha)
    clip = Clip(
        to_signed(crop_resize(picture, config.size)),
        imagenet_normalise(crop_resize(picture, dino_size(config.size))),
        stacked_conditions(driver, pipeline.conditions, config.size),
    )
    for line in driver.notes(pipeline.conditions):
        say(line)
    if fit:
        plan, _ = choose_windows(pipeline, config, len(driver.indices))
        config = fit_memory(pipeline, config, plan, fit, say)
    animation = sample_clip(pipeline, clip, config, initial, progress=progress)
    noise = "seed" if initial is None else "given"
    more = {"fps": driver.fps, "trim": trim, "alpha": alpha, "initial_latents": noise}
    return dataclasses.replace(animation, fps=driver.fps, settings=animation.settings | more)
