"""Estimators' files to the three conditions: `python -m realisdance_jax.prepare poses ...`."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.poses.body_models import read_mano, read_smplx
from realisdance_jax.poses.changes import Change
from realisdance_jax.poses.draw_dwpose import drawn_frames
from realisdance_jax.poses.landmarks import landmark_vertices
from realisdance_jax.poses.repair import mend, smooth
from realisdance_jax.poses.smpl_cs import harmonic_colours, read_vertex_colours
from realisdance_jax.preparing.driver import open_driver, open_film
from realisdance_jax.preparing.estimators import Networks, open_networks, reference_keypoints
from realisdance_jax.preparing.framing import (
    Mode,
    Reference,
    find_framing,
    framing_notes,
    move_clips,
    read_reference,
    read_shape,
    reference_notes,
    with_shape,
)
from realisdance_jax.preparing.inputs import Clips
from realisdance_jax.preparing.option_checks import check_options, mode_of, outputs
from realisdance_jax.preparing.painting import Job
from realisdance_jax.preparing.pictures import before_and_after
from realisdance_jax.preparing.pose_options import add_options
from realisdance_jax.preparing.summary import write_report
from realisdance_jax.preparing.writing import Models, open_case, write_conditions, write_extras
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


def open_target(
    options: Namespace, networks: Networks | None, say: Say
) -> tuple[Reference | None, Mode]:
    """The reference, if any, and how to align to it."""
    mode, path = mode_of(options), reference_keypoints(options, networks)
    if path is None:
        say("no --ref-dwpose: the driver's framing is kept")
        return None, mode
    reference = read_reference(path, options.ref)
    for line in reference_notes(reference):
        say(f"{path}: {line}")
    if options.ref_body is not None:
        reference = replace(reference, shape=read_shape(options.ref_body))
    return reference, mode


def open_models(options: Namespace, say: Say) -> Models:
    """Body and hand models, and the colours of the body."""
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
    check_options(options)
    models, networks = open_models(options, notes.say), open_networks(options)
    film = open_film(options)
    reference, mode = open_target(options, networks, notes.say)
    raw = open_driver(options, networks, film, notes.say)
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
    shape = None if reference is None else reference.shape
    if shape is not None and clips.body is not None:
        clips = replace(clips, body=with_shape(clips.body, shape))
    if options.renderer == "gl" and clips.body is None and clips.hands is None:
        notes.say("--renderer gl: not used, neither body nor hands are painted")
    framing = find_framing(clips, models.body, reference, mode, options.canvas)
    for line in framing_notes(clips, framing, shape is not None):
        notes.say(line)
    moved, camera = move_clips(clips, framing)
    picture = before_and_after(clips, moved, framing)
    for line in _absences(moved):
        notes.say(line)
    job = Job(framing.canvas, options.renderer, options.workers)
    with open_case(options.out, outputs(options), options.report) as (folder, page):
        names = write_conditions(folder, moved, models, camera, framing, job, options.look)
        names += write_extras(folder, options, moved, job, changes, picture)
        if page is not None:
            write_report(page, raw, clips, framing, changes, notes.lines, picture)
    for path in [*(options.out / name for name in names), *filter(None, [options.report])]:
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
        found["dwpose"] = drawn_frames(clips.keypoints)
        hands = int((found["dwpose"] & ~clips.keypoints.body_ok.any(axis=(1, 2))).sum())
        if hands:
            told = f"{hands} of {clips.frames} frames show no body, hands are still drawn"
            lines.append(f"dwpose: {told}")
    if clips.hands is not None:
        found["hamer"] = clips.hands.present.any(axis=1)
    if clips.body is not None:
        found["smpl"] = clips.body.present
    for name, here in found.items():
        if not here.all():
            lines.append(f"{name}: {int((~here).sum())} of {len(here)} frames are empty: black")
    return lines
