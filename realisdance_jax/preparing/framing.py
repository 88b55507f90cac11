"""Where on which canvas the driver goes: measured on the reference, or the frame as it is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from realisdance_jax.data.images import read_image
from realisdance_jax.data.transforms import Cut
from realisdance_jax.poses.align import (
    LARGEST_RATIO,
    Similarity,
    Torso,
    body_torso,
    compared,
    keypoint_torso,
    match_torsos,
    move_body,
    move_camera,
    move_keypoints,
    too_different,
    whole_frame,
)
from realisdance_jax.poses.body_models import BodyModel
from realisdance_jax.poses.clips import BodyClip, KeypointClip
from realisdance_jax.poses.dwpose_people import one_person
from realisdance_jax.poses.hamer_look import full_frame_camera
from realisdance_jax.poses.limbs import follow_wrists, limb_ratios, retarget
from realisdance_jax.poses.raster import Camera
from realisdance_jax.preparing.inputs import Clips, Size, read_body, read_keypoints
from realisdance_jax.preparing.painting import body_joints
from realisdance_jax.shapes import Float, UInt8
from realisdance_jax.utils.errors import UserError

Mode = Literal["similarity", "limbs", "none"]

LARGEST_SIDE = 8192
"""Of conditions, in pixels."""

_SEEN_FRAMES = 64  # of a body, skinned to find its torso
_MODEL_PICTURE = (768, 576)  # what the model was trained on; only its shape counts here


@dataclass(frozen=True, eq=False)
class Reference:
    """Keypoints of the reference picture (frame 0, slot 0), its size, and the picture.

    shape: coefficients of its body, for the driver's.
    """

    keypoints: KeypointClip
    size: Size
    picture: UInt8[np.ndarray, "H W 3"] | None = None
    shape: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True, eq=False)
class Framing:
    """From pixels of the driver to pixels of the canvas; `limbs` are ratios beyond it.

    ratio: torso of the reference over that of the driver, in what the model sees of both.
    aligned: whether `similarity` was measured on the reference.
    """

    canvas: Size
    similarity: Similarity
    reference: Reference | None = None
    ratio: float | None = None
    limbs: dict[str, float] | None = None
    aligned: bool = False


def open_reference(keypoints: KeypointClip, picture: Path | None, where: Path) -> Reference:
    """The reference from its keypoints and, for its size and the looks of it, the picture.

    Of several people the largest counts.
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
    keypoints = one_person(keypoints, "largest")
    if not keypoints.persons or not keypoints.body_ok[0].any():
        raise UserError(f"{where}: expected a person in frame 0, found none")
    return Reference(keypoints, size, pixels)


def reference_notes(reference: Reference) -> list[str]:
    """What the user should know about its keypoints."""
    frames = reference.keypoints.frames
    return [f"frame 0 of {frames} is used"] if frames > 1 else []


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
        chosen = check_canvas(canvas or _even(clips.size))
        framing = Framing(chosen, _place(clips.size, chosen, canvas is None), reference)
        return replace(framing, ratio=_ratio(clips, model, reference))
    chosen = check_canvas(canvas or _like(reference.size, clips.size))
    to_reference = match_torsos(_torso(clips, model), _reference_torso(reference))
    similarity = to_reference.then(whole_frame(reference.size, chosen))
    ratio = to_reference.scale * _zoom(reference.size, clips.size)
    limbs = None
    if mode == "limbs":
        assert keypoints is not None
        sizes = clips.size, reference.size
        limbs = limb_ratios(keypoints, reference.keypoints, sizes, to_reference.scale)
    return Framing(chosen, similarity, reference, ratio, limbs, aligned=True)


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
    return found.scale * _zoom(reference.size, clips.size)


def _zoom(size: Size, other: Size) -> float:
    """How much more frames of `size` are enlarged than `other` ones until the model sees them."""
    return Cut(size, _MODEL_PICTURE).zoom / Cut(other, _MODEL_PICTURE).zoom


def _reference_torso(reference: Reference) -> Torso:
    return keypoint_torso(reference.keypoints, reference.size)


def _torso(clips: Clips, model: BodyModel | None) -> Torso:
    """Of the keypoints, else of the body."""
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


def check_canvas(canvas: Size) -> Size:
    """The size of conditions, if a video can have it; `UserError` otherwise."""
    height, width = canvas
    if height % 2 or width % 2 or max(canvas) > LARGEST_SIDE:
        raise UserError(
            f"canvas: expected even sides up to {LARGEST_SIDE}, found {height}x{width}; --canvas "
            "HxW sets it"
        )
    return canvas


def _like(shape: Size, scale: Size) -> Size:
    height, width = (max(2, 2 * round(side * _zoom(shape, scale) / 2)) for side in shape)
    return height, width


def framing_notes(clips: Clips, framing: Framing, reshaped: bool) -> list[str]:
    """What the user should know about where the driver goes.

    reshaped: the body has the reference's shape coefficients.
    """
    lines = []
    if framing.aligned:
        (x, y), (height, width) = framing.similarity.shift, framing.canvas
        scale = f"scale {framing.similarity.scale:.3f}, shift {x:.1f}, {y:.1f} pixels"
        lines.append(f"aligned: {scale}, on a canvas of {height}x{width}")
    if framing.ratio is not None and too_different(framing.ratio):
        more = f"more than {LARGEST_RATIO:g} times in the model's picture"
        lines.append(f"warning: {compared(framing.ratio)}, {more}: expect worse faces and hands")
    if framing.limbs is None:
        return lines
    left = "moved and scaled as a whole, out of register with the limbs of dwpose"
    if clips.body is not None and not reshaped:
        lines.append(f"warning: smpl: --align limbs cannot bend a body: {left}; give --ref-body")
    for name in clips.videos:
        lines.append(f"warning: {name}: --align limbs cannot follow in a ready-made video: {left}")
    return lines


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


def read_shape(path: Path) -> Float[np.ndarray, " n"]:
    """Median shape coefficients of a file of bodies."""
    clip = read_body(path)
    if not clip.present.any():
        raise UserError(f"{path}: expected a body, found none")
    return np.median(clip.betas[clip.present], axis=0)


def with_shape(body: BodyClip, shape: Float[np.ndarray, " n"]) -> BodyClip:
    """The body with these shape coefficients, wherever there is one."""
    here = body.present[:, None]
    return replace(body, betas=np.where(here, shape, 0.0).astype(body.betas.dtype))
