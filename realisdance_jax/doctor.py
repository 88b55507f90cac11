"""Check a case before it is animated: `python -m realisdance_jax.doctor --weights DIR --ref ...`.

Takes the inputs of `sample`, or the folder of a case. One line per finding, worst first; exit code
1 if one is an error.
"""

import json
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import get_args

from realisdance_jax.checks.case import Case
from realisdance_jax.checks.doctor import examine
from realisdance_jax.checks.findings import summary
from realisdance_jax.checks.memory import GIB
from realisdance_jax.models.config import CONDITIONS
from realisdance_jax.poses.smpl_cs import BodyLook
from realisdance_jax.sampling.cases import KINDS, read_case
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.pipeline import DTYPES
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import UserError, exit_on_user_error
from realisdance_jax.utils.records import to_json

WHOLE = ("stride", "max_frames", "window_size", "window_overlap", "window_batch", "chunk")
"""Whole-number options of `sample` that matter here."""


def make_parser() -> Parser:
    """The command line; names as those of `sample`."""
    parser = Parser(prog="realisdance_jax.doctor", description=__doc__)
    files = parser.add_argument_group("files, all optional")
    folder = "folder of a case, as `sample --root` reads it, in place of single files"
    files.add_argument("case", type=Path, nargs="?", metavar="CASE", help=folder)
    files.add_argument("--weights", type=Path, help="folder written by convert")
    files.add_argument("--ref", type=Path, help="reference picture")
    files.add_argument("--ref-dwpose", type=Path, help="keypoints of the reference picture")
    files.add_argument("--dwpose", type=Path, help="keypoints (.pkl, .json, folder) or a video")
    files.add_argument("--hamer", type=Path, help="HaMeR video or folder of pictures")
    files.add_argument("--smpl", type=Path, help="SMPL-CS video or folder of pictures")
    files.add_argument("--audio", type=Path, help="film or sound file")
    options = parser.add_argument_group("options of sample that matter")
    options.add_argument("--size", default="768x576", metavar="HxW", help="multiples of 8")
    for name in WHOLE:
        default = getattr(SampleConfig(), name)
        options.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=default, help="frames"
        )
    options.add_argument("--fps", type=float, help="of the output")
    options.add_argument("--trim", action="store_true", help="cut drivers to the shortest")
    options.add_argument(
        "--dtype", choices=sorted(DTYPES), default="float32", help="of the networks"
    )
    how = parser.add_argument_group("how to check")
    looks = "body condition the weights were trained with"
    how.add_argument("--look", choices=get_args(BodyLook), default="sd", help=looks)
    memory = "GiB of the device that will run it (default: this one's)"
    how.add_argument("--memory", type=float, help=memory)
    verify = "read the weights whole and compare their hashes (minutes)"
    how.add_argument("--verify-weights", action="store_true", help=verify)
    how.add_argument("--json", action="store_true", help="print JSON instead of lines")
    return parser


def make_case(options: Namespace) -> Case:
    """The case of the command line. Raises `UserError` for an option out of range."""
    height, _, width = options.size.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UserError(f"size: expected HEIGHTxWIDTH such as 768x576, found {options.size!r}")
    if options.memory is not None and not 0 < options.memory < 1e6:
        raise UserError(f"memory: expected GiB, above 0, found {options.memory}")
    chosen = {field.name for field in fields(SampleConfig)} & set(vars(options)) - {"size"}
    config = {name: getattr(options, name) for name in chosen}
    reference, drivers = _inputs(options)
    return Case(
        weights=options.weights,
        reference=reference,
        drivers=drivers,
        reference_keypoints=options.ref_dwpose,
        audio=options.audio,
        config=SampleConfig(size=(int(height), int(width)), **config),
        trim=options.trim,
        dtype=options.dtype,
        look=options.look,
        memory=None if options.memory is None else int(options.memory * GIB),
        verify=options.verify_weights,
    )


def _inputs(options: Namespace) -> tuple[Path | None, dict[str, Path]]:
    """Picture and drivers, from the options or the folder of a case."""
    given = {name: getattr(options, name) for name in KINDS}
    if options.case is not None:
        if clash := [name for name, path in given.items() if path is not None]:
            raise UserError(f"{options.case}: expected a case without --{clash[0]}, found both")
        case = read_case(options.case)
        if case.problem:
            raise UserError(case.problem)
        given = {"ref": case.reference} | {name: getattr(case, name) for name in CONDITIONS}
    drivers = {name: given[name] for name in CONDITIONS if given[name] is not None}
    return given["ref"], drivers


def main() -> None:
    options = make_parser().parse_args()
    findings = examine(make_case(options))
    healthy = all(finding.severity != "error" for finding in findings)
    if options.json:
        print(json.dumps({"ok": healthy, "findings": [to_json(one) for one in findings]}, indent=1))
    else:
        for finding in findings:
            print(finding)
        print(summary(findings))
    if not healthy:
        sys.exit(1)


if __name__ == "__main__":
    exit_on_user_error(main)
