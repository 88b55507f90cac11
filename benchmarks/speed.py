"""What approximations cost and save: `python -m benchmarks.speed --weights DIR --clips N`.

Held-out dancers, each sampled exactly and in every other way from the same noise, in turns. PSNR is
between the videos, exact and not, frame by frame. Seconds are of whole clips from arrays to frames,
after one that compiles.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from benchmarks.measure import Report, Row, add_files, finish, machine, parse
from realisdance_jax.checkpoints.folder import weights_folder
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.evaluation.protocols import EvalConfig, dancer_scenes, scene_inputs
from realisdance_jax.metrics.pixels import psnr
from realisdance_jax.models.quantized import QuantizedType
from realisdance_jax.preparing.values import size_value
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.encode import Clip
from realisdance_jax.sampling.pipeline import DTYPES, Pipeline, load
from realisdance_jax.sampling.sampler import check_config, sample_clip
from realisdance_jax.sampling.speed import SPEEDS, has_bfloat16
from realisdance_jax.shapes import UInt8
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import UserError, exit_on_user_error

IDENTICAL = 100.0
"""Decibel of frames without any difference."""

TARGETS = {"balanced": (35, 2), "fast": (30, 4)}
"""At least so many decibel, and so many times faster."""


@dataclasses.dataclass(frozen=True)
class Way:
    """changes: of the exact configuration. dtype: None for that of exact sampling. quantize: of
    kernels."""

    name: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    dtype: str | None = None
    quantize: QuantizedType | None = None


def all_ways(device: Any, layers: int) -> list[Way]:
    """Exact first, then one approximation at a time, then the bundles.

    layers: of a block of the model, beyond which there are none to reuse.
    """
    ways = [Way("exact")]
    for solver, steps in (("ddim", 25), ("dpm++", 20), ("unipc", 20), ("dpm++", 12), ("unipc", 12)):
        ways.append(Way(f"{solver}, {steps} steps", {"solver": solver, "steps": steps}))
    for low, high in ((0.2, 1.0), (0.0, 0.8), (0.4, 1.0)):
        ways.append(Way(f"guidance {low:g}-{high:g}", {"guidance_interval": (low, high)}))
    for n in (2, 3, 5):
        ways.append(Way(f"features every {n} steps", {"reuse_features": n}))
        if layers > 1:
            one = {"reuse_features": n, "reuse_layers": 1}
            ways.append(Way(f"features every {n} steps, 1 layer between", one))
    if has_bfloat16(device):
        ways.append(Way("bfloat16", dtype="bfloat16"))
    ways += [Way(f"{kind} kernels", quantize=kind) for kind in get_args(QuantizedType)]
    for name in TARGETS:
        dtype = "bfloat16" if has_bfloat16(device) else None
        ways.append(Way(name, SPEEDS[name].values(), dtype))
    return ways


def chosen_ways(ways: Sequence[Way], names: Sequence[str] | None) -> list[Way]:
    """The exact one and those of `names`, or all; raises `UserError` for a name that is none."""
    known = [way.name for way in ways]
    for name in names or ():
        if name not in known:
            raise UserError(f"--only: expected some of {'; '.join(known)}, found {name!r}")
    return [way for way in ways if not names or way is ways[0] or way.name in names]


@dataclasses.dataclass(frozen=True)
class Sample:
    """seconds: of the clip. loop: of its denoising loop."""

    frames: UInt8[np.ndarray, "f H W 3"]
    seconds: float
    loop: float


def sample(pipeline: Pipeline, clip: Clip, config: SampleConfig) -> Sample:
    """One clip, timed."""
    begin = time.perf_counter()
    animation = sample_clip(pipeline, clip, config)
    frames = np.stack([animation.frame(i) for i in range(len(animation.video))])
    seconds = time.perf_counter() - begin
    return Sample(frames, seconds, sum(animation.timing.step_seconds))


def measure(
    ways: Sequence[Way],
    clips: Sequence[Clip],
    exact: SampleConfig,
    pipeline_of: Callable[[Way], Pipeline],
    say: Callable[[str], None] = print,
) -> list[Row]:
    """A row per way, of which the first is exact: seconds and PSNR of every clip, and ratios.

    Clips differ in their noise, ways do not.
    """
    samples: dict[str, list[Sample]] = {way.name: [] for way in ways}
    errors: dict[str, list[float]] = {way.name: [] for way in ways}
    for way in ways:
        sample(pipeline_of(way), clips[0], dataclasses.replace(exact, **way.changes))
        say(f"{way.name}: compiled")
    for number, clip in enumerate(clips):
        truth = None
        for way in ways:
            config = dataclasses.replace(exact, seed=exact.seed + number, **way.changes)
            made = sample(pipeline_of(way), clip, config)
            truth = made.frames if truth is None else truth
            errors[way.name].append(float(psnr(made.frames, truth, identical=IDENTICAL).mean()))
            samples[way.name].append(dataclasses.replace(made, frames=made.frames[:0]))
            say(f"clip {number}, {way.name}: {errors[way.name][-1]:.2f} dB, {made.seconds:.3g} s")
    first = samples[ways[0].name]
    return [_row(way.name, samples[way.name], first, errors[way.name]) for way in ways]


def _row(name: str, samples: list[Sample], exact: list[Sample], errors: list[float]) -> Row:
    clip, loop = (
        float(np.median([getattr(s, what) for s in exact]))
        / float(np.median([getattr(s, what) for s in samples]))
        for what in ("seconds", "loop")
    )
    more = {"PSNR dB": float(np.mean(errors)), "least dB": min(errors)}
    more |= {"times faster": clip, "its loop": loop}
    return Row(name, tuple(s.seconds for s in samples), more=more)


def conclusions(rows: Sequence[Row]) -> dict[str, float]:
    """Of the bundles, beside what they should reach."""
    numbers = {}
    for row in rows:
        if row.name in TARGETS:
            decibel, ratio = TARGETS[row.name]
            numbers[f"{row.name}: PSNR dB (at least {decibel})"] = row.more["PSNR dB"]
            numbers[f"{row.name}: times faster (at least {ratio})"] = row.more["times faster"]
    return numbers


def run(options: argparse.Namespace) -> Report:
    """All ways on all clips."""
    config = EvalConfig("dancer", options.clips, options.frames, options.stride, options.size)
    exact = SampleConfig(
        size=config.size,
        stride=1,
        steps=options.steps,
        max_frames=config.frames,
        window_size=options.window,
        window_overlap=min(4, options.window - 1),
        seed=options.seed,
    )
    with weights_folder(options.weights) as folder:
        manifest = read_manifest(folder)
        check_config(manifest, exact, config.frames)
        ways = all_ways(jax.devices()[0], manifest.model.unet.layers_per_block)
        ways = chosen_ways(ways, options.only)
        device = machine(options.dtype)
        loaded: dict[tuple, Pipeline] = {}

        def pipeline_of(way: Way) -> Pipeline:
            dtype = way.dtype or options.dtype
            key = dtype, way.quantize
            if key not in loaded:
                one = jax.devices()[:1]
                loaded[key] = load(folder, dtype, one, quantize=way.quantize)
            return loaded[key]

        names = manifest.model.pose.conditions
        clips = [scene_inputs(s, config.size, names) for s in dancer_scenes(config, names)]
        rows = measure(ways, clips, exact, pipeline_of)
    settings = {
        "weights": manifest.weight_hash,
        "clips": config.clips,
        "frames": config.frames,
        "size": f"{config.size[0]}x{config.size[1]}",
        "windows of": exact.window_size,
        "exact": f"{exact.solver} with {exact.steps} steps",
        "guidance": exact.guidance,
    }
    return Report("speed", "dancer", settings, device, rows, conclusions(rows))


def main() -> None:
    parser = Parser(prog="benchmarks.speed", description=__doc__)
    weights = "weights folder, training run, or a file of packed weights"
    parser.add_argument("--weights", type=Path, required=True, help=weights)
    parser.add_argument("--clips", type=int, default=8, help="held-out dancers")
    parser.add_argument("--frames", type=int, default=16, help="of a clip")
    parser.add_argument("--stride", type=int, default=2, help="between frames")
    parser.add_argument("--size", type=size_value, default=(128, 96), help="HxW")
    parser.add_argument("--steps", type=int, default=50, help="of exact sampling")
    parser.add_argument("--window", type=int, default=16, help="frames of a window")
    parser.add_argument("--seed", type=int, default=0, help="of the first clip's noise")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32", help="of exact")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows beside the exact one")
    add_files(parser)
    options = parse(parser)
    finish(run(options), options)


if __name__ == "__main__":
    exit_on_user_error(main)
