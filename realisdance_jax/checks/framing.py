"""Is the person in the part of the frame that is used, and where the reference has hers or his?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from realisdance_jax.checks.case import Case, Driver, Size
from realisdance_jax.checks.findings import Finding, error, note, warning
from realisdance_jax.data.transforms import Cut
from realisdance_jax.poses.align import TORSO, Torso, compared, match_torsos, too_different
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.dwpose_people import crowded
from realisdance_jax.preparing.framing import Reference, open_reference, reference_notes
from realisdance_jax.preparing.inputs import read_keypoints
from realisdance_jax.utils.errors import UserError

CUT_JOINTS, CUT_FRAMES = 0.2, 0.25
"""Share of the joints that the crop cuts off in a bad frame; share of bad frames to warn from."""

FAR, DIFFERENT = 0.15, 1.25
"""Torsos further apart than this share of the picture, or of a ratio beyond this, are told."""

_ALIGN = "align it: `prepare poses --ref-dwpose`"


def check_framing(case: Case, driver: Driver) -> Iterator[Finding]:
    """What the crop loses, bystanders, and the torso against that of the reference."""
    if case.reference_keypoints is None:
        yield note("framing", "reference", "not checked", "give --ref-dwpose")
    size = next((driver.sizes[n] for n in ("hamer", "smpl", "dwpose") if n in driver.sizes), None)
    clip = driver.dancer
    if driver.keypoints is None or clip is None or size is None or not clip.persons:
        if case.reference_keypoints is not None:
            advice = "give keypoints of a person as --dwpose, no video"
            yield note("framing", "--ref-dwpose", "nothing to compare it with", advice)
        return
    path, used = driver.paths["dwpose"], list(driver.used(case.config))
    if several := int(crowded(driver.keypoints)[used].sum()):
        found = f"{several} of {len(used)} used frames show several people, all are drawn"
        yield warning("people", path, found, "keep one (`prepare poses --person track`)")
    cut = Cut(size, case.config.size)
    yield from _check_crop(path, clip, used, cut)
    if case.reference_keypoints is not None:
        try:
            reference = _open_reference(case.reference_keypoints, case.reference)
        except UserError as problem:
            yield error("framing", "--ref-dwpose", str(problem), "make or leave out the file")
            return
        for line in reference_notes(reference):
            yield note("framing", case.reference_keypoints, line)
        target = _torso(reference.keypoints, [0], Cut(reference.size, case.config.size))
        yield from _check_torso(path, _torso(clip, used, cut), target, case.config.size)


def _torso(clip: KeypointClip, frames: list[int], cut: Cut) -> Torso:
    """Of the person in slot 0, in pixels of the animation."""
    joints = list(TORSO)
    return Torso(cut.place(clip.body[frames][:, 0, joints]), clip.body_ok[frames][:, 0, joints])


def _check_crop(path: Path, clip: KeypointClip, used: list[int], cut: Cut) -> Iterator[Finding]:
    body, ok = clip.body[used][:, 0], clip.body_ok[used][:, 0]
    ok = ok & np.all((body >= 0) & (body < 1), axis=-1)
    places = cut.place(body)
    lost = ok & ~np.all((places >= 0) & (places < cut.picture[::-1]), axis=-1)
    shares = lost.sum(axis=1) / np.maximum(ok.sum(axis=1), 1)
    share = float((shares > CUT_JOINTS).mean()) if len(shares) else 0.0
    if share > CUT_FRAMES:
        found = (
            f"in {share:.0%} of the frames the centred {cut.picture[0]}x{cut.picture[1]} crop of "
            f"{cut.frame[0]}x{cut.frame[1]} cuts off more than {CUT_JOINTS:.0%} of the joints"
        )
        yield warning("crop", path, found, f"{_ALIGN}, or crop the film around the dancer")


def _open_reference(path: Path, picture: Path | None) -> Reference:
    """Raises `UserError` as `prepare poses --ref-dwpose` does."""
    clip = read_keypoints(path)
    return open_reference(clip, None if clip.size else picture, path)


def _check_torso(path: Path, driver: Torso, reference: Torso, size: Size) -> Iterator[Finding]:
    try:
        similarity = match_torsos(driver, reference, str(path))
    except UserError as problem:
        yield warning("framing", "--ref-dwpose", str(problem), "the framing was not compared")
        return
    found = compared(similarity.scale)
    if too_different(similarity.scale):
        told = f"{found}, a known limit of the model (face and hands suffer)"
        yield warning("framing", path, told, _ALIGN)
    elif max(similarity.scale, 1 / similarity.scale) > DIFFERENT:
        yield note("framing", path, found, _ALIGN)
    seen = driver.ok.any(axis=1)
    centre = np.median(driver.points[seen][driver.ok[seen]], axis=0)
    x, y = (similarity.apply(centre) - centre) / (size[1], size[0])
    if np.hypot(x, y) > FAR:
        sideways = f"{abs(x):.0%} of the width to the {'left' if x > 0 else 'right'}"
        upright = f"{abs(y):.0%} of the height {'above' if y > 0 else 'below'}"
        told = f"the driver's torso is {sideways} and {upright} the reference's"
        yield warning("framing", path, told, _ALIGN)
