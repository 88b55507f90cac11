"""Animate a picture: `load(folder)` once, then `animate(pipeline, ...)` per clip."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from realisdance_jax.data.images import read_image
from realisdance_jax.data.transforms import crop_resize, dino_size, imagenet_normalise, to_signed
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.sampling.color import apply_color, color_statistics, merge_color
from realisdance_jax.sampling.conditions import open_driver, stacked_conditions
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.denoise import Guidance, OnStep, Timing, denoise_clip, frame_noise
from realisdance_jax.sampling.encode import (
    Clip,
    decode_frames,
    encode_conditions,
    encode_reference,
)
from realisdance_jax.sampling.pipeline import Pipeline, load
from realisdance_jax.sampling.windows import WindowPlan, plan_windows
from realisdance_jax.shapes import Float, UInt8
from realisdance_jax.utils.errors import UserError

__all__ = ["Animation", "SampleConfig", "animate", "load", "sample_clip"]

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Animation:
    """A sampled clip.

    video: `f H W 3` in [0, 1] (float32). reference: `H W 3` and pictures: the conditions stacked on
    channels, uint8. gates: weights in (0, 1). initial, latents: before and after denoising.
    fps: of the output.
    """

    video: Float[np.ndarray, "f H W 3"]
    reference: UInt8[np.ndarray, "H W 3"]
    pictures: UInt8[np.ndarray, "f H W c"]
    gates: Float[np.ndarray, "f h w k"]
    initial: Float[np.ndarray, "f h w c"]
    latents: Float[np.ndarray, "f h w c"]
    timing: Timing
    fps: float = 8.0

    def frame(self, i: int) -> UInt8[np.ndarray, "H W 3"]:
        """Frame i as 0..255, truncated as released (spec section 5)."""
        return (self.video[i] * 255).astype(np.uint8)


def choose_windows(pipeline: Pipeline, config: SampleConfig, frames: int) -> tuple[WindowPlan, int]:
    """Windows of every step and how many go into one call.

    An image-stage model sees one frame at a time. Raises `UserError` when windows are longer than
    the motion modules' position tables.
    """
    devices = pipeline.mesh.devices.size
    batch = -(-config.window_batch // devices) * devices
    motion = pipeline.manifest.model.motion
    if motion is None:
        return plan_windows("blend", config.steps, frames, 1, 1, 0, batch), batch
    if min(config.window_size, frames) > motion.max_frames:
        raise UserError(
            f"window size: expected at most {motion.max_frames} frames (positions of these "
            f"weights' motion modules), found {config.window_size}"
        )
    sizes = (config.window_size, config.window_stride, config.window_overlap)
    return plan_windows(config.windows, config.steps, frames, *sizes, batch), batch


def _restore_color(video: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Decoded `f H W 3` with the reference's colour statistics, frame by frame (parity.md: H7)."""
    statistics = reduce(merge_color, (color_statistics(frame[None, None]) for frame in video))
    target = color_statistics(reference[None, None])
    for i, frame in enumerate(video):
        video[i] = apply_color(frame[None, None], statistics, target)[0, 0]
    return video


def sample_clip(
    pipeline: Pipeline,
    clip: Clip,
    config: SampleConfig,
    initial: Float[np.ndarray, "f h w c"] | None = None,
    on_step: OnStep | None = None,
    progress: bool = False,
) -> Animation:
    """Sample one clip from arrays.

    `initial` latents default to noise drawn per frame from the seed: it depends on neither devices
    nor window batch nor length. Raises `UserError` when `initial` has another shape.
    """
    encoded = encode_conditions(pipeline, clip.conditions, config.chunk)
    frames, h, w = encoded.features.shape[:3]
    latent_shape = (frames, h, w, pipeline.manifest.model.unet.in_channels)
    noise_key, step_key = jax.random.split(jax.random.key(config.seed))
    if initial is None:
        initial = np.asarray(frame_noise(noise_key, latent_shape))
    if initial.shape != latent_shape:
        f, h, w, c = latent_shape
        raise UserError(
            f"initial latents: expected shape {(1, c, f, h, w)}, "
            f"found {(1, initial.shape[3], *initial.shape[:3])}"
        )
    uncond = config.uncond or pipeline.manifest.uncond
    state = encode_reference(pipeline, clip, uncond, encoded.features)
    plan, batch = choose_windows(pipeline, config, frames)
    latents, timing = denoise_clip(
        pipeline,
        state,
        initial,
        plan,
        make_solver(
            config.solver, pipeline.manifest.schedule, config.steps, config.spacing, config.eta
        ),
        Guidance(config.guidance, config.guidance_rescale),
        batch,
        step_key,
        on_step,
        progress,
    )
    video = np.concatenate(list(decode_frames(pipeline, latents, min(config.chunk, frames))))
    if config.color:
        video = _restore_color(video, clip.reference)
    return Animation(
        np.clip(video / 2 + 0.5, 0, 1),
        (np.clip(clip.reference / 2 + 0.5, 0, 1) * 255).astype(np.uint8),
        encoded.pictures,
        encoded.gates,
        np.asarray(initial),
        np.asarray(latents),
        timing,
    )


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
      progress: show a bar. say: told what a user should know.

    Raises `UserError` for bad input, before any weight is used.
    """
    config = config or SampleConfig()
    paths = [None if path is None else Path(path) for path in (dwpose, hamer, smpl)]
    driver = open_driver(*paths, config.stride, config.max_frames, trim)
    picture = read_image(reference, alpha)
    for name in pipeline.conditions:
        if name not in driver.present:
            say(f"{name}: not given, black frames instead")
    clip = Clip(
        to_signed(crop_resize(picture, config.size)),
        imagenet_normalise(crop_resize(picture, dino_size(config.size))),
        stacked_conditions(driver, pipeline.conditions, config.size),
    )
    animation = sample_clip(pipeline, clip, config, initial, progress=progress)
    return dataclasses.replace(animation, fps=config.fps or driver.fps / config.stride)
