"""`--memory auto`: how many windows and frames fit into what is free, before anything compiles."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from realisdance_jax.models.compute import Compute
from realisdance_jax.models.jaxpr_memory import intermediate_bytes, tree_bytes
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.models.unet import outer_layers
from realisdance_jax.sampling.arguments import StepShapes, step_shapes
from realisdance_jax.sampling.config import SampleConfig, Uncond
from realisdance_jax.sampling.denoise import GUIDANCE_BYTES, guided_windows
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import Guidance, make_window_step
from realisdance_jax.sampling.shortcuts import Step
from realisdance_jax.sampling.windows import WindowPlan
from realisdance_jax.utils.host_memory import available_bytes

Fitted = Literal["window_batch", "chunk"]
SHARE = 0.8
"""Of the free bytes, what is planned for; the rest is for fragments and what is not foreseen."""

ALLOWANCE = 1.75
"""Of what a call needs in the order of tracing, what compilers take: other layouts, and both
branches of guidance at once. Up to 1.57 was found, for steps of small models on a CPU."""

MIB = 2**20
MOST_FRAMES = 16
"""Frames of a call of the pose encoders or the VAE: more are no faster."""


@dataclass(frozen=True)
class Needs:
    """Bytes on one device beside the weights. clip: through the whole clip. window, frame: of a
    call, for each of its windows or frames."""

    clip: int
    window: int
    frame: int


def free_bytes(device: Any) -> int | None:
    """Free on `device`; where it does not tell, its share of the host's; None if unknown."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    available = available_bytes()
    return None if available is None else available // jax.local_device_count()


class _Estimate(NamedTuple):
    """Bytes of one window's program, of one frame's, and of the deep features that one keeps."""

    shapes: StepShapes
    window: int
    frame: int
    deep: int


def _estimate(pipeline: Pipeline, config: SampleConfig, size: int, uncond: Uncond) -> _Estimate:
    """Of windows of `size` frames."""
    model = RealisDance(pipeline.manifest.model, Compute(pipeline.model.compute.dtype))
    variables = jax.tree.map(_shape, pipeline.variables)
    shapes = step_shapes(model, variables, config.size, size, 1, uncond)
    guidance = Guidance(config.guidance)
    inputs = (shapes.clip, shapes.guided, shapes.x, shapes.t)
    step = make_window_step(model, guidance)
    window = _call_bytes(step, variables, *inputs) + tree_bytes(inputs[1:])
    deep = 0
    if config.reuse_features > 1:
        layers = config.reuse_layers or outer_layers(model.config.unet)
        mode = Step(guidance.scale > 1, "keep", layers)
        keep = make_window_step(model, guidance, mode=mode)
        deep = tree_bytes(jax.eval_shape(keep, variables, *inputs)[1])
    return _Estimate(shapes, window, _frame(pipeline, model, shapes), deep)


def _call_bytes(program: Callable, *inputs: Any) -> int:
    """Of a call, beside its inputs."""
    return int(ALLOWANCE * intermediate_bytes(program, *inputs))


