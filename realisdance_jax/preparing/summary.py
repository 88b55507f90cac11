"""The report of a run: what came in, what was changed, what went out, in one HTML file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from realisdance_jax.poses import report
from realisdance_jax.poses.changes import Change
from realisdance_jax.poses.clips import HandClip, KeypointClip
from realisdance_jax.poses.hamer_look import full_frame_camera
from realisdance_jax.poses.repair_body import body_place
from realisdance_jax.poses.repair_hands import by_side
from realisdance_jax.poses.repair_keypoints import JOINTS
from realisdance_jax.poses.tracks import jitter, runs
from realisdance_jax.preparing.framing import Framing
from realisdance_jax.preparing.inputs import Clips
from realisdance_jax.shapes import Bool, Float, UInt8
from realisdance_jax.utils.files import atomic_output

_SHOWN = {"neck": 1, "right wrist": 4, "left wrist": 7, "right ankle": 10, "left ankle": 13}
_MOST_ROWS = 300
_HAND_NAMES = ("left hand", "right hand")

Section = tuple[str, str]


def write_report(
    path: Path,
    raw: Clips,
    mended: Clips,
    framing: Framing,
    changes: Sequence[Change],
    notes: Sequence[str],
    picture: UInt8[np.ndarray, "H W 3"] | None,
) -> None:
    """Write it, whole or not at all.

    Args:
        path: .html. raw: clips as read. mended: after repair, before alignment.
        framing: where they went. changes: what repair did. notes: all that was said.
        picture: before and after alignment.
    """
    sections = [
        _overview(raw),
        ("Notes", report.bullets(notes or ["none"])),
        _alignment(framing, picture),
    ]
    sections += [_presence(raw), *_curves(raw, mended), *_trembling(raw, mended), _repairs(changes)]
    with atomic_output(path) as partial:
        partial.write_text(report.page("Pose conditions", sections), "utf-8")


def _overview(clips: Clips) -> Section:
    rows = []
    for name, ok in _seen(clips).items():
        absent = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs(~ok)]
        shown = ", ".join(absent[:12]) + (" ..." if len(absent) > 12 else "")
        rows.append((name, f"{int(ok.sum())} of {len(ok)}", shown or "none"))
    rows += [(name, "ready-made video", path.name) for name, path in clips.videos.items()]
    size = f"{clips.size[0]} x {clips.size[1]} (height x width)"
    facts = report.bullets([f"{clips.frames} frames of {size}, {clips.fps:g} per second"])
    return "Driver", facts + report.table(("what", "frames with it", "frames without"), rows)


def _alignment(framing: Framing, picture: np.ndarray | None) -> Section:
    similarity = framing.similarity
    rows: list[tuple[str, str]] = [
        ("canvas", f"{framing.canvas[0]} x {framing.canvas[1]} (height x width)"),
        ("scale", f"{similarity.scale:.4f}"),
        ("shift", f"{similarity.shift[0]:.1f}, {similarity.shift[1]:.1f} pixels"),
    ]
    if framing.ratio is not None:
        rows.append(("torso, reference to driver", f"{framing.ratio:.3f} (of frame heights)"))
    rows += [(f"limbs: {name}", f"{ratio:.3f}") for name, ratio in (framing.limbs or {}).items()]
    caption = "dim: the reference and its pose; bright: the driver's first frame"
    shown = "" if picture is None else report.picture(picture, caption)
    return "Alignment", report.table(("", ""), rows) + shown


def _seen(clips: Clips) -> dict[str, Bool[np.ndarray, " f"]]:
    """In which frames there is what."""
    rows = {}
    if clips.keypoints is not None and clips.keypoints.persons:
        keypoints = clips.keypoints
        rows["dwpose body"] = keypoints.body_ok.any(axis=(1, 2))
        for side, name in enumerate(_HAND_NAMES):
            rows[f"dwpose {name}"] = keypoints.hands_ok[:, 0, side].any(axis=1)
    if clips.hands is not None:
        for side, name in enumerate(_HAND_NAMES):
            rows[f"hamer {name}"] = (clips.hands.present & (clips.hands.right == bool(side))).any(1)
    if clips.body is not None:
        rows["smpl body"] = clips.body.present
    return rows


def _presence(clips: Clips) -> Section:
    rows = _seen(clips)
    if clips.keypoints is not None and clips.keypoints.persons:
        names = (f"person 0 {name}" for name in JOINTS)
        rows |= dict(zip(names, clips.keypoints.body_ok[:, 0].T, strict=True))
    return "What is seen in which frame", report.strips(rows, "grey: not there")


def _curves(raw: Clips, mended: Clips) -> list[Section]:
    """Places in the frame before and after repair."""
    pairs = zip(_places(raw).items(), _places(mended).values(), strict=True)
    sections = []
    for (name, before), after in pairs:
        for axis, label in enumerate(("across", "down")):
            series = {"as it came": before[:, axis], "after repair": after[:, axis]}
            caption = f"{name}, {label}, frame heights"
            sections.append(report.lines(series, caption))
    return [("Movement", "".join(sections))] if sections else []


def _places(clips: Clips) -> dict[str, Float[np.ndarray, "f 2"]]:
    """Tracks worth a plot, in frame heights; NaN where absent."""
    places = {}
    if clips.keypoints is not None and clips.keypoints.persons:
        points = _points(clips.keypoints, clips.size)
        places |= {f"dwpose {name}": points[:, joint] for name, joint in _SHOWN.items()}
    if clips.body is not None:
        place, _ = body_place(clips.body, clips.size)
        places["smpl body"] = np.where(clips.body.present[:, None], place, np.nan)
    if clips.hands is not None:
        both = _hand_places(by_side(clips.hands), clips.size)
        places |= {f"hamer {name}": both[:, side] for side, name in enumerate(_HAND_NAMES)}
    return places


def _points(clip: KeypointClip, size: tuple[int, int]) -> Float[np.ndarray, "f 18 2"]:
    points = clip.body[:, 0] * np.array([size[1] / size[0], 1.0])
    return np.where(clip.body_ok[:, 0, :, None], points, np.nan)


def _hand_places(clip: HandClip, size: tuple[int, int]) -> Float[np.ndarray, "f n 2"]:
    camera = full_frame_camera(size, clip.focal)
    ok = clip.present & (clip.translation[..., 2] > 0)
    depth = np.where(ok, clip.translation[..., 2], 1.0)[..., None]
    pixels = np.array(camera.focal) * clip.translation[..., :2] / depth + np.array(camera.centre)
    return np.where(ok[..., None], pixels / size[0], np.nan)


def _trembling(raw: Clips, mended: Clips) -> list[Section]:
    before, after = _places(raw), _places(mended)
    rows = [(name, *(_shake(places[name]) for places in (before, after))) for name in before]
    text = "Median second difference, in thousandths of the frame's height per frame squared."
    shown = report.table(("track", "as it came", "after repair"), rows) + report.bullets([text])
    return [("Trembling", shown)] if rows else []


def _shake(place: np.ndarray) -> str:
    ok = np.all(np.isfinite(place), axis=1)
    value = jitter(np.where(ok[:, None], place, 0.0)[:, None], ok[:, None]).item()
    return f"{1000 * value:.2f}" if np.isfinite(value) else "-"


def _repairs(changes: Sequence[Change]) -> Section:
    if not changes:
        return "Repair", report.bullets(["nothing was changed"])
    rows = [(c.stream, c.track, c.kind, c.first, c.last) for c in changes[:_MOST_ROWS]]
    more = len(changes) - len(rows)
    rest = report.bullets([f"and {more} more, in repair.json"]) if more else ""
    return "Repair", report.table(("stream", "track", "what", "first", "last"), rows) + rest
