"""Clips on the canvas to pictures, frame by frame: skinned here, painted by several processes."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from realisdance_jax.data.video_io import read_frames
from realisdance_jax.poses import gl, surface
from realisdance_jax.poses.align import Similarity
from realisdance_jax.poses.body_models import SMPLX_PARTS, BodyModel, smplx_pose
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.frame_pool import paint_frames
from realisdance_jax.poses.hamer_look import close_wrist, paint_hands
from realisdance_jax.poses.lbs import make_skin, skin_frames
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import BodyLook, paint_smpl_cs
from realisdance_jax.poses.warp import warp_picture
from realisdance_jax.shapes import Float, Int, UInt8
from realisdance_jax.utils.errors import UserError

Size = tuple[int, int]
Renderer = Literal["numpy", "gl"]
Pictures = Iterator[UInt8[np.ndarray, "H W 3"]]

_FILLS: dict[Renderer, surface.Fill] = {"numpy": surface.fill, "gl": gl.fill}
_BATCH = 64
_WORTH_A_PROCESS = 48  # frames: starting one takes about as long as painting these


class Job(NamedTuple):
    """How to paint: canvas (height, width), renderer, processes (None: as many as pay)."""

    canvas: Size
    renderer: Renderer = "numpy"
    workers: int | None = None


class BodyFrame(NamedTuple):
    """One body before its camera; None where there is nobody."""

    vertices: Float[np.ndarray, "v 3"] | None
    camera: Camera | None


class HandFrame(NamedTuple):
    """The hands of one frame, in camera axes."""

    vertices: Float[np.ndarray, "n v 3"]
    right: np.ndarray


def _painted(paint, frames, count: int, label: str, job: Job) -> Pictures:
    paying = min(os.cpu_count() or 1, count // _WORTH_A_PROCESS)
    processes = max(1, paying if job.workers is None else job.workers)
    return paint_frames(paint, frames, processes, label, count)


def body_pictures(
    model: BodyModel, clip: BodyClip, colours: UInt8[np.ndarray, "v 3"], look: BodyLook, job: Job
) -> Pictures:
    """The SMPL-CS condition; frames without a body are black."""
    paint = partial(
        _paint_body,
        faces=model.faces,
        colours=colours,
        size=job.canvas,
        look=look,
        renderer=job.renderer,
    )
    return _painted(paint, _body_frames(model, clip), clip.frames, "smpl", job)


def _paint_body(
    frame: BodyFrame,
    faces: Int[np.ndarray, "n 3"],
    colours: np.ndarray,
    size: Size,
    look: BodyLook,
    renderer: Renderer,
) -> UInt8[np.ndarray, "H W 3"]:
    if frame.vertices is None or frame.camera is None:
        return np.zeros((*size, 3), np.uint8)
    fill = _FILLS[renderer]
    return paint_smpl_cs(frame.vertices, faces, colours, frame.camera, size, look, fill)


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
        _paint_hands,
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


def _paint_hands(
    frame: HandFrame, faces: np.ndarray, camera: Camera, size: Size, renderer: Renderer
) -> UInt8[np.ndarray, "H W 3"]:
    return paint_hands(frame.vertices, frame.right, faces, camera, size, _FILLS[renderer])


def keypoint_pictures(clip: KeypointClip, job: Job) -> Pictures:
    """The DWPose condition as sampling draws it."""
    return paint_frames(
        partial(draw_dwpose, clip, size=job.canvas), range(clip.frames), 1, "dwpose", clip.frames
    )


def warped_pictures(video: Path, similarity: Similarity, frames: int, job: Job) -> Pictures:
    """A ready-made condition video, moved."""
    paint = partial(warp_picture, similarity=similarity, canvas=job.canvas)
    return paint_frames(paint, read_frames(video, range(frames)), 1, video.name, frames)
