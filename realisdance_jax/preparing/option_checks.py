"""What the options of `prepare poses` tell to be wrong, before anything runs for an hour."""

import os
from argparse import Namespace
from pathlib import Path

from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.data.images import read_image
from realisdance_jax.poses import gl
from realisdance_jax.preparing.framing import Mode, check_canvas
from realisdance_jax.preparing.inputs import check_rate
from realisdance_jax.preparing.plugins import command_of, command_words
from realisdance_jax.preparing.pose_options import KEYPOINTS
from realisdance_jax.preparing.writing import REFERENCE_FILE, case_files, files_of, takes_reference
from realisdance_jax.utils.errors import UserError

_TOGETHER = (("body", "body_model"), ("hands", "mano"), ("dwpose_detector", "dwpose_pose"))

_VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")


def check_options(options: Namespace) -> None:
    """Raise `UserError` for options that do not go together or with what is in `options.out`."""
    for one, other in _TOGETHER:
        if (getattr(options, one) is None) != (getattr(options, other) is None):
            raise UserError(f"expected {_option(one)} and {_option(other)} together")
    if options.dwpose_detector is not None and options.video is None and options.ref is None:
        raise UserError("--dwpose-detector: expected --video or --ref to look at, found neither")
    for name in ("body", "hands"):
        command = command_of(getattr(options, name) or "")
        if command is not None:
            command_words(command, options.video, options.out)
    if options.canvas is not None:
        check_canvas(options.canvas)
    if options.fps is not None:
        check_rate(options.fps)
    if options.renderer == "gl":
        gl.check_driver()
    _check_sources(options)
    _check_alignment(options)
    if options.ref is not None:
        read_image(options.ref)
    _check_target(options)


def mode_of(options: Namespace) -> Mode:
    """How to align: as asked, else by similarity if keypoints of a reference are given or found.

    Raises `UserError` where keypoints of a reference are wanted and there are none.
    """
    if options.ref_dwpose is not None or finds_reference(options):
        return options.align or "similarity"
    if options.align in ("similarity", "limbs") or (options.ref and not options.align):
        hint = "or --dwpose-detector, or --align none"
        raise UserError(f"expected --ref-dwpose to align to, found none; {hint}")
    return "none"


def finds_reference(options: Namespace) -> bool:
    """Whether DWPose is to find the keypoints of the reference picture."""
    wanted = options.ref is not None and options.ref_dwpose is None and options.align != "none"
    return wanted and options.dwpose_detector is not None


def finds_keypoints(options: Namespace) -> bool:
    """Whether DWPose is to find the keypoints of the film."""
    given = any(getattr(options, kind) is not None for kind in KEYPOINTS)
    return options.dwpose_detector is not None and options.video is not None and not given


def drawn_conditions(options: Namespace) -> set[str]:
    """Conditions that will be painted from clips, given or found."""
    given = any(getattr(options, kind) is not None for kind in KEYPOINTS)
    there = {
        "dwpose": given or finds_keypoints(options),
        "hamer": options.hands is not None,
        "smpl": options.body is not None,
    }
    return {name for name, is_there in there.items() if is_there}


def outputs(options: Namespace) -> set[str]:
    """Names in `options.out` that this run writes or, left by an earlier one, removes."""
    names = case_files(*_conditions(options))
    return names | {REFERENCE_FILE} if takes_reference(options) else names


def _conditions(options: Namespace) -> tuple[set[str], set[str]]:
    """Those that will be painted and those that come as videos."""
    return drawn_conditions(options), {name for name, _ in options.warp}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_sources(options: Namespace) -> None:
    ready = dict(options.warp)
    if len(ready) < len(options.warp):
        raise UserError("--warp: expected one video per condition, found more")
    if options.dwpose is not None and options.dwpose.suffix.lower() in _VIDEO_SUFFIXES:
        hint = "--warp dwpose=VIDEO takes one of drawn poses"
        raise UserError(f"{options.dwpose}: expected keypoints, found a video; {hint}")
    if clash := sorted(drawn_conditions(options) & set(ready)):
        raise UserError(f"{ready[clash[0]]}: expected one source of {clash[0]}, found two")


def _check_alignment(options: Namespace) -> None:
    mode, drawn = mode_of(options), drawn_conditions(options)
    if mode == "limbs" and "dwpose" not in drawn:
        raise UserError("--align limbs: expected keypoints of driver and reference, found none")
    if mode != "none" and not drawn & {"dwpose", "smpl"}:
        raise UserError("expected keypoints or --body to align by, found neither; or --align none")
    if options.ref_body is not None and (mode != "limbs" or options.body is None):
        raise UserError("--ref-body: expected --align limbs and --body with it")


def _check_target(options: Namespace) -> None:
    """Nothing of the user's is to be overwritten, and no condition from elsewhere to be mixed in.

    One that is left over would be taken for one of this case.
    """
    out, report = options.out, options.report
    if report is not None and report.suffix.lower() != ".html":
        raise UserError(f"{report}: expected a name ending in .html")
    if os.path.lexists(out) and not os.path.isdir(out):
        raise UserError(f"{out}: expected a folder to write to, found a file")
    inputs = {path.resolve() for path in _inputs(options)}
    if out.resolve() in inputs:
        raise UserError(f"{out}: expected a folder to write, found an input")
    conditions, written = files_of(*_conditions(options)), outputs(options)
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        if path.name in written and path.resolve() in inputs:
            raise UserError(f"{path}: expected a file to write or remove, found an input")
        if path.name in written and path.is_dir():
            raise UserError(f"{path}: expected a file to write, found a folder")
        if path.stem in CONDITIONS and path.name not in conditions:
            raise UserError(
                f"{path}: expected no condition but those written now, found one: remove it, or "
                "choose another --out"
            )
        if takes_reference(options) and path.stem == "ref" and path.name != REFERENCE_FILE:
            raise UserError(
                f"{path}: expected no picture but --ref, which is copied, found one: remove it, or "
                "choose another --out"
            )


def _inputs(options: Namespace) -> list[Path]:
    named = [value for name, value in vars(options).items() if name not in ("out", "report")]
    given = [*named, *(path for _, path in options.warp)]
    return [path for path in given if isinstance(path, Path)]
