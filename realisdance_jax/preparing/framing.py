"""Where on which canvas the driver goes: measured on the reference, or the frame as it is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from realisdance_jax.data.images import read_image
from realisdance_jax.data.transforms import crop_box
from realisdance_jax.poses.align import (
    Similarity,
    Torso,
    body_torso,
    keypoint_torso,
    largest_person,
    match_torsos,
    move_body,
    move_camera,
    move_keypoints,
    torso_ratio,
    whole_frame,
)
from realisdance_jax.poses.body_models import BodyModel
from realisdance_jax.poses.clips import BodyClip, KeypointClip
from realisdance_jax.poses.hamer_look import full_frame_camera
from realisdance_jax.poses.limbs import follow_wrists, limb_ratios, retarget
from realisdance_jax.poses.raster import Camera
from realisdance_jax.preparing.inputs import Clips, Size, read_body, read_keypoints
from realisdance_jax.preparing.painting import body_joints
from realisdance_jax.shapes import UInt8
from realisdance_jax.utils.errors import UserError

Mode = Literal["similarity", "limbs", "none"]

LARGEST_SIDE = 8192
"""Of conditions, in pixels."""

_SEEN_FRAMES = 64  # of a body, skinned to find its torso
_MODEL_RATIO = 3 / 4  # width to height of what the model was trained on


@dataclass(frozen=True, eq=False)
class Reference:
    """Keypoints of the reference picture (frame 0), its size, whom to follow, and the picture."""

    keypoints: KeypointClip
    size: Size
    person: int
    picture: UInt8[np.ndarray, "H W 3"] | None = None


@dataclass(frozen=True, eq=False)
class Framing:
    """From pixels of the driver to pixels of the canvas; `limbs` are ratios beyond it.

    ratio: torso of the reference over that of the driver, as shares of their frames.
    """

    canvas: Size
    similarity: Similarity
    reference: Reference | None = None
    ratio: float | None = None
    limbs: dict[str, float] | None = None


def open_reference(keypoints: KeypointClip, picture: Path | None, where: Path) -> Reference:
    """The reference from its keypoints and, for its size and the looks of it, the picture.

    Raises `UserError` for no person, no size, and a picture of another shape.
    """
    pixels = None if picture is None else read_image(picture)
    size = keypoints.size or (None if pixels is None else pixels.shape[:2])
    if size is None:
        raise UserError(f"{where}: expected H and W in it, or --ref PICTURE, found neither")
    if (
        pixels is not None
        and abs(pixels.shape[1] * size[0] / (pixels.shape[0] * size[1]) - 1) > 0.01
    ):
        shape = f"{pixels.shape[0]}x{pixels.shape[1]}"
        raise UserError(f"{picture}: expected the shape of {where} ({size}), found {shape}")
    if not keypoints.persons or not keypoints.body_ok[0].any():
        raise UserError(f"{where}: expected a person in frame 0, found none")
    return Reference(keypoints, size, largest_person(keypoints), pixels)


def read_reference(path: Path, picture: Path | None) -> Reference:
    """`open_reference` of a file of keypoints."""
    return open_reference(read_keypoints(path), picture, path)


def find_framing(
    clips: Clips,
    model: BodyModel | None,
    reference: Reference | None,
    mode: Mode,
    canvas: Size | None = None,
) -> Framing:
    """Choose canvas and similarity.

    The canvas has the shape of the reference, so that both are cropped alike later, and the scale
    at which the model's 3:4 picture is cut from it as from the driver: sticks and discs of drawn
    keypoints, fixed in pixels, keep their thickness.

    Args:
        clips: the driver. model: of its body, where that must stand in for keypoints.
        reference: None keeps the framing, as `none` does.
        canvas: height and width to use instead.
    """
    keypoints = clips.keypoints
    if mode == "limbs" and (keypoints is None or not keypoints.persons or reference is None):
        raise UserError("--align limbs: expected keypoints of driver and reference, found none")
    if reference is None or mode == "none":
        chosen = _checked(canvas or _even(clips.size))
        framing = Framing(chosen, _place(clips.size, chosen, canvas is None), reference)
        return replace(framing, ratio=_ratio(clips, model, reference))
    chosen = _checked(canvas or _like(reference.size, clips.size))
    to_reference = match_torsos(_torso(clips, model), _reference_torso(reference))
    similarity = to_reference.then(whole_frame(reference.size, chosen))
    ratio = torso_ratio(to_reference, clips.size, reference.size)
    limbs = None
    if mode == "limbs":
        assert keypoints is not None
        sizes, persons = (clips.size, reference.size), (0, reference.person)
        limbs = limb_ratios(keypoints, reference.keypoints, sizes, to_reference.scale, persons)
    return Framing(chosen, similarity, reference, ratio, limbs)


def _place(size: Size, canvas: Size, own: bool) -> Similarity:
    """Own canvases differ by a row or column at most: pixels stay where they are."""
    return Similarity() if own else whole_frame(size, canvas)


def _ratio(clips: Clips, model: BodyModel | None, reference: Reference | None) -> float | None:
    """As of the similarity that was not asked for; None where it cannot be found."""
    if reference is None:
        return None
    try:
        found = match_torsos(_torso(clips, model), _reference_torso(reference))
    except UserError:
        return None
    return torso_ratio(found, clips.size, reference.size)


def _reference_torso(reference: Reference) -> Torso:
    return keypoint_torso(reference.keypoints, reference.size, reference.person)


def _torso(clips: Clips, model: BodyModel | None) -> Torso:
    """Of person 0 of the keypoints, else of the body."""
    if clips.keypoints is not None and clips.keypoints.persons:
        return keypoint_torso(clips.keypoints, clips.size)
    if clips.body is None or model is None:
        raise UserError("expected keypoints or --body to align by, found neither; or --align none")
    seen = np.flatnonzero(clips.body.present)[:_SEEN_FRAMES]
    body = clips.body
    joints = body_joints(model, body, seen)
    return body_torso(joints, body.present[seen], body.focal[seen], body.princpt[seen])


def _even(size: Size) -> Size:
    """Videos have even sides: one more row or column, black."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def _checked(canvas: Size) -> Size:
    height, width = canvas
    if height % 2 or width % 2 or max(canvas) > LARGEST_SIDE:
        raise UserError(
            f"canvas: expected even sides up to {LARGEST_SIDE}, found {height}x{width}; --canvas "
            "HxW sets it"
        )
    return canvas


