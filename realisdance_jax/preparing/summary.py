"""The report of a run: what came in and what is wrong with it, what was changed, what went out."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from realisdance_jax.poses import report
from realisdance_jax.poses.align import FIRST_FRAMES
from realisdance_jax.poses.changes import Change
from realisdance_jax.poses.faults import Faults
from realisdance_jax.poses.repair import GAP, detect
from realisdance_jax.poses.repair_keypoints import JOINTS
from realisdance_jax.poses.tracks import runs
from realisdance_jax.preparing.framing import Framing
from realisdance_jax.preparing.inputs import Clips
from realisdance_jax.shapes import Bool, Float, UInt8
from realisdance_jax.utils.files import atomic_output

_SHOWN = [
    f"person 0 {name}"
    for name in ("neck", "right wrist", "left wrist", "right ankle", "left ankle")
]
_MOST_ROWS = 300
_COLUMNS = (
    "seen",
    "gaps",
    "outliers",
    "jitter as it came",
    "jitter after mending",
    "median score",
)
_UNITS = (
    "seen, gaps, outliers and score: as it came; gaps lie between frames in which the track is "
    "seen, lengths in frames",
    "outliers: frames in which the track leaps away and comes back",
    "jitter: median second difference of the place in the picture, in thousandths of the frame's "
    "height per frame squared; mending is --repair and --smooth, before alignment",
    "score: the estimator's confidence, median over the frames seen; - where it gives none",
)
_HAND_NAMES = ("left hand", "right hand")

_UNCHANGED = (
    f"nothing; --repair takes out outliers and fills gaps up to {GAP} frames, --smooth lessens "
    "jitter"
)

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
        framing: where they went. changes: what repair and smoothing did. notes: all that was said.
        picture: before and after alignment.
    """
    sections = [
        _overview(raw),
        ("Notes", report.bullets(notes or ["none"])),
        _alignment(framing, picture),
    ]
    before, after = _faults(raw), _faults(mended)
    found = [change for faults in before for change in faults.found()]
    sections += [
        _quality(before, after),
        _changes("Found", found, "neither gaps nor outliers"),
        _changes("Changed", changes, _UNCHANGED),
        _presence(raw),
        *_curves(before, after),
    ]
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
        rows.append(("torso, reference to driver", f"{framing.ratio:.3f} (as the model sees them)"))
    rows += [(f"limbs: {name}", f"{ratio:.3f}") for name, ratio in (framing.limbs or {}).items()]
    caption = (
        "dim: the reference and its pose; bright: the driver's frame of that number, nearest the "
        f"median of the first {FIRST_FRAMES}, by which it is aligned"
    )
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


def _faults(clips: Clips) -> list[Faults]:
    """What the detectors of repair say of all clips."""
    there = [clip for clip in (clips.keypoints, clips.body, clips.hands) if clip is not None]
    return [faults for clip in there for faults in detect(clip, clips.size)]


def _quality(raw: list[Faults], mended: list[Faults]) -> Section:
    """Gaps, outliers, jitter and score, of whole parts and of every track."""
    pairs = [pair for pair in zip(raw, mended, strict=True) if pair[0].ok.any()]
    if not pairs:
        return "Quality", report.bullets(["no keypoints, body or hands to judge"])
    sums = [(_label(before), len(before.names), *_sums(before, after)) for before, after in pairs]
    parts = [report.table(("part", "tracks", *_COLUMNS), sums), report.bullets(_UNITS)]
    for before, after in pairs:
        table = report.table(("track", *_COLUMNS), _rows(before, after))
        parts.append(report.folded(f"{_label(before)}, track by track", table))
    return "Quality", "".join(parts)


def _label(faults: Faults) -> str:
    return f"{faults.stream} {faults.part}"


def _rows(before: Faults, after: Faults) -> list[tuple[object, ...]]:
    """One row per track."""
    rows, columns = [], zip(before.jitter, after.jitter, before.score, strict=True)
    for track, (name, values) in enumerate(zip(before.names, columns, strict=True)):
        seen = before.ok[:, track]
        counts = _gaps(before, [track]), int(before.leaps[:, track].sum())
        rows.append((name, f"{seen.sum()} of {len(seen)}", *counts, *_numbers(*values)))
    return rows


def _sums(before: Faults, after: Faults) -> tuple[object, ...]:
    """The same over all tracks: counts added up, medians of jitter and score."""
    values = (_median(values) for values in (before.jitter, after.jitter, before.score))
    counts = _gaps(before, range(len(before.names))), int(before.leaps.sum())
    return f"{before.ok.mean():.0%}", *counts, *_numbers(*values)


def _gaps(faults: Faults, tracks: Iterable[int]) -> str:
    """How many there are, and the longest."""
    lengths = [last - first + 1 for track in tracks for first, last in faults.gaps(track)]
    return f"{len(lengths)} (longest {max(lengths)})" if lengths else "0"


def _numbers(shakes: float, shook: float, score: float) -> tuple[str, ...]:
    values = 1000 * shakes, 1000 * shook, score
    return tuple(f"{value:.2f}" if np.isfinite(value) else "-" for value in values)


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def _curves(raw: list[Faults], mended: list[Faults]) -> list[Section]:
    """Places in the frame before and after repair and smoothing."""
    pairs = zip(_places(raw).items(), _places(mended).values(), strict=True)
    sections = []
    for (name, before), after in pairs:
        for axis, label in enumerate(("across", "down")):
            series = {"as it came": before[:, axis], "after mending": after[:, axis]}
            caption = f"{name}, {label}, frame heights"
            sections.append(report.lines(series, caption))
    return [("Movement", "".join(sections))] if sections else []


def _places(parts: list[Faults]) -> dict[str, Float[np.ndarray, "f 2"]]:
    """Tracks worth a plot, in frame heights; NaN where absent."""
    places = {}
    for faults in parts:
        for track, name in enumerate(faults.names):
            if faults.stream != "dwpose" or name in _SHOWN:
                seen = faults.ok[:, track, None]
                places[f"{faults.stream} {name}"] = np.where(seen, faults.places[:, track], np.nan)
    return places


def _changes(heading: str, changes: Sequence[Change], nothing: str) -> Section:
    """Changes, those of one kind and stretch of frames in one row."""
    if not changes:
        return heading, report.bullets([nothing])
    together: dict[tuple[str, str, int, int], list[str]] = {}
    for change in changes:
        stretch = change.stream, change.kind, change.first, change.last
        together.setdefault(stretch, []).append(change.track)
    rows = [
        (stream, _named(tracks), _told(kind, first, last), first, last)
        for (stream, kind, first, last), tracks in together.items()
    ]
    rest = report.bullets([f"and {len(rows) - _MOST_ROWS} more"]) if len(rows) > _MOST_ROWS else ""
    head = ("stream", "tracks", "what", "first frame", "last frame")
    return heading, report.table(head, rows[:_MOST_ROWS]) + rest


def _named(tracks: list[str], most: int = 4) -> str:
    more = f" and {len(tracks) - most} more" if len(tracks) > most else ""
    return ", ".join(tracks[:most]) + more


def _told(kind: str, first: int, last: int) -> str:
    return "gap, too long to fill" if kind == "gap" and last - first >= GAP else kind
