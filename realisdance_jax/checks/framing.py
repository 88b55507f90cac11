"""Is the person in the part of the frame that is used, and where the reference has hers or his?"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realisdance_jax.checks.case import Case, Driver, Size
from realisdance_jax.checks.findings import Finding, error, note, warning
from realisdance_jax.data.images import read_image
from realisdance_jax.data.transforms import crop_box
from realisdance_jax.poses.align import LARGEST_RATIO, TORSO, Torso, largest_person, match_torsos
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.dwpose_files import read_dwpose
from realisdance_jax.shapes import Float
from realisdance_jax.utils.errors import UserError

CUT_JOINTS, CUT_FRAMES = 0.2, 0.25
"""Share of the joints that the crop cuts off in a bad frame; share of bad frames to warn from."""

FAR, DIFFERENT = 0.15, 1.25
"""Torsos further apart than this share of the picture, or of a ratio beyond this, are told."""

_ALIGN = "align it: `prepare poses --ref-dwpose`"


@dataclass(frozen=True)
class Cut:
    """The centred part of frames of a size that becomes a picture of another size."""

    frame: Size
    picture: Size

    def place(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Fractions (x, y) of the frame to pixels of the picture."""
        ratio = self.picture[1] / self.picture[0]
        top, left, height, width = crop_box(*self.frame, ratio)
        pixels = points * (self.frame[1], self.frame[0]) - (left, top)
        return pixels * (self.picture[1] / width, self.picture[0] / height)


def check_framing(case: Case, driver: Driver) -> Iterator[Finding]:
    """What the crop loses, bystanders, and the torso against that of the reference."""
    size = next((driver.sizes[n] for n in ("hamer", "smpl", "dwpose") if n in driver.sizes), None)
    clip = driver.keypoints
    if clip is None or size is None or not clip.persons:
        return
    path, used = driver.paths["dwpose"], list(driver.used(case.config))
    crowded = int((clip.body_ok[used].any(axis=2).sum(axis=1) > 1).sum())
    if crowded:
        found = f"{crowded} of {len(used)} used frames show several people, all are drawn"
        yield warning("people", path, found, "keep one (`prepare poses --person track`)")
    cut = Cut(size, case.config.size)
    yield from _check_crop(path, clip, used, cut)
    if case.reference_keypoints is not None:
        try:
            reference = _reference_torso(case)
        except UserError as problem:
            yield error("framing", "--ref-dwpose", str(problem), "make or leave out the file")
            return
        points = cut.place(clip.body[used][:, 0, list(TORSO)])
        ok = clip.body_ok[used][:, 0, list(TORSO)]
        yield from _check_torso(path, Torso(points, ok), reference, case.config.size)


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


def _reference_torso(case: Case) -> Torso:
    """In pixels of the animation. Raises `UserError` for a file without a person or size."""
    path = case.reference_keypoints
    clip = read_dwpose(str(path))
    size = clip.size
    if size is None and case.reference is not None:
        height, width, _ = read_image(case.reference).shape
        size = height, width
    if size is None or not clip.persons or not clip.body_ok[0].any():
        raise UserError(f"{path}: expected a person in frame 0 and H, W, found one of them missing")
    person = largest_person(clip)
    points = Cut(size, case.config.size).place(clip.body[:1, person, list(TORSO)])
    return Torso(points, clip.body_ok[:1, person, list(TORSO)])


def _check_torso(path: Path, driver: Torso, reference: Torso, size: Size) -> Iterator[Finding]:
    try:
        similarity = match_torsos(driver, reference, str(path))
    except UserError as problem:
        yield warning("framing", "--ref-dwpose", str(problem), "the framing was not compared")
        return
    times = max(similarity.scale, 1 / similarity.scale)
    which = "smaller" if similarity.scale > 1 else "larger"
    found = f"the driver's torso is {times:.2f} times {which} than the reference's"
    if times > LARGEST_RATIO:
        told = f"{found}, a known limit of the model (face and hands suffer)"
        yield warning("framing", path, told, _ALIGN)
    elif times > DIFFERENT:
        yield note("framing", path, found, _ALIGN)
    seen = driver.ok.any(axis=1)
    centre = np.median(driver.points[seen][driver.ok[seen]], axis=0)
    x, y = (similarity.apply(centre) - centre) / (size[1], size[0])
    if np.hypot(x, y) > FAR:
        sideways = f"{abs(x):.0%} of the width to the {'left' if x > 0 else 'right'}"
        upright = f"{abs(y):.0%} of the height {'above' if y > 0 else 'below'}"
        told = f"the driver's torso is {sideways} and {upright} the reference's"
        yield warning("framing", path, told, _ALIGN)