def _like(shape: Size, scale: Size) -> Size:
    zoom = crop_box(*scale, _MODEL_RATIO)[2] / crop_box(*shape, _MODEL_RATIO)[2]
    height, width = (max(2, 2 * round(side * zoom / 2)) for side in shape)
    return height, width


def move_clips(clips: Clips, framing: Framing) -> tuple[Clips, Camera]:
    """All clips on the canvas, and the camera of the hands there."""
    similarity, canvas = framing.similarity, framing.canvas
    camera = move_camera(hand_camera(clips), similarity)
    keypoints, hands, body = clips.keypoints, clips.hands, clips.body
    if keypoints is not None:
        before = move_keypoints(keypoints, similarity, clips.size, canvas)
        keypoints = before
        if framing.limbs is not None:
            keypoints = retarget(before, framing.limbs, canvas)
            if hands is not None and before.persons:
                grow = framing.limbs["hands"]
                hands = follow_wrists(hands, camera, before, keypoints, canvas, grow)
    if body is not None:
        body = move_body(body, similarity, canvas)
    return replace(clips, keypoints=keypoints, hands=hands, body=body, size=canvas), camera


def hand_camera(clips: Clips) -> Camera:
    """HaMeR's camera of the driver's frames."""
    focal = None if clips.hands is None else clips.hands.focal
    return full_frame_camera(clips.size, focal)


def with_shape_of(body: BodyClip, path: Path) -> BodyClip:
    """The body with the median shape coefficients of another file of bodies."""
    other = read_body(path)
    if not other.present.any():
        raise UserError(f"{path}: expected a body, found none")
    betas = np.median(other.betas[other.present], axis=0)
    here = body.present[:, None]
    return replace(body, betas=np.where(here, betas, 0.0).astype(body.betas.dtype))
