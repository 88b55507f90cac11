"""One pass over the frames that sampling uses: what each shows, and which show nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realisdance_jax.checks.case import Case, Driver
from realisdance_jax.checks.findings import Finding, error, numbered, warning
from realisdance_jax.checks.pictures import DARK, Facts, look_at, sticks_read_backwards
from realisdance_jax.data.video_io import read_frames
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.draw_dwpose import drawn_frames
from realisdance_jax.poses.repair import GAP
from realisdance_jax.poses.tracks import runs
from realisdance_jax.shapes import Bool, Float
from realisdance_jax.utils.errors import UserError

SOME_EMPTY, MOST_EMPTY = 0.1, 0.5
"""Shares of empty frames from which on there is a warning, and an error."""

LARGEST_SIDE = 640  # pixels looked at; colours stay as they are
_NEAR = 0.015  # of the height: a joint lies this far inside the drawn body or on its rim


@dataclass(frozen=True, eq=False)
class Seen:
    """One frame of one video. frame: its number in the driver.

    backwards: of a drawn DWPose picture, as `sticks_read_backwards`. joints: share of the visible
    DWPose joints that lie on something drawn; None where there are no keypoints.
    """

    frame: int
    facts: Facts
    backwards: float = 0.0
    joints: float | None = None


def look_through(case: Case, driver: Driver) -> tuple[dict[str, list[Seen]], list[Finding]]:
    """All used frames of all videos by condition, and what could not be decoded."""
    seen: dict[str, list[Seen]] = {}
    findings = []
    used = driver.used(case.config)
    for name in driver.videos:
        seen[name] = []
        try:
            frames = zip(used, read_frames(driver.paths[name], used), strict=True)
            seen[name] += (_look(name, number, frame, driver) for number, frame in frames)
        except UserError as problem:
            findings.append(error("files", f"--{name}", str(problem), "make the file again"))
    return seen, findings


def _look(name: str, number: int, picture: np.ndarray, driver: Driver) -> Seen:
    backwards = sticks_read_backwards(picture) if name == "dwpose" else 0.0
    step = -(-max(picture.shape[:2]) // LARGEST_SIDE)
    picture = np.ascontiguousarray(picture[::step, ::step])
    joints = None
    if name == "smpl" and driver.dancer is not None:
        joints = _joints_on(picture, main_body(driver.dancer, number))
    return Seen(number, look_at(picture), backwards, joints)


def main_body(clip: KeypointClip, frame: int) -> Float[np.ndarray, "n 2"]:
    """Visible joints of the person in slot 0 below the head, as fractions of the frame."""
    if not clip.persons or frame >= clip.frames:
        return np.zeros((0, 2))
    return clip.body[frame, 0, 1:14][clip.body_ok[frame, 0, 1:14]]


def _joints_on(picture: np.ndarray, joints: np.ndarray) -> float | None:
    height, width = picture.shape[:2]
    inside = joints[np.all((joints >= 0) & (joints < 1), axis=1)]
    if len(inside) < 4:
        return None
    reach = max(1, round(_NEAR * height))
    body = (picture.max(axis=-1) > DARK).astype(np.uint8)
    body = cv2.dilate(body, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    columns, rows = (inside * (width, height)).astype(int).T
    return float(body[rows, columns].mean())


def check_frames(case: Case, driver: Driver, seen: dict[str, list[Seen]]) -> Iterator[Finding]:
    """Empty pictures, and pictures that are no renderings."""
    for name, frames in seen.items():
        yield from _check_pictures(name, driver.paths[name], frames, case.config.stride)
        filled = [one.frame for one in frames if one.facts.filled]
        if filled:
            found = f"{numbered(filled)}: no black background, a photo in place of a rendering?"
            advice = "render the pose on black; a frame without a person must be black"
            yield error("background", driver.paths[name], found, advice)
    used = driver.used(case.config)
    if driver.keypoints is not None and used:
        yield from _check_keypoints(driver.paths["dwpose"], driver.keypoints, used)


def _check_pictures(name: str, path: Path, frames: list[Seen], stride: int) -> Iterator[Finding]:
    empty = [one.frame for one in frames if one.facts.empty]
    total, share = len(frames), len(empty) / max(len(frames), 1)
    found = f"{len(empty)} of {total} used frames are empty ({numbered(empty)})"
    if name == "hamer":  # hands are not always in sight
        if share == 1:
            advice = "check that hands were found; leave --hamer out if there are none"
            yield warning("empty", path, found, advice)
    else:
        here = np.array([not one.facts.empty for one in frames], bool)
        yield from _judge(path, share, found, _mendable(here, stride))


def _check_keypoints(path: Path, clip: KeypointClip, used: tuple[int, ...]) -> Iterator[Finding]:
    """Frames without a body; hands that are left there are drawn all the same."""
    here, drawn = np.any(clip.body_ok, axis=(1, 2)), drawn_frames(clip)
    lost = [frame for frame in used if not here[frame]]
    hands = sum(bool(drawn[frame]) for frame in lost)
    which = f"{len(lost)} of {len(used)} used frames"
    found = f"{which} are empty ({numbered(lost)})"
    if hands:
        found = f"{which} show no body ({numbered(lost)}), {hands} of them still hands"
    yield from _judge(path, len(lost) / max(len(used), 1), found, _mendable(here[: used[-1] + 1]))


def _mendable(here: Bool[np.ndarray, " f"], stride: int = 1) -> bool:
    """Whether repair would fill all gaps, `stride` frames of the driver from one to the next."""
    last = len(here) - 1
    return all(a > 0 and b < last and (b - a) * stride < GAP for a, b in runs(~here))


def _judge(path: Path, share: float, found: str, mendable: bool) -> Iterator[Finding]:
    if share > MOST_EMPTY:
        yield error("empty", path, found, "the estimator lost the person: run it again")
    elif share > SOME_EMPTY and mendable:
        advice = "mend gaps (`prepare poses --repair`) or cut them away"
        yield warning("empty", path, found, advice)
    elif share > SOME_EMPTY:
        advice = f"cut them away, `prepare poses --repair` fills only gaps of at most {GAP} frames"
        yield warning("empty", path, found, advice)
