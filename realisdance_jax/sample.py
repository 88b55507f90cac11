"""Animate a picture with a pose sequence: `python -m realisdance_jax.sample --weights DIR ...`."""

import re
import sys
import traceback
from argparse import BooleanOptionalAction, Namespace
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_args

import jax
import numpy as np

from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.data.images import read_image
from realisdance_jax.data.sound import check_sound
from realisdance_jax.diffusion.schedule import Spacing
from realisdance_jax.diffusion.solvers import SOLVERS
from realisdance_jax.models.quantized import QuantizedType
from realisdance_jax.sampling.cases import Case, find_cases
from realisdance_jax.sampling.compiled import Compiled
from realisdance_jax.sampling.conditions import open_driver
from realisdance_jax.sampling.config import SampleConfig, Uncond
from realisdance_jax.sampling.exported import read_programs, write_programs
from realisdance_jax.sampling.memory import Fitted
from realisdance_jax.sampling.output import load_latents, save_latents, write_outputs
from realisdance_jax.sampling.pipeline import DTYPES, Pipeline, export_target, sampling_mesh
from realisdance_jax.sampling.sampler import animate, check_config, check_interval, load
from realisdance_jax.sampling.speed import SPEEDS, describe
from realisdance_jax.sampling.targets import check_folder, check_output, check_outputs
from realisdance_jax.sampling.windows import WINDOW_KINDS
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.compilation import keep_compiled
from realisdance_jax.utils.errors import UserError, exit_on_user_error

SINGLE = ("ref", "dwpose", "hamer", "smpl", "audio", "dump_latents")
"""Options of one case, not to be had with a folder of them."""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="realisdance_jax.sample", description=__doc__)
    _add_files(parser)
    default = SampleConfig()

    def number(group, name: str, text: str) -> None:
        value = getattr(default, name.replace("-", "_"))
        group.add_argument(f"--{name}", type=type(value), default=value, help=text)

    what = parser.add_argument_group("sampling")
    what.add_argument("--size", default="768x576", metavar="HxW", help="multiples of 8")
    number(what, "stride", "use every n-th driver frame")
    number(what, "max-frames", "at most so many frames")
    bundles = "bundle of --solver, --steps, the approximations below and --dtype; each wins over it"
    what.add_argument("--speed", choices=list(SPEEDS), default="exact", help=bundles)
    what.add_argument("--steps", type=int, help="denoising steps (default: as --speed, 50)")
    number(what, "guidance", "scale; 1 or less is off")
    number(what, "guidance-rescale", "phi; 0 is off")
    number(what, "seed", "of the noise")
    what.add_argument("--solver", choices=SOLVERS, help="sampler (default: as --speed, ddim)")
    spacings = get_args(Spacing)
    what.add_argument("--spacing", choices=spacings, default=default.spacing, help="of timesteps")
    number(what, "eta", "fresh noise of ddim, 0 to 1")
    branch = "unconditional branch (default: as the weights say)"
    what.add_argument("--uncond", choices=get_args(Uncond), help=branch)
    what.add_argument("--fps", type=float, help="of the output (default: driver fps / stride)")
    switch = BooleanOptionalAction
    what.add_argument("--color", action=switch, default=default.color, help="as the reference")
    long = parser.add_argument_group("long videos and speed")
    long.add_argument("--windows", choices=WINDOW_KINDS, default=default.windows, help="schedule")
    number(long, "window-size", "frames")
    number(long, "window-overlap", "frames")
    number(long, "window-stride", "kinds of gaps between frames")
    free = "auto: the next two by what is free on the devices, unless given; fixed: 1 and 4"
    long.add_argument("--memory", choices=("fixed", "auto"), default="fixed", help=free)
    long.add_argument("--window-batch", type=int, help="windows per call (default: as --memory)")
    frames = "frames per call of pose encoders and VAE (default: as --memory)"
    long.add_argument("--chunk", type=int, help=frames)
    rest = "keep reference UNet, DINOv2 and VAE encoder on the host (default: on GPUs and TPUs)"
    long.add_argument("--offload", action=switch, help=rest)
    share = "devices that share a window, by frames and pixels (default: 1)"
    long.add_argument("--devices-per-window", type=int, default=1, metavar="N", help=share)
    traced = "use the programs in this file, for the same options and shapes; nothing is traced"
    long.add_argument("--exported", type=Path, metavar="FILE", help=traced)
    keep = "write the programs of this run, .zip, for --exported"
    long.add_argument("--export", type=Path, metavar="FILE", help=keep)
    of_networks = "of the networks (default: as --speed, float32)"
    long.add_argument("--dtype", choices=sorted(DTYPES), help=of_networks)
    _add_approximations(parser)
    return parser


