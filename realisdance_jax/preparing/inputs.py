"""Estimators' files to the clips of one driver, of one length and one frame size."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from realisdance_jax.data.video_io import VideoInfo
from realisdance_jax.poses.clips import BodyClip, Clip, HandClip, KeypointClip
from realisdance_jax.poses.dwpose_people import Person, crowded, one_person
from realisdance_jax.poses.readers import guess_kind, read_poses, read_smplerx
from realisdance_jax.utils.errors import UserError

Size = tuple[int, int]
AnyClip = TypeVar("AnyClip", KeypointClip, BodyClip, HandClip)

ASSUMED_FPS = 24.0
"""Where no file tells the frame rate."""

FPS_RANGE = (0.1, 1000.0)


@dataclass(frozen=True, eq=False)
class Clips:
    """What is known of one driver: any of keypoints, body and hands; f frames each.

    keypoints: of one person, in slot 0. videos: ready-made condition videos by condition.
    size: height and width of the driver's frames. fps: frames per second.
    """

    keypoints: KeypointClip | None
    body: BodyClip | None
    hands: HandClip | None
    videos: dict[str, Path]
    size: Size
    fps: float
    frames: int

    @property
    def present(self) -> tuple[str, ...]:
        """Conditions that will be written, by the names that sampling gives them."""
        given = {"dwpose": self.keypoints, "hamer": self.hands, "smpl": self.body}
        return tuple(n for n, clip in given.items() if clip is not None or n in self.videos)


def read_keypoints(
    path: Path, size: Size | None = None, fps: float | None = None, kind: str | None = None
) -> KeypointClip:
    """Keypoints of any kind that poses/readers.py knows; the kind is guessed by default."""
    return _expect(path, read_poses(path, kind, size, fps), KeypointClip, "keypoints")


def read_body(
    path: Path, size: Size | None = None, fps: float | None = None, frames: int | None = None
) -> BodyClip:
    """SMPL-X parameters: SMPLer-X's folder, GVHMR's torch file, or a clip (.npz).

    frames: how many a SMPLer-X folder covers, which itself says nothing of empty frames at its end.
    """
    if os.path.isdir(path) and not (path / "smplx").is_dir():
        raise UserError(f"{path}: expected SMPLer-X's folder, with smplx/ and meta/, found neither")
    kind = guess_kind(path)
    if kind == "smplerx" and not (path / "img").is_dir():
        return read_smplerx(path, size, fps, frames=frames)
    return _expect(path, read_poses(path, kind, size, fps), BodyClip, "SMPL-X parameters")


def read_hands(path: Path, size: Size | None = None, fps: float | None = None) -> HandClip:
    """HaMeR's hands: `hamer_info.pkl`, an npz of them, or a clip (.npz)."""
    return _expect(path, read_poses(path, None, size, fps), HandClip, "HaMeR's hands")


def _expect(path: Path, clip: Clip, kind: type[AnyClip], what: str) -> AnyClip:
    if not isinstance(clip, kind):
        raise UserError(f"{path}: expected {what}, found a {type(clip).__name__}")
    return clip


