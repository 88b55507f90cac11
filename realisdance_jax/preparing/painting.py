"""Clips on the canvas to pictures, frame by frame: skinned here, painted by several processes."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from realisdance_jax.data.video_io import read_frames
from realisdance_jax.poses.align import Similarity
from realisdance_jax.poses.body_models import SMPLX_PARTS, BodyModel, smplx_pose
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.frame_pool import paint_frames
from realisdance_jax.poses.hamer_look import close_wrist
from realisdance_jax.poses.lbs import make_skin, skin_frames
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import BodyLook
from realisdance_jax.poses.warp import warp_picture
from realisdance_jax.preparing.painters import (
    BodyFrame,
    HandFrame,
    Renderer,
    Size,
    paint_body_frame,
    paint_hand_frame,
)
from realisdance_jax.shapes import Float, Int, UInt8
from realisdance_jax.utils.errors import UserError

Pictures = Iterator[UInt8[np.ndarray, "H W 3"]]

_BATCH = 64
_WORTH_A_PROCESS = 192  # frames: starting takes up to a second, these 1.2 or more


class Job(NamedTuple):
    """How to paint: canvas (height, width), renderer, processes (None: as many as pay)."""

    canvas: Size
    renderer: Renderer = "numpy"
    workers: int | None = None


def _painted(paint, frames, count: int, label: str, job: Job) -> Pictures:
    processes = paying_processes(count) if job.workers is None else job.workers
    return paint_frames(paint, frames, processes, label, count)


def paying_processes(frames: int) -> int:
    """How many processes to paint with, so that it does not take longer than in this one alone.

    One core is busy here, with skinning and the encoder: two cores are better off without.
    """
    spare = len(os.sched_getaffinity(0)) - 1
    return max(1, min(spare, frames // _WORTH_A_PROCESS))


def body_pictures(
    model: BodyModel, clip: BodyClip, colours: UInt8[np.ndarray, "v 3"], look: BodyLook, job: Job
) -> Pictures:
    """The SMPL-CS condition; frames without a body are black."""
    paint = partial(
        paint_body_frame,
        faces=model.faces,
        colours=colours,
        size=job.canvas,
        look=look,
        renderer=job.renderer,
    )
    return _painted(paint, _body_frames(model, clip), clip.frames, "smpl", job)


def _body_frames(model: BodyModel, clip: BodyClip) -> Iterator[BodyFrame]:
    vertices = (vertices for vertices, _ in _skinned(model, clip, np.flatnonzero(clip.present)))
    for frame in range(clip.frames):
        if clip.present[frame]:
            (fx, fy), (cx, cy) = clip.focal[frame].tolist(), clip.princpt[frame].tolist()
            yield BodyFrame(next(vertices), Camera((fx, fy), (cx, cy)))
        else:
            yield BodyFrame(None, None)


def body_joints(
    model: BodyModel, clip: BodyClip, frames: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k 55 3"]:
    """Joints in camera axes, metres, of some frames."""
    joints = [joints for _, joints in _skinned(model, clip, frames)]
    return np.stack(joints) if joints else np.zeros((0, len(model.parents), 3), np.float32)


def _skinned(
    model: BodyModel, clip: BodyClip, frames: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Vertices and joints of `frames`, batch by batch."""
    parts = {name: getattr(clip, name)[frames] for name in SMPLX_PARTS}
    pose = smplx_pose(model, parts, clip.add_hands_mean)
    shape = np.zeros((len(frames), 0))
    counts = min(10, model.shape.shape[2]), min(10, model.expression.shape[2])
    shape = np.concatenate(
        [clip.betas[frames, : counts[0]], clip.expression[frames, : counts[1]]], axis=1
    )
    skin = make_skin(model)
    return skin_frames(skin, shape, pose, clip.transl[frames], min(_BATCH, max(len(frames), 1)))


def hand_pictures(model: BodyModel, clip: HandClip, camera: Camera, job: Job) -> Pictures:
    """The HaMeR condition; frames without a hand are black.

    Raises `UserError` when the clip's hands are not of this model.
    """
    if clip.vertices.shape[2] != len(model.template):
        raise UserError(
            f"--mano: expected a hand of {clip.vertices.shape[2]} vertices as --hands has, found "
            f"{len(model.template)}"
        )
    paint = partial(
        paint_hand_frame,
        faces=close_wrist(model.faces),
        camera=camera,
        size=job.canvas,
        renderer=job.renderer,
    )
    return _painted(paint, _hand_frames(clip), clip.frames, "hamer", job)


def _hand_frames(clip: HandClip) -> Iterator[HandFrame]:
    for frame in range(clip.frames):
        here = clip.present[frame]
        vertices = clip.vertices[frame, here] + clip.translation[frame, here, None]
        yield HandFrame(vertices.astype(np.float64), clip.right[frame, here])


def keypoint_pictures(clip: KeypointClip, job: Job) -> Pictures:
    """The DWPose condition as sampling draws it."""
    return paint_frames(
        partial(draw_dwpose, clip, size=job.canvas), range(clip.frames), 1, "dwpose", clip.frames
    )


def warped_pictures(video: Path, similarity: Similarity, frames: int, job: Job) -> Pictures:
    """A ready-made condition video, moved."""
    paint = partial(warp_picture, similarity=similarity, canvas=job.canvas)
    return paint_frames(paint, read_frames(video, range(frames)), 1, video.name, frames)