def needs_of(
    pipeline: Pipeline, config: SampleConfig, frames: int, windows: int, distinct: int
) -> Needs:
    """Of a clip of `frames` frames in `windows` windows per step; guidance of `distinct` in all.

    Arguments to the byte; intermediates as `jaxpr_memory` counts them, times `ALLOWANCE`.
    """
    manifest, mesh = pipeline.manifest, pipeline.mesh
    size = min(config.window_size, frames) if manifest.model.motion else 1
    uncond = config.uncond or manifest.uncond
    reuse = (config.reuse_features > 1, config.reuse_layers)
    key = (config.size, size, uncond, config.guidance > 1, reuse)
    if key not in pipeline.estimates:
        pipeline.estimates[key] = _estimate(pipeline, config, size, uncond)
    shapes, window, frame, deep = pipeline.estimates[key]
    data = mesh.shape["data"]
    kept = min(GUIDANCE_BYTES, -(-distinct * tree_bytes(shapes.guided) // data))
    kept += -(-windows * deep // data)
    # Latents, sums of both branches, the solver's history and its results.
    latents = 8 * frames * tree_bytes(shapes.x) // size
    clip = tree_bytes(shapes.clip) + latents + kept
    if mesh.devices.flat[0].platform == "cpu":
        clip += _on_host(shapes, frames, config.size) // jax.local_device_count()
    return Needs(clip, -(-window // mesh.shape["frames"]), frame)


def _least_free(mesh: Mesh) -> int | None:
    """Of all devices of all hosts, which must choose alike; None if one of them does not tell."""
    own = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    free = [free_bytes(device) for device in own]
    least = -1 if None in free else min(x for x in free if x is not None)
    if jax.process_count() > 1:
        # In MiB, which fit into the 32 bits that arrays have.
        everyone = multihost_utils.process_allgather(np.int32(least // MIB))
        least = MIB * int(np.min(everyone))
    return None if least < 0 else least


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _on_host(shapes: StepShapes, frames: int, size: tuple[int, int]) -> int:
    """Features, pictures and the decoded video of a clip, which share the memory of a CPU."""
    pictures = tree_bytes(shapes.pictures) // 4
    return frames * (tree_bytes(shapes.features) + pictures + 2 * 4 * 3 * math.prod(size))


def _frame(pipeline: Pipeline, model: RealisDance, shapes: StepShapes) -> int:
    """Of one frame in the pose encoders or the VAE's decoder, whichever needs more."""

    def encode(variables: Any, pictures: Any) -> Any:
        return model.apply(variables, pictures, method="encode_pose")

    variables, params = (
        jax.tree.map(_shape, tree) for tree in (pipeline.variables, pipeline.vae_params)
    )
    latents = jax.ShapeDtypeStruct((1, *shapes.x.shape[2:]), shapes.x.dtype)
    encoding = _call_bytes(encode, variables, shapes.pictures)
    decoding = _call_bytes(pipeline.vae.decode, params, latents)
    return max(encoding + tree_bytes(shapes.pictures), decoding + tree_bytes(latents))


def fit(needs: Needs, free: int, windows: int, frames: int, devices: int) -> tuple[int, int]:
    """(window batch, chunk) for `free` bytes on each of `devices`; at least one of each.

    As few calls as can be, and no more windows in each than these take.
    """
    room = max(0.0, SHARE * free - needs.clip)
    most = max(1, min(int(room // max(1, needs.window)), -(-windows // devices)))
    calls = -(-windows // (most * devices))
    batch = devices * -(-windows // (calls * devices))
    return batch, max(1, min(int(room // max(1, needs.frame)), MOST_FRAMES, frames))


def fit_memory(
    pipeline: Pipeline,
    config: SampleConfig,
    plan: WindowPlan,
    chosen: tuple[Fitted, ...],
    say: Callable[[str], None],
) -> SampleConfig:
    """`config` with `chosen` sizes made for what is free now; says what they are.

    plan: of the clip's windows. Left as it is, and so said, where nothing tells what is free.
    """
    frames, mesh = plan.count.shape[1], pipeline.mesh
    least = _least_free(mesh)
    if least is None:
        say("memory: nothing tells how much is free; sizes are left as they are")
        return config
    windows = int(plan.weight.any(axis=2).sum(axis=1).max())
    distinct = guided_windows(plan, mesh.shape["data"])
    needs = needs_of(pipeline, config, frames, windows, distinct)
    batch, chunk = fit(needs, least, windows, frames, mesh.shape["data"])
    sizes = {"window_batch": batch, "chunk": chunk}
    config = replace(config, **{name: sizes[name] for name in chosen})
    calls = f"{config.window_batch} windows and {config.chunk} frames per call"
    clip, window, frame = (f"{x / 2**30:.2f}" for x in (needs.clip, needs.window, needs.frame))
    say(
        f"memory: {least / 2**30:.2f} GiB free on each device; {calls} "
        f"(at most {clip} GiB for the clip, {window} per window, {frame} per frame)"
    )
    if needs.clip + needs.window > least:
        say("memory: even one window may not fit; see --size, --window-size and --dtype")
    return config