def _add_approximations(parser: Parser) -> None:
    """What `--speed` sets as well; so their defaults are not here."""
    group = parser.add_argument_group("approximations (default: as --speed; exact has none)")
    interval = "guidance between these shares of the diffusion time only; 0,1 is everywhere"
    group.add_argument("--guidance-interval", metavar="LO,HI", help=interval)
    reuse = "the whole network every n-th step only; 1 is every step"
    group.add_argument("--reuse-features", type=int, metavar="N", help=reuse)
    layers = "outermost layers to run at other steps; 0 is the whole outermost level"
    group.add_argument("--reuse-layers", type=int, metavar="N", help=layers)
    bits = "keep large kernels in 8 bits, a scale per output channel (default: no)"
    group.add_argument("--quantize", choices=get_args(QuantizedType), help=bits)


def _add_files(parser: Parser) -> None:
    files = parser.add_argument_group("files")
    files.add_argument("--weights", type=Path, required=True, help="folder written by convert")
    files.add_argument("--ref", type=Path, help="reference picture, any size")
    files.add_argument("--dwpose", type=Path, help="keypoints (.pkl, .json, folder) or a video")
    files.add_argument("--hamer", type=Path, help="HaMeR video or folder of pictures")
    files.add_argument("--smpl", type=Path, help="SMPL-CS video or folder of pictures")
    sound = "film or sound file: its sound for the video, not re-encoded"
    files.add_argument("--audio", type=Path, help=sound)
    files.add_argument("--root", type=Path, help="folder of cases; --out is then a folder")
    files.add_argument("--out", type=Path, required=True, help="video to write, .mp4")
    alpha = ("white", "drop")
    files.add_argument("--alpha", choices=alpha, default="white", help="of --ref: on white or not")
    files.add_argument("--trim", action="store_true", help="cut drivers to the shortest")
    files.add_argument("--init-latents", type=Path, help=".npy of initial latents (1, c, f, h, w)")
    files.add_argument("--dump-latents", type=Path, help=".npy for initial latents, *_final.npy")
    switch = BooleanOptionalAction
    files.add_argument("--side-by-side", action=switch, default=True, help="*_side_by_side.mp4")
    files.add_argument("--save-frames", action="store_true", help="frames as PNG in *_frames")
    files.add_argument("--gates", action="store_true", help="heat maps in *_gates.mp4")


def parse_size(text: str) -> tuple[int, int]:
    """`768x576` -> (768, 576)."""
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if not match:
        raise UserError(f"size: expected HEIGHTxWIDTH such as 768x576, found {text!r}")
    return int(match[1]), int(match[2])


def parse_interval(text: str) -> tuple[float, float]:
    """`0.2,1` -> (0.2, 1.0)."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        expected = "expected LO,HI such as 0.2,1"
        raise UserError(f"guidance interval: {expected}, found {text!r}") from None
    return low, high


def make_config(options: Namespace) -> SampleConfig:
    """Checked sampling options of the command line, those of `--speed` where not given."""
    names = {field.name for field in fields(SampleConfig)} - {"size"}
    values = SPEEDS[options.speed].values()
    values |= {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.guidance_interval is not None:
        values["guidance_interval"] = parse_interval(options.guidance_interval)
    return SampleConfig(size=parse_size(options.size), **values)


def check_used(options: Namespace, config: SampleConfig) -> None:
    """Raise `UserError` for an option that would be without effect; those of bundles may be."""
    unguided = config.guidance <= 1
    values = {
        "--reuse-layers": (config.reuse_features == 1, options.reuse_layers, "--reuse-features"),
        "--guidance-interval": (unguided, options.guidance_interval, "--guidance"),
        "--guidance-rescale": (unguided, options.guidance_rescale, "--guidance"),
    }
    for name, (idle, value, other) in values.items():
        if idle and value:
            raise UserError(f"{name}: expected {other} above 1 beside it, found {value} alone")


def sizes_to_fit(options: Namespace) -> tuple[Fitted, ...]:
    """Which sizes `--memory auto` chooses: those not given."""
    names = get_args(Fitted) if options.memory == "auto" else ()
    return tuple(name for name in names if getattr(options, name) is None)


def check_export(options: Namespace) -> None:
    """Raise `UserError` unless `--export` can be written, and the programs are this run's own."""
    if options.export is not None:
        check_output(options.export, ".zip")
        if options.exported is not None:
            raise UserError("expected one of --export and --exported, found both")


@dataclass(frozen=True)
class Job:
    """What to animate and where to write it; frames of the output, None where not yet known."""

    case: Case
    out: Path
    frames: int | None = None


