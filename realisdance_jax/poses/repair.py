"""Clips mended: leaps taken out, short gaps interpolated, trembling smoothed; all of it recorded.

Leaps are judged against the frames on either side (tracks.py); what is taken out becomes a gap.
Nothing is invented beyond gaps of `GAP` frames, and hidden points stay hidden.
"""

from realisdance_jax.poses.changes import Change, smoothed
from realisdance_jax.poses.clips import BodyClip, Clip, KeypointClip
from realisdance_jax.poses.faults import Faults
from realisdance_jax.poses.repair_body import body_faults, mend_body, smooth_body
from realisdance_jax.poses.repair_hands import by_side, hand_faults, mend_hands, smooth_hands
from realisdance_jax.poses.repair_keypoints import (
    keypoint_faults,
    mend_keypoints,
    smooth_keypoints,
)
from realisdance_jax.shapes import typechecked

GAP = 4
"""Gaps of at most so many frames are interpolated."""


@typechecked
def detect(clip: Clip, size: tuple[int, int]) -> list[Faults]:
    """What `mend` would look at, part by part; nothing is changed. size: height and width."""
    if isinstance(clip, KeypointClip):
        return keypoint_faults(clip, size)
    if isinstance(clip, BodyClip):
        return body_faults(clip, size)
    return hand_faults(by_side(clip), size)


@typechecked
def mend(clip: Clip, size: tuple[int, int], gap: int = GAP) -> tuple[Clip, list[Change]]:
    """Leaps out, gaps of at most `gap` frames filled. size: height and width of the frames."""
    if isinstance(clip, KeypointClip):
        return mend_keypoints(clip, size, gap)
    if isinstance(clip, BodyClip):
        return mend_body(clip, size, gap)
    return mend_hands(by_side(clip), size, gap)


@typechecked
def smooth(
    clip: Clip, size: tuple[int, int], fps: float, cutoff: float
) -> tuple[Clip, list[Change]]:
    """One-Euro smoothing: of points, of pose parameters as quaternions, of places in the picture.

    Args:
        size: height and width of the frames. fps: frames per second.
        cutoff: in Hz, of what is at rest; lower is smoother.
    """
    if isinstance(clip, KeypointClip):
        return smooth_keypoints(clip, size, fps, cutoff), smoothed("dwpose", clip.frames)
    if isinstance(clip, BodyClip):
        return smooth_body(clip, size, fps, cutoff), smoothed("smpl", clip.frames)
    return smooth_hands(by_side(clip), size, fps, cutoff), smoothed("hamer", clip.frames)
