"""Colour conventions: the look of the body, red and green hands, RGB and not BGR."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from realisdance_jax.checks.case import Driver
from realisdance_jax.checks.findings import Finding, error, note, warning
from realisdance_jax.checks.frames import Seen
from realisdance_jax.checks.pictures import Facts, Region, distance
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.smpl_cs import BodyLook
from realisdance_jax.shapes import Float

AGREEMENT = 0.75
"""Share of the telling frames that must agree before something is called wrong."""

OFF_BODY, OFF_HAND = 0.5, 0.15
"""Fewer joints than this share lie on the body, or hands are further than this from theirs."""

PALE = 100
"""Every channel of HaMeR's lit pixels is above this; bodies of either look stay below."""

HAND_RATIO = 0.5 ** (1 / 2.2)
"""Other to main channel of HaMeR's colours (1, 0.5, 0.5) after its gamma."""

_SIDES = "left is green, right is red; mirror neither film nor hands"
_TRANSPOSED = "write the video from RGB frames; OpenCV wants and gives BGR"


def check_colours(driver: Driver, seen: dict[str, list[Seen]], look: BodyLook) -> Iterator[Finding]:
    """All colour checks; seen: the used frames of each video."""
    if frames := _drawn(seen.get("smpl", [])):
        yield from _check_body(driver.paths["smpl"], frames, look)
    if frames := _drawn(seen.get("hamer", [])):
        yield from _check_hands(driver.paths["hamer"], frames, driver.dancer)
    if frames := _drawn(seen.get("dwpose", [])):
        votes = [one.backwards for one in frames]
        if _agree(votes):
            found = "the skeleton's colours are in BGR order (hands red, not blue)"
            yield error("channels", driver.paths["dwpose"], found, _TRANSPOSED)
    if driver.dancer is not None:
        yield from _check_keypoint_hands(driver.paths["dwpose"], driver.dancer)


def swapped(seen: dict[str, list[Seen]]) -> bool:
    """Whether bodies are where hands should be, and hands where bodies should be."""
    hands, bodies = (_drawn(seen.get(name, [])) for name in ("smpl", "hamer"))
    pale = [1.0 if one.facts.least > PALE else -1.0 for one in hands]
    bodily = [1.0 if body_look(one.facts) else -1.0 for one in bodies]
    return _agree(pale) and _agree(bodily)


def _drawn(frames: Sequence[Seen]) -> list[Seen]:
    return [one for one in frames if not one.facts.empty and not one.facts.filled]


def _agree(votes: Sequence[float]) -> bool:
    """Whether the votes that say something say yes."""
    telling = [vote for vote in votes if vote]
    return bool(telling) and float(np.mean(np.array(telling) > 0)) >= AGREEMENT


def body_look(facts: Facts) -> BodyLook | None:
    """`dit` adds 0.2 everywhere and never exceeds 0.9; `sd` leaves a channel of jet at zero."""
    if facts.least <= 24:
        return "sd"
    return "dit" if 36 <= facts.least <= 70 and facts.most <= 240 else None


def _check_body(path: Path, frames: list[Seen], look: BodyLook) -> Iterator[Finding]:
    if _agree([_upside_down(one.facts) for one in frames]):
        found = "the body's colours are in BGR order (face and right hand blue, legs red)"
        yield error("channels", path, found, _TRANSPOSED)
    looks = [body_look(one.facts) for one in frames]
    found = max(set(looks), key=looks.count)
    if found is None:
        told = "neither the `sd` nor the `dit` look (colours or light differ)"
        yield warning("look", path, told, f"render it with `prepare poses --look {look}`")
    elif found != look:
        told = f"looks like `{found}`, these weights were trained with `{look}`"
        yield warning("look", path, told, f"render it with `prepare poses --look {look}`")
    else:
        yield note("look", path, f"looks like `{found}`")
    shares = [one.joints for one in frames if one.joints is not None]
    if shares and np.median(shares) < OFF_BODY:
        told = f"only {np.median(shares):.0%} of the DWPose joints lie on the body"
        advice = "use files of the same film and framing; align all three alike"
        yield warning("register", path, told, advice)


def _upside_down(facts: Facts) -> float:
    """1 where the blue of the legs is above the red of the face, -1 where it is below."""
    if facts.red is None or facts.blue is None:
        return 0.0
    lower = facts.red.centre[1] - facts.blue.centre[1]
    return 0.0 if abs(lower) < 0.02 else float(np.sign(lower))


def _check_hands(
    path: Path, frames: list[Seen], keypoints: KeypointClip | None
) -> Iterator[Finding]:
    blue = [1.0 if _more(one.facts.blue, one.facts.red) else -1.0 for one in frames]
    if _agree(blue):
        found = "hands are blue, not red: the colours are in BGR order"
        yield error("channels", path, found, _TRANSPOSED)
    ratio = float(np.median([one.facts.ratio for one in frames]))
    if abs(ratio - HAND_RATIO) > 0.1:
        found = f"other to main channel {ratio:.2f}, HaMeR's look has {HAND_RATIO:.2f}"
        yield warning("look", path, found, "render the hands with `prepare poses`")
    if keypoints is None:
        return
    votes, away = [], []
    for one in frames:
        left, right = _hand_points(keypoints, one.frame)
        for region, own, other in ((one.facts.red, right, left), (one.facts.green, left, right)):
            if region is not None and own is not None and other is not None:
                near, far = distance(region, own), distance(region, other)
                votes.append(0.0 if abs(near - far) < 0.03 else float(np.sign(near - far)))
                away.append(min(near, far))
    if _agree(votes):
        found = "left and right are swapped: the red hand is where DWPose has the left one"
        yield error("hands", path, found, _SIDES)
    elif away and np.median(away) > OFF_HAND:
        found = f"hands are {np.median(away):.0%} of the frame away from those of DWPose"
        advice = "use files of the same film and framing; align all three alike"
        yield warning("register", path, found, advice)


def _more(one: Region | None, other: Region | None) -> bool:
    return one is not None and (other is None or one.count > other.count)


def _hand_points(clip: KeypointClip, frame: int) -> list[Float[np.ndarray, "2"] | None]:
    """Mean of the visible points of the left and right hand of the person in slot 0."""
    if not clip.persons or frame >= clip.frames:
        return [None, None]
    means = []
    for side in range(2):
        ok = clip.hands_ok[frame, 0, side]
        means.append(clip.hands[frame, 0, side][ok].mean(axis=0) if ok.sum() >= 4 else None)
    return means


def _check_keypoint_hands(path: Path, clip: KeypointClip) -> Iterator[Finding]:
    """Wrists of the hands (point 0) against the wrists of the body (7 left, 4 right)."""
    if not clip.persons:
        return
    wrists, hands = clip.body[:, 0, (7, 4)], clip.hands[:, 0, :, 0]
    known = clip.body_ok[:, 0, (7, 4)].all(axis=1) & clip.hands_ok[:, 0, :, 0].all(axis=1)
    own = np.linalg.norm(hands - wrists, axis=-1).sum(axis=1)[known]
    crossed = np.linalg.norm(hands - wrists[:, ::-1], axis=-1).sum(axis=1)[known]
    if _agree(np.sign(own - crossed).tolist()):
        found = "the first of `hands` is at the right wrist: left and right are swapped"
        yield error("hands", path, found, "list all left hands first, then all right ones")
