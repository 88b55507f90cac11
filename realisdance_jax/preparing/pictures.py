"""What alignment did, in one picture."""

import numpy as np

from realisdance_jax.data.images import hstack_panels
from realisdance_jax.poses.align import keypoint_torso, move_keypoints, typical_frame, whole_frame
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.warp import warp_picture
from realisdance_jax.preparing.framing import Framing
from realisdance_jax.preparing.inputs import Clips
from realisdance_jax.shapes import UInt8


def before_and_after(
    clips: Clips, moved: Clips, framing: Framing
) -> UInt8[np.ndarray, "H W 3"] | None:
    """The reference under its own pose (dim) and the driver's: as it came, and as it goes out.

    The driver is shown in the frame that stands where it is taken to stand (`typical_frame`).
    None without a reference or a frame with a person in it.
    """
    reference, canvas = framing.reference, framing.canvas
    keypoints = clips.keypoints
    if reference is None or keypoints is None or moved.keypoints is None:
        return None
    if not keypoints.body_ok.any():
        return None
    frame = typical_frame(keypoint_torso(keypoints, clips.size))
    if frame is None:
        frame = int(np.flatnonzero(keypoints.body_ok.any(axis=(1, 2)))[0])
    fit = whole_frame(reference.size, canvas)
    ground = np.zeros((*canvas, 3), np.uint8)
    if reference.picture is not None:
        own = whole_frame(reference.picture.shape[:2], canvas)
        ground = warp_picture(reference.picture, own, canvas) // 2
    theirs = draw_dwpose(move_keypoints(reference.keypoints, fit, reference.size, canvas), 0)
    ground = np.maximum(ground, theirs // 3)
    as_it_came = whole_frame(clips.size, canvas)
    before = draw_dwpose(move_keypoints(keypoints, as_it_came, clips.size, canvas), frame)
    after = draw_dwpose(moved.keypoints, frame)
    shown = [np.where(pose.any(axis=-1, keepdims=True), pose, ground) for pose in (before, after)]
    return hstack_panels(shown, [f"before ({frame})", f"after ({frame})"])