def list_cases(options: Namespace, config: SampleConfig) -> list[Job]:
    """The jobs of the command line; refuses bad input before weights are read.

    In a folder of cases each file is opened only when its turn comes.
    """
    jobs = [_single_job(options, config)] if options.root is None else _jobs_of_folder(options)
    given = (options.weights, options.root, options.audio, options.init_latents)
    inputs = [*given, *(path for job in jobs for path in job.case.files)]
    outs = [job.out for job in jobs]
    check_outputs(outs, inputs, latents=options.dump_latents, **_chosen(options))
    return jobs


def _chosen(options: Namespace) -> dict[str, bool]:
    """Which outputs there will be beside the video."""
    switches = {"side_by_side": options.side_by_side, "gates": options.gates}
    return switches | {"frames": options.save_frames}


def _single_job(options: Namespace, config: SampleConfig) -> Job:
    if options.ref is None:
        raise UserError("expected --ref PICTURE or --root FOLDER, found neither")
    case = Case("", options.ref, options.dwpose, options.hamer, options.smpl)
    read_image(case.reference, options.alpha)
    driver = open_driver(case.dwpose, case.hamer, case.smpl, config, options.trim)
    if options.audio:
        check_sound(options.audio, len(driver.indices) / driver.fps)
    return Job(case, options.out, len(driver.indices))


def _jobs_of_folder(options: Namespace) -> list[Job]:
    if clash := [name for name in SINGLE if getattr(options, name) is not None]:
        option = "--" + clash[0].replace("_", "-")
        raise UserError(f"expected --root without {option}, found both")
    check_folder(options.out)
    return [Job(case, options.out / f"{case.name}.mp4") for case in find_cases(options.root)]


def run_case(
    pipeline: Pipeline,
    case: Case,
    out: Path,
    options: Namespace,
    config: SampleConfig,
    initial: np.ndarray | None,
) -> None:
    """Animate one case and write it."""
    if case.problem:
        raise UserError(case.problem)
    animation = animate(
        pipeline,
        case.reference,
        case.dwpose,
        case.hamer,
        case.smpl,
        config,
        trim=options.trim,
        alpha=options.alpha,
        initial=initial,
        fit=sizes_to_fit(options),
        progress=True,
        say=print,
    )
    timing, count = animation.timing, len(animation.video)
    spent = sum(timing.step_seconds)
    print(
        f"{count} frames: traced in {timing.trace_seconds:.1f} s, "
        f"compiled in {timing.compile_seconds:.1f} s, denoised in {spent:.1f} s"
    )
    latents = save_latents(options.dump_latents, animation) if options.dump_latents else []
    paths = write_outputs(out, animation, audio=options.audio, **_chosen(options))
    for path in paths + latents:
        print(f"wrote {path}")


def main() -> None:
    options = make_parser().parse_args()
    config = make_config(options)
    check_used(options, config)
    jobs = list_cases(options, config)
    check_export(options)
    initial = load_latents(options.init_latents) if options.init_latents else None
    weights = weights_of(options.weights)
    manifest = read_manifest(weights)
    for frames in {job.frames for job in jobs}:
        check_config(manifest, config, frames)
    if options.guidance_interval is not None:
        check_interval(manifest, config)
    keep_compiled()
    dtype = options.dtype or SPEEDS[options.speed].dtype(jax.devices()[0])
    precision = f"{dtype}, {options.quantize} kernels" if options.quantize else dtype
    print(f"speed {options.speed}: {describe(config, precision)}")
    share = options.devices_per_window
    target = export_target(manifest, precision, sampling_mesh(share))
    stored = read_programs(options.exported, target) if options.exported else None
    pipeline = load(
        weights,
        dtype,
        devices_per_window=share,
        offload=options.offload,
        quantize=options.quantize,
    )
    if stored:
        pipeline = replace(pipeline, stored=stored, compiled=Compiled())
    if options.export:
        pipeline = replace(pipeline, recorded={}, compiled=Compiled())
    failed = []
    for job in jobs:
        try:
            if job.case.name:
                print(f"{job.case.name}:")
            run_case(pipeline, job.case, job.out, options, config, initial)
        except Exception as error:  # whatever it is, the other cases are not to blame
            if options.root is None:
                raise
            failed.append(job.case.name)
            if not isinstance(error, UserError):
                traceback.print_exc()
            reason = str(error) if isinstance(error, UserError) else repr(error)
            print(f"error: {job.case.name}: {' '.join(reason.split())}", file=sys.stderr)
    if options.export and pipeline.recorded:
        write_programs(options.export, target, pipeline.recorded)
        print(f"wrote {options.export}: {len(pipeline.recorded)} programs")
    if options.root:
        print(f"{len(jobs) - len(failed)} of {len(jobs)} cases animated")
    if failed:
        raise UserError(f"{options.root}: {len(failed)} cases failed: {', '.join(failed)}")


if __name__ == "__main__":
    exit_on_user_error(main)
