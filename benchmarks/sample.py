"""Sampling with random weights: `python -m benchmarks.sample --preset tiny|small|full`.

Times a clip with the exact caches; beside it, where the preset has it, the release's order with the
same attention, precision and window batch, run in turns; and the steps of longer clips. Reference,
poses and latents are noise. DINOv2 and the VAE's encoder run once per clip in both.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import jax
import numpy as np

from benchmarks.measure import Report, Row, finish, machine, make_parser, parse, peak_of, seconds_of
from benchmarks.plain import denoise_plain, plain_inputs, plain_programs
from benchmarks.presets import PRESETS, Preset, make_clip, make_latents, make_pipeline
from benchmarks.work import Work
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.sampling.denoise import Timing, denoise_clip
from realisdance_jax.sampling.encode import decode_frames, encode_conditions, encode_reference
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import Guidance
from realisdance_jax.sampling.sampler import choose_windows
from realisdance_jax.sampling.windows import WindowPlan
from realisdance_jax.utils.errors import exit_on_user_error

GUIDANCE = Guidance(2.0)
SHARE = 0.9
"""Of the ratio of FLOPs, what the ratio of times should reach."""


class Case:
    """One clip of a preset, both ways."""

    def __init__(self, pipeline: Pipeline, preset: Preset, frames: int):
        self.pipeline, self.frames, self.config = pipeline, frames, preset.sampling()
        schedule = pipeline.manifest.schedule
        self.solver = make_solver(self.config.solver, schedule, preset.steps, self.config.spacing)
        self.plan: WindowPlan
        self.plan, self.batch = choose_windows(pipeline, self.config, frames)
        self.clip, self.initial = make_clip(preset, frames), make_latents(preset, frames)
        self.timings: list[Timing] = []

    def exact(self) -> Any:
        """Latents of the clip, as `sample_clip` makes them."""
        run = self.pipeline
        features = encode_conditions(run, self.clip.conditions, self.config.chunk).features
        state = encode_reference(run, self.clip, "fake", features)
        rest = (self.plan, self.solver, GUIDANCE, self.batch, jax.random.key(0))
        latents, timing = denoise_clip(run, state, self.initial, *rest)
        self.timings.append(timing)
        return latents

    def plain(self) -> Callable[[], Any]:
        """The same in the order of the release; its programs are kept from call to call."""
        programs = plain_programs(self.pipeline, self.solver, GUIDANCE)
        rest = (self.initial, self.plan, self.solver, GUIDANCE, self.batch)

        def run() -> Any:
            inputs = plain_inputs(self.pipeline, self.clip, "fake")
            return denoise_plain(self.pipeline, programs, inputs, *rest)

        return run

    def decode(self) -> Any:
        """All frames as pictures on the host."""
        chunks = decode_frames(self.pipeline, self.initial, self.config.chunk)
        return [np.asarray(chunk) for chunk in chunks]


def peaks(first: Callable, second: Callable | None) -> tuple[int | None, int | None]:
    """Bytes of two ways, of which the first ran before: of each the least of two calls, one before
    and one after the other way, once both are warm.

    Of devices, which tell only the peak since the process began: the first way's before the second
    has run, then that of both.
    """
    if second is None:
        return peak_of(first), None
    if jax.devices()[0].platform != "cpu":
        return peak_of(first), peak_of(second)
    jax.block_until_ready(second())
    found: dict[Callable, list[int | None]] = {first: [], second: []}
    for way in (first, second, second, first):
        found[way].append(peak_of(way))
    least = [min((x for x in found[way] if x is not None), default=None) for way in found]
    return least[0], least[1]


def clip_rows(case: Case, work: Work, runs: int, with_plain: bool) -> tuple[list[Row], dict]:
    """The clip with caches and, in turns, without; what follows from it."""
    windows, found = math.prod(case.plan.index.shape[:2]), jax.block_until_ready(case.exact())
    first, guided = case.timings[0], sum(case.timings[0].guided)
    exact_flops = work.exact_clip(windows, guided, case.frames)
    numbers = {
        "seconds of tracing the step": first.trace_seconds,
        "seconds of compiling it": first.compile_seconds,
    }
    plain, exact_seconds, plain_seconds = case.plain(), [], []
    exact_peak, plain_peak = peaks(case.exact, plain if with_plain else None)
    if with_plain:
        other = np.asarray(plain())
        error = np.linalg.norm(found - other) / np.linalg.norm(other)
        numbers["relative difference of the latents"] = float(error)
    case.timings.clear()
    for _ in range(runs):
        exact_seconds += seconds_of(case.exact, 1, warm=False)
        plain_seconds += seconds_of(plain, 1, warm=False) if with_plain else ()
    loops = tuple(sum(timing.step_seconds) for timing in case.timings)
    rows = [
        Row("clip, exact caches", tuple(exact_seconds), exact_flops, exact_peak),
        Row("its denoising loop", loops, work.exact_steps(windows, guided)),
    ]
    if with_plain:
        flops = work.plain_clip(case.plan)
        rows.append(Row("clip, order of the release", tuple(plain_seconds), flops, plain_peak))
        times, counts = rows[2].median / rows[0].median, flops / exact_flops
        numbers["time ratio, release / exact"] = times
        numbers["FLOP ratio, release / exact"] = counts
        numbers[f"time ratio / FLOP ratio (at least {SHARE})"] = times / counts
        if exact_peak and plain_peak:
            numbers["peak memory, exact / release (at most 1)"] = exact_peak / plain_peak
    rows.append(Row("decoding the clip", seconds_of(case.decode, runs)))
    numbers["seconds per clip with decoding"] = rows[0].median + rows[-1].median
    return rows, numbers


def length_rows(
    pipeline: Pipeline, preset: Preset, work: Work, lengths: Sequence[int], runs: int
) -> tuple[list[Row], dict]:
    """Steps of clips of several lengths (the first step is the warm-up), and cost per frame.

    Whole clips, too, where the preset has it and they are not the one that is timed anyway.
    """
    rows, costs, numbers = [], {}, {}
    for frames in lengths:
        case = Case(pipeline, preset, frames)
        case.exact()
        timing, (steps, windows) = case.timings[-1], case.plan.index.shape[:2]
        seconds = timing.step_seconds[1:]
        guided = round(median(timing.guided[1:]))
        row = Row(f"one step, {frames} frames", seconds, work.exact_steps(windows, guided))
        costs[frames] = row.median / frames
        row.more.update({"windows": windows, "ms per frame": 1000 * costs[frames]})
        rows.append(row)
        if preset.whole and frames != preset.frames:
            seconds = seconds_of(case.exact, runs, warm=False)
            flops = work.exact_clip(steps * windows, sum(timing.guided), frames)
            rows.append(Row(f"clip of {frames} frames, exact caches", seconds, flops))
            rows.append(Row(f"decoding {frames} frames", seconds_of(case.decode, runs)))
            label = f"seconds per clip of {frames} frames with decoding"
            numbers[label] = rows[-2].median + rows[-1].median
    label = "cost of a step per frame, longest / shortest clip"
    return rows, numbers | {label: costs[max(costs)] / costs[min(costs)]}


def run(name: str, options: argparse.Namespace) -> Report:
    """All measurements of a preset."""
    preset, work = PRESETS[name], Work(PRESETS[name])
    device, pipeline = machine(preset.dtype), make_pipeline(preset)
    case = Case(pipeline, preset, preset.frames)
    with_plain = preset.plain if options.plain is None else options.plain
    rows, numbers = clip_rows(case, work, options.runs, with_plain)
    longer, more = length_rows(
        pipeline, preset, work, options.lengths or preset.lengths, options.runs
    )
    settings = {
        "size": f"{preset.size[0]}x{preset.size[1]}",
        "frames": preset.frames,
        "windows of": preset.window,
        "overlap": preset.overlap,
        "window batch": case.batch,
        "steps": preset.steps,
        "solver": case.config.solver,
        "guidance": GUIDANCE.scale,
    }
    return Report("sample", name, settings, device, rows + longer, numbers | more)


def main() -> None:
    parser = make_parser("sample", __doc__)
    plain = argparse.BooleanOptionalAction
    parser.add_argument("--plain", action=plain, help="time the release's order; as the preset has")
    parser.add_argument("--lengths", type=int, nargs="+", help="frames of clips, steps timed")
    options = parse(parser)
    finish(run(options.preset, options), options)


if __name__ == "__main__":
    exit_on_user_error(main)
