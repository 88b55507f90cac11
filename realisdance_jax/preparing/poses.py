"""Estimators' files to the three conditions: `python -m realisdance_jax.prepare poses ...`."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.poses.align import ratio_warning
from realisdance_jax.poses.body_models import read_mano, read_smplx
from realisdance_jax.poses.changes import Change
from realisdance_jax.poses.landmarks import landmark_vertices
from realisdance_jax.poses.repair import mend, smooth
from realisdance_jax.poses.smpl_cs import harmonic_colours, read_vertex_colours
from realisdance_jax.preparing.estimators import run_estimators
from realisdance_jax.preparing.framing import (
    Mode,
    Reference,
    find_framing,
    move_clips,
    read_reference,
    with_shape_of,
)
from realisdance_jax.preparing.inputs import (
    Clips,
    join_clips,
    read_body,
    read_hands,
    read_keypoints,
)
from realisdance_jax.preparing.painting import Job
from realisdance_jax.preparing.pictures import before_and_after
from realisdance_jax.preparing.pose_options import KEYPOINTS, add_options
from realisdance_jax.preparing.summary import write_report
from realisdance_jax.preparing.writing import (
    Models,
    check_names,
    check_target,
    write_conditions,
    write_extras,
)
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.torchzip import torch_content

Say = Callable[[str], None]


def add_command(commands: Any) -> None:
    """The options, as a command of `commands` (from `add_subparsers`)."""
    about = "turn estimators' files into DWPose, HaMeR and SMPL-CS conditions"
    poses = commands.add_parser("poses", help=about, description=about)
    poses.set_defaults(run=run)
    add_options(poses)


@dataclass
class Notes:
    """Everything that was said, for the report."""

    lines: list[str]

    def say(self, line: str) -> None:
        """Print a line and keep it."""
        print(line)
        self.lines.append(line)


def open_driver(options: Namespace, say: Say) -> Clips:
    """The clips that the options name. Raises `UserError` for bad input."""
    run_estimators(options, say)
    size, fps = options.size, options.fps
    kind = next((kind for kind in KEYPOINTS if getattr(options, kind) is not None), None)
    keypoints = None
    if kind is not None:
        guessed = None if kind == "dwpose" else kind
        keypoints = read_keypoints(getattr(options, kind), size, fps, guessed)
    frames = keypoints.frames if keypoints is not None and not options.trim else None
    body = None if options.body is None else read_body(options.body, size, fps, frames)
    hands = None if options.hands is None else read_hands(options.hands, size, fps)
    videos = dict(options.warp)
    if len(videos) < len(options.warp):
        raise UserError("--warp: expected one video per condition, found more")
    return join_clips(keypoints, body, hands, videos, size, fps, options.trim, say)


def open_target(options: Namespace, say: Say) -> tuple[Reference | None, Mode]:
    """The reference, if any, and how to align to it."""
    if options.ref_dwpose is None:
        if (options.ref is not None and options.align is None) or options.align in (
            "similarity",
            "limbs",
        ):
            hint = "or --dwpose-detector, or --align none"
            raise UserError(f"expected --ref-dwpose to align to, found none; {hint}")
        say("no --ref-dwpose: the driver's framing is kept")
        return None, "none"
    return read_reference(options.ref_dwpose, options.ref), options.align or "similarity"


def open_models(options: Namespace, say: Say) -> Models:
    """Body and hand models, and the colours of the body."""
    for needs, what in (("body", "body_model"), ("hands", "mano")):
        if (getattr(options, needs) is None) != (getattr(options, what) is None):
            raise UserError(f"expected --{needs} and --{what.replace('_', '-')} together")
    hand = None if options.mano is None else read_mano(options.mano)
    if options.body_model is None:
        return Models(None, hand, None)
    body = read_smplx(options.body_model)
    count = len(body.template)
    if options.colours is not None:
        return Models(body, hand, read_vertex_colours(options.colours, count, torch_content))
    say("no --colours: colours close to the official ones, made from the mesh")
    return Models(body, hand, harmonic_colours(body.template, body.faces, landmark_vertices(count)))


def mended_clips(clips: Clips, repair: bool, cutoff: float | None) -> tuple[Clips, list[Change]]:
    """All clips repaired and smoothed, where asked for, and what that changed."""
    changes: list[Change] = []
    for name in ("keypoints", "body", "hands"):
        clip = getattr(clips, name)
        if clip is not None and repair:
            clip, found = mend(clip, clips.size)
            changes += found
        if clip is not None and cutoff is not None:
            clip, found = smooth(clip, clips.size, clips.fps, cutoff)
            changes += found
        clips = replace(clips, **{name: clip})
    return clips, changes


def run(options: Namespace) -> None:
    """Read, mend, align, paint, report; what can be refused early is, estimators may take long."""
    notes = Notes([])
    check_names(options.out, options.report)
    models = open_models(options, notes.say)
    raw = open_driver(options, notes.say)
    reference, mode = open_target(options, notes.say)
    check_target(options, raw.present)
    prepare_conditions(raw, models, reference, mode, options, notes)


def prepare_conditions(
    raw: Clips,
    models: Models,
    reference: Reference | None,
    mode: Mode,
    options: Namespace,
    notes: Notes,
) -> None:
    """From the clips of a driver, wherever they come from, to files in `options.out`."""
    clips, changes = mended_clips(raw, options.repair, options.smooth)
    if options.ref_body is not None:
        if mode != "limbs" or clips.body is None:
            raise UserError("--ref-body: expected --align limbs and --body with it")
        clips = replace(clips, body=with_shape_of(clips.body, options.ref_body))
    framing = find_framing(clips, models.body, reference, mode, options.canvas)
    if framing.ratio is not None and (warning := ratio_warning(framing.ratio)):
        notes.say(warning)
    moved, camera = move_clips(clips, framing)
    picture = before_and_after(clips, moved, framing)
    for line in _absences(moved):
        notes.say(line)
    job = Job(framing.canvas, options.renderer, options.workers)
    paths = write_conditions(options.out, moved, models, camera, framing, job, options.look)
    paths += write_extras(options, moved, job, changes, picture)
    if options.report is not None:
        write_report(options.report, raw, clips, framing, changes, notes.lines, picture)
        paths.append(options.report)
    for path in paths:
        print(f"wrote {path}")


def _absences(clips: Clips) -> list[str]:
    """What will be black."""
    lines = [
        f"{name}: not given: nothing is written, and sampling takes black frames"
        for name in CONDITIONS
        if name not in clips.present
    ]
    found = {}
    if clips.keypoints is not None:
        found["dwpose"] = clips.keypoints.body_ok.any(axis=(1, 2))
    if clips.hands is not None:
        found["hamer"] = clips.hands.present.any(axis=1)
    if clips.body is not None:
        found["smpl"] = clips.body.present
    for name, here in found.items():
        if not here.all():
            lines.append(f"{name}: {int((~here).sum())} of {len(here)} frames are empty: black")
    return lines