def join_clips(
    keypoints: KeypointClip | None,
    body: BodyClip | None,
    hands: HandClip | None,
    videos: dict[str, Path],
    infos: dict[str, VideoInfo],
    size: Size | None = None,
    fps: float | None = None,
    trim: bool = False,
    person: Person = "largest",
    say: Callable[[str], None] = print,
) -> Clips:
    """Check that all belong to one driver and that it is one person.

    Args:
        keypoints, body, hands: whatever there is.
        videos: ready-made condition videos; not of a condition that has a clip.
        infos: of these videos, and of the driver's film under any other name.
        size, fps: of the driver, where its files do not say; a rate given here wins.
        trim: cut everything to the shortest.
        person: whose keypoints to keep where there are several people.
        say: receives one line per assumption.
    Raises `UserError` for nothing at all, lengths or sizes that differ, and an unknown size.
    """
    clips = {"dwpose": keypoints, "smpl": body, "hamer": hands}
    known: dict[str, Any] = {name: clip for name, clip in clips.items() if clip is not None}
    if not known and not videos:
        line = "expected at least one of keypoints, --body, --hands, --warp, found none"
        hint = "; --dwpose-detector with --dwpose-pose finds keypoints of --video"
        raise UserError(line + hint if infos else line)
    frames = common_length(known | infos, trim)
    counts = {name: source.frames for name, source in (known | infos).items()}
    if max(counts.values()) > frames:
        say(_trimmed(counts, frames))
    if body is not None and np.any(body.focal[body.present] <= 0):
        raise UserError("--body: expected focal lengths above zero, found others")
    return Clips(
        keypoints=_alone(_cut(keypoints, frames), person, say),
        body=_cut(body, frames),
        hands=_cut(hands, frames),
        videos=videos,
        size=_one_size(known, infos, size),
        fps=_one_rate(known, infos, fps, say),
        frames=frames,
    )


def common_length(sources: Mapping[str, Clip | VideoInfo], trim: bool) -> int:
    """Frames that all sources have; `UserError` for none, and for lengths that differ untrimmed."""
    counts = {name: source.frames for name, source in sources.items()}
    frames = min(counts.values())
    if len(set(counts.values())) > 1 and not trim:
        found = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise UserError(f"expected equal frame counts, found {found}; --trim uses {frames}")
    if not frames:
        raise UserError("expected at least one frame, found none")
    return frames


def _trimmed(counts: dict[str, int], frames: int) -> str:
    """What --trim leaves out."""
    found = ", ".join(f"{count} of {name}" for name, count in counts.items())
    return f"--trim: the first {frames} frames are used, found {found}"


def _alone(
    clip: KeypointClip | None, person: Person, say: Callable[[str], None]
) -> KeypointClip | None:
    if clip is None:
        return None
    if count := int(crowded(clip).sum()):
        kept = {
            "largest": "the largest of each is kept; --person track follows one",
            "track": "the one who takes most room in the film is kept",
        }
        say(f"dwpose: {count} of {clip.frames} frames show several people: {kept[person]}")
    return one_person(clip, person)


def _one_size(known: dict[str, Any], infos: dict[str, VideoInfo], given: Size | None) -> Size:
    sizes = {name: clip.size for name, clip in known.items() if clip.size is not None}
    sizes |= {name: (info.height, info.width) for name, info in infos.items()}
    sizes |= {"--size": given} if given is not None else {}
    if not sizes:
        raise UserError("expected --size HxW or --video, since no file tells it, found neither")
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{height}x{width} of {n}" for n, (height, width) in sizes.items())
        raise UserError(f"expected one frame size, found {found}")
    return next(iter(sizes.values()))


def _one_rate(
    known: dict[str, Any],
    infos: dict[str, VideoInfo],
    given: float | None,
    say: Callable[[str], None],
) -> float:
    rates = [clip.fps for clip in known.values()] + [info.fps for info in infos.values()]
    rate = given or next((rate for rate in rates if rate), None)
    if rate is None:
        say(f"no file tells the frame rate: {ASSUMED_FPS:g} assumed; --fps sets it")
    return check_rate(rate or ASSUMED_FPS)


def check_rate(rate: float) -> float:
    """Frames per second, if a video can have as many; `UserError` otherwise."""
    low, high = FPS_RANGE
    if not low <= rate <= high:
        raise UserError(f"expected {low:g} to {high:g} frames per second, found {rate:g}")
    return rate


def _cut(clip: AnyClip | None, frames: int) -> AnyClip | None:
    """The first `frames` frames."""
    if clip is None or clip.frames == frames:
        return clip
    arrays = {field.name: getattr(clip, field.name) for field in fields(clip)}
    shorter = {n: value[:frames] for n, value in arrays.items() if isinstance(value, np.ndarray)}
    return replace(clip, **shorter)
