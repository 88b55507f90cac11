"""Measure models: `python -m realisdance_jax.evaluate --protocol dancer --weights DIR --out DIR`.

dancer: held-out dancers, whose truth is known. robust: the same with wrong poses. disco, humanvid:
clips of an official folder, as those papers measure. Writes results.json and index.html; the same
call goes on where one was stopped.
"""

import dataclasses
import hashlib
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import realisdance_jax
from realisdance_jax.checkpoints.folder import PACKED, weights_folder
from realisdance_jax.checkpoints.weights import Manifest, read_manifest
from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.data.corruptions import KINDS
from realisdance_jax.data.dancer_clips import SPLITS
from realisdance_jax.data.dancer_source import DRAWING
from realisdance_jax.diffusion.schedule import Spacing
from realisdance_jax.evaluation.compare import COPY, Model, run_models
from realisdance_jax.evaluation.journal import JOURNAL, Journal
from realisdance_jax.evaluation.measure import MEASURING, Networks
from realisdance_jax.evaluation.protocols import (
    DRAWN,
    EVERY,
    PROTOCOLS,
    SIZES,
    STRENGTHS,
    EvalConfig,
    dancer_scenes,
    file_scenes,
    open_folder,
)
from realisdance_jax.evaluation.results import JSON, PAGE, make_record, write_results
from realisdance_jax.preparing.values import size_value
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.pipeline import DTYPES
from realisdance_jax.sampling.sampler import check_config
from realisdance_jax.sampling.targets import check_output
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.compilation import keep_compiled
from realisdance_jax.utils.errors import UserError, exit_on_user_error

SHARES = ",".join(f"{share:g}" for share in STRENGTHS)
"""`STRENGTHS` as an option."""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="realisdance_jax.evaluate", description=__doc__)
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True, help="what is compared")
    several = "weights folders, runs or packed files, [NAME=]PATH; the first against the others"
    parser.add_argument("--weights", nargs="+", required=True, metavar="PATH", help=several)
    parser.add_argument("--out", type=Path, required=True, help="folder for both files")
    parser.add_argument("--data", help="official folder, for disco and humanvid")
    nets = "folder with the networks that realisdance_jax/metrics/README.md names"
    parser.add_argument("--metric-weights", type=Path, help=nets)
    pixels = "disco and humanvid without those networks"
    parser.add_argument("--pixels-only", action="store_true", help=pixels)
    parser.add_argument("--clips", type=int, default=32, help="at most so many")
    parser.add_argument("--frames", type=int, default=16, help="compared per clip")
    parser.add_argument("--stride", type=int, help="between frames (default: 2, of files 1)")
    parser.add_argument("--size", type=size_value, help="HxW (default: as the protocol says)")
    parser.add_argument("--split", default="test", help="of dancers: " + ", ".join(SPLITS))
    parser.add_argument("--strengths", default=SHARES, help="shares of wrong frames, robust")
    kinds = "what is wrong with them, a list of all (any kind, as they come), " + ", ".join(KINDS)
    parser.add_argument("--kinds", default=EVERY, help=kinds)
    only = "just these of robust, as 'true,dwpose 0.5,dwpose jitter 0.5' (default: all)"
    parser.add_argument("--cases", help=only)
    parser.add_argument("--steps", type=int, default=25, help="denoising steps")
    spacing = "timesteps of the steps; trailing begins at pure noise, however few they are"
    parser.add_argument("--spacing", choices=get_args(Spacing), default="linspace", help=spacing)
    parser.add_argument("--guidance", type=float, default=2.0, help="scale; 1 or less is off")
    switch = BooleanOptionalAction
    parser.add_argument(
        "--color", action=switch, default=True, help="of the reference, given to the video"
    )
    parser.add_argument("--window", type=int, default=16, help="frames of a window")
    parser.add_argument("--seed", type=int, default=0, help="of noise, corruptions, bootstrap")
    parser.add_argument("--show", type=int, default=3, help="clips in the page")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32", help="of networks")
    return parser


def named_models(words: list[str], stack: ExitStack) -> list[Model]:
    """`NAME=PATH` or `PATH`, which is called by its last part; names are told apart.

    Packed files are unpacked until `stack` is closed.
    """
    models = []
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or "/" in name:
            name, path = Path(word).stem if word.endswith(PACKED) else Path(word).name, word
        models.append(Model(name, stack.enter_context(weights_folder(Path(path)))))
    names = [model.name for model in models]
    if len({*names, COPY, ""}) < len(names) + 2:
        expected = f"different names (NAME=PATH), none of them empty or {COPY!r}"
        raise UserError(f"--weights: expected {expected}, found {', '.join(names)}")
    return models


