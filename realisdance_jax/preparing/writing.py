"""Files of a prepared case: each appears whole or not at all."""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.data.images import save_png
from realisdance_jax.data.video_io import VideoWriter
from realisdance_jax.poses.body_models import BodyModel
from realisdance_jax.poses.changes import Change, as_record
from realisdance_jax.poses.dwpose_json import write_dwpose
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import BodyLook
from realisdance_jax.preparing.framing import Framing
from realisdance_jax.preparing.inputs import Clips
from realisdance_jax.preparing.painting import (
    Job,
    Pictures,
    body_pictures,
    hand_pictures,
    keypoint_pictures,
    warped_pictures,
)
from realisdance_jax.shapes import UInt8
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

KEYPOINT_FILE, DRAWN_FILE = "dwpose.json", "dwpose_drawn.mp4"
PICTURE_FILE, REPAIR_FILE = "alignment.png", "repair.json"

_CRF = 8  # chroma subsampling blurs two-pixel lines enough already


class Models(NamedTuple):
    """Body and hand models, and the body's colours; None where not needed."""

    body: BodyModel | None
    hand: BodyModel | None
    colours: UInt8[np.ndarray, "v 3"] | None


def check_names(out: Path, report: Path | None) -> None:
    """Raise `UserError` for outputs that cannot be what they are to be."""
    if report is not None and report.suffix.lower() != ".html":
        raise UserError(f"{report}: expected a name ending in .html")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: expected a folder to write to, found a file")


def check_target(options: Namespace, present: Sequence[str]) -> None:
    """Raise `UserError` where this case would mix with other files or overwrite its own inputs.

    A condition left over from elsewhere would be taken for one of this case.
    """
    out, ready = options.out, {name for name, _ in options.warp}
    drawn = {name for name in present if name == "dwpose" and name not in ready}
    ours = {KEYPOINT_FILE for _ in drawn} | {f"{name}.mp4" for name in {*present} - drawn}
    given = {path.resolve() for path in _inputs(options)}
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        if path.resolve() in given and path.name in ours:
            raise UserError(f"{path}: expected a file to write, found an input")
        if path.stem in CONDITIONS and path.name not in ours:
            raise UserError(
                f"{path}: expected no condition but those written now, found one: remove it, or "
                "choose another --out"
            )


def _inputs(options: Namespace) -> list[Path]:
    named = ("dwpose", "openpose", "musepose", "body", "hands", "ref_dwpose", "ref")
    paths = [getattr(options, name) for name in named]
    return [path for path in paths if path is not None] + [path for _, path in options.warp]


def write_conditions(
    out: Path,
    clips: Clips,
    models: Models,
    camera: Camera,
    framing: Framing,
    job: Job,
    look: BodyLook,
) -> list[Path]:
    """`dwpose.json`, `hamer.mp4`, `smpl.mp4`, as far as there is something to paint.

    Args:
        clips, camera: on the canvas, from `move_clips`.
        framing: for ready-made videos.
    """
    paths = []
    if clips.keypoints is not None:
        paths.append(out / KEYPOINT_FILE)
        write_dwpose(paths[-1], clips.keypoints)
    streams: dict[str, Pictures] = {
        name: warped_pictures(video, framing.similarity, clips.frames, job)
        for name, video in clips.videos.items()
    }
    if clips.hands is not None and models.hand is not None:
        streams["hamer"] = hand_pictures(models.hand, clips.hands, camera, job)
    if clips.body is not None and models.body is not None and models.colours is not None:
        streams["smpl"] = body_pictures(models.body, clips.body, models.colours, look, job)
    for name, pictures in streams.items():
        paths.append(out / f"{name}.mp4")
        tags = {"realisdance_look": look} if name == "smpl" and clips.body is not None else {}
        _write_video(paths[-1], pictures, clips.fps, job, tags)
    return paths


def write_extras(
    options: Namespace,
    clips: Clips,
    job: Job,
    changes: list[Change],
    picture: UInt8[np.ndarray, "H W 3"] | None,
) -> list[Path]:
    """The drawn keypoints, the picture of the alignment and the record of repairs."""
    paths = []
    if options.draw and clips.keypoints is not None:
        paths.append(options.out / DRAWN_FILE)
        _write_video(paths[-1], keypoint_pictures(clips.keypoints, job), clips.fps, job, {})
    if picture is not None:
        paths.append(options.out / PICTURE_FILE)
        save_png(paths[-1], picture)
    if options.repair or options.smooth is not None:
        record = {"repair": options.repair, "smooth": options.smooth, **as_record(changes)}
        paths.append(options.out / REPAIR_FILE)
        with atomic_output(paths[-1]) as partial:
            partial.write_text(json.dumps(record, indent=1) + "\n", "ascii")
    return paths


def _write_video(
    path: Path, pictures: Pictures, fps: float, job: Job, tags: dict[str, str]
) -> None:
    with VideoWriter(path, fps, job.canvas, tags, crf=_CRF) as writer:
        for picture in pictures:
            writer.write(picture)
