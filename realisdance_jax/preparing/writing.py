"""Files of a prepared case: all of one run, or all as they were."""

import json
import shutil
from argparse import Namespace
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from realisdance_jax.data.images import read_image, save_png
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
from realisdance_jax.utils.files import atomic_files, atomic_output, existing_file

KEYPOINT_FILE, DRAWN_FILE = "dwpose.json", "dwpose_drawn.mp4"
PICTURE_FILE, REPAIR_FILE = "alignment.png", "repair.json"
REFERENCE_FILE = "ref.png"

_PNG = b"\x89PNG\r\n\x1a\n"
_CRF = 8  # chroma subsampling blurs two-pixel lines enough already


class Models(NamedTuple):
    """Body and hand models, and the body's colours; None where not needed."""

    body: BodyModel | None
    hand: BodyModel | None
    colours: UInt8[np.ndarray, "v 3"] | None


def files_of(drawn: Collection[str], ready: Collection[str]) -> set[str]:
    """Names of the files of conditions that are painted from clips or come as videos."""
    names = {KEYPOINT_FILE} if "dwpose" in drawn else set()
    return names | {f"{name}.mp4" for name in {*drawn, *ready} - ({"dwpose"} & {*drawn})}


def case_files(drawn: Collection[str], ready: Collection[str]) -> set[str]:
    """All names that a run may write; what an earlier one left under them gives way."""
    return files_of(drawn, ready) | {DRAWN_FILE, PICTURE_FILE, REPAIR_FILE}


def takes_reference(options: Namespace) -> bool:
    """Whether the case gets a copy of the picture `ref`; not if it is in `out` as `ref.*`."""
    if options.ref is None:
        return False
    there = options.ref.stem == "ref" and options.ref.parent.resolve() == options.out.resolve()
    return not there


def _copy_reference(source: Path, target: Path) -> None:
    """Byte by byte, with transparency and orientation, if it is PNG."""
    with open(existing_file(source, "a picture"), "rb") as file:
        is_png = file.read(len(_PNG)) == _PNG
    if is_png:
        shutil.copyfile(source, target)
    else:
        save_png(target, read_image(source))


@contextmanager
def open_case(
    out: Path, names: Collection[str], report: Path | None
) -> Iterator[tuple[Path, Path | None]]:
    """Yield a folder for the files of a case and a path for its report, until all are whole.

    Then the files replace those `names` that an earlier run left in `out`, as `atomic_files` does:
    the case is of one run, whatever ends this one. The report follows.
    """
    with ExitStack() as stack:
        page = None if report is None else stack.enter_context(atomic_output(report))
        yield stack.enter_context(atomic_files(out, names)), page


def write_conditions(
    folder: Path,
    clips: Clips,
    models: Models,
    camera: Camera,
    framing: Framing,
    job: Job,
    look: BodyLook,
) -> list[str]:
    """`dwpose.json`, `hamer.mp4`, `smpl.mp4`, as far as there is something to paint; their names.

    Args:
        clips, camera: on the canvas, from `move_clips`.
        framing: for ready-made videos.
    """
    streams: dict[str, Pictures] = {
        name: warped_pictures(video, framing.similarity, clips.frames, job)
        for name, video in clips.videos.items()
    }
    if clips.hands is not None and models.hand is not None:
        streams["hamer"] = hand_pictures(models.hand, clips.hands, camera, job)
    if clips.body is not None and models.body is not None and models.colours is not None:
        streams["smpl"] = body_pictures(models.body, clips.body, models.colours, look, job)
    names = []
    if clips.keypoints is not None:
        names.append(KEYPOINT_FILE)
        write_dwpose(folder / KEYPOINT_FILE, replace(clips.keypoints, fps=clips.fps))
    for name, pictures in streams.items():
        names.append(f"{name}.mp4")
        tags = {"realisdance_look": look} if name == "smpl" and clips.body is not None else {}
        _write_video(folder / names[-1], pictures, clips.fps, job, tags)
    return names


def write_extras(
    folder: Path,
    options: Namespace,
    clips: Clips,
    job: Job,
    changes: list[Change],
    picture: UInt8[np.ndarray, "H W 3"] | None,
) -> list[str]:
    """Drawn keypoints, picture of the alignment, reference, record of repairs; their names."""
    names = []
    if takes_reference(options):
        names.append(REFERENCE_FILE)
        _copy_reference(options.ref, folder / REFERENCE_FILE)
    if options.draw and clips.keypoints is not None:
        names.append(DRAWN_FILE)
        pictures = keypoint_pictures(clips.keypoints, job)
        _write_video(folder / DRAWN_FILE, pictures, clips.fps, job, {})
    if picture is not None:
        names.append(PICTURE_FILE)
        save_png(folder / PICTURE_FILE, picture)
    if options.repair or options.smooth is not None:
        names.append(REPAIR_FILE)
        record = {"repair": options.repair, "smooth": options.smooth, **as_record(changes)}
        (folder / REPAIR_FILE).write_text(json.dumps(record, indent=1) + "\n", "ascii")
    return names


def _write_video(
    path: Path, pictures: Pictures, fps: float, job: Job, tags: dict[str, str]
) -> None:
    with VideoWriter(path, fps, job.canvas, tags, crf=_CRF) as writer:
        for picture in pictures:
            writer.write(picture)