def check_meant(options: Namespace) -> None:
    """Raise `UserError` for an option that means nothing in the protocol."""
    protocol, drawn = options.protocol, options.protocol in DRAWN
    robust = protocol == "robust"
    given = {
        "--split": (drawn, options.split != "test"),
        "--strengths": (robust and not options.cases, options.strengths != SHARES),
        "--kinds": (robust and not options.cases, options.kinds != EVERY),
        "--pixels-only": (not drawn, options.pixels_only),
    }
    for name, (meant, found) in given.items():
        if found and not meant:
            behind = " with --cases" if robust else ""
            raise UserError(f"--protocol {protocol}{behind}: expected no {name}, found it")


def make_config(options: Namespace) -> EvalConfig:
    """Checked options of the command line."""
    drawn = options.protocol in DRAWN
    if drawn != (options.data is None):
        wanted = "no --data" if drawn else "--data FOLDER"
        found = options.data or "none"
        raise UserError(f"--protocol {options.protocol}: expected {wanted}, found {found}")
    if not drawn and options.pixels_only == (options.metric_weights is not None):
        found = "both" if options.pixels_only else "neither"
        raise UserError(f"expected --metric-weights FOLDER or --pixels-only, found {found}")
    check_meant(options)
    try:
        strengths = tuple(float(part) for part in options.strengths.split(","))
    except ValueError:
        found = options.strengths
        raise UserError(f"--strengths: expected numbers with commas, found {found!r}") from None
    return EvalConfig(
        options.protocol,
        options.clips,
        options.frames,
        (2 if drawn else 1) if options.stride is None else options.stride,
        options.size or SIZES[options.protocol],
        options.split,
        strengths,
        tuple(options.kinds.split(",")),
        tuple(case.strip() for case in (options.cases or "").split(",") if case.strip()),
        options.seed,
    )


def data_fingerprint(config: EvalConfig, data: str | None, conditions: Sequence[str]) -> str:
    """What identifies the clips."""
    if data is None:
        return f"dancer {DRAWING} {config.split} {config.clips}"
    return open_folder(data, conditions).fingerprint()[:16]


def check_models(manifests: dict[str, Manifest], sampling: SampleConfig, frames: int) -> None:
    """Raise `UserError` before anything is sampled where options do not suit some weights.

    sampling: with the seed of the last clip.
    """
    for manifest in manifests.values():
        check_config(manifest, sampling, frames)


def conditions_of(manifests: dict[str, Manifest]) -> list[str]:
    """All that some model takes, in order."""
    known = {name for manifest in manifests.values() for name in manifest.model.pose.conditions}
    return [name for name in CONDITIONS if name in known]


def make_sampling(options: Namespace, config: EvalConfig) -> SampleConfig:
    """How clips are sampled."""
    return SampleConfig(
        size=config.size,
        stride=1,
        steps=options.steps,
        spacing=options.spacing,
        guidance=options.guidance,
        color=options.color,
        seed=options.seed,
        max_frames=config.frames,
        window_size=options.window,
        window_overlap=min(4, max(0, options.window - 1)),
    )


def file_hash(path: Path) -> str:
    """Of its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def make_settings(
    options: Namespace, config: EvalConfig, sampling: SampleConfig, manifests: dict[str, Manifest]
) -> dict[str, Any]:
    """What tells one evaluation from another."""
    networks = options.metric_weights
    files = sorted(networks.iterdir()) if networks else []
    return {
        **dataclasses.asdict(config),
        "sampling": dataclasses.asdict(sampling),
        "dtype": options.dtype,
        "version": realisdance_jax.__version__,
        "measuring": MEASURING,
        "data": data_fingerprint(config, options.data, conditions_of(manifests)),
        "weights": {name: manifest.weight_hash for name, manifest in manifests.items()},
        "networks": {path.name: file_hash(path) for path in files if path.is_file()},
    }


def main() -> None:
    options = make_parser().parse_args()
    config = make_config(options)
    sampling = make_sampling(options, config)
    if options.show < 0:
        raise UserError(f"--show: expected at least 0, found {options.show}")
    for name, suffix in ((JSON, ".json"), (PAGE, ".html"), (JOURNAL, ".jsonl")):
        check_output(options.out / name, suffix)
    networks = Networks.read(options.metric_weights) if options.metric_weights else None
    with ExitStack() as stack:
        models = named_models(options.weights, stack)
        manifests = {model.name: read_manifest(model.folder) for model in models}
        last = dataclasses.replace(sampling, seed=sampling.seed + config.clips - 1)
        check_models(manifests, last, config.frames)
        if options.data is None:
            scenes = dancer_scenes(config, conditions_of(manifests))
        else:
            scenes = file_scenes(config, options.data, conditions_of(manifests))
        keep_compiled()
        settings = make_settings(options, config, sampling, manifests)
        journal = stack.enter_context(Journal(options.out, settings))
        results = run_models(
            *(models, scenes, config, sampling, networks, options.show, options.dtype),
            journal=journal,
        )
        names = [*(model.name for model in models), COPY]
        record = make_record(results, names, settings, options.seed)
        for path in write_results(options.out, results, record):
            print(f"wrote {path}")
        journal.remove()


if __name__ == "__main__":
    exit_on_user_error(main)
