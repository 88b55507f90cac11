"""Estimators' files to the clips of one driver, of one length and one frame size."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from realisdance_jax.data.video_io import VideoInfo, probe_video
from realisdance_jax.poses.clips import BodyClip, Clip, HandClip, KeypointClip
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

    videos: ready-made condition videos by condition. size: height and width of the driver's frames.
    fps: frames per second.
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
    size: Size | None = None,
    fps: float | None = None,
    trim: bool = False,
    say: Callable[[str], None] = print,
) -> Clips:
    """Check that all belong to one driver; this is where estimators that run here join in.

    Args:
        keypoints, body, hands: whatever there is.
        videos: ready-made condition videos; not of a condition that has a clip.
        size, fps: of the driver, where its files do not say; a rate given here wins.
        trim: cut everything to the shortest.
        say: receives one line per assumption.
    Raises `UserError` for nothing at all, lengths or sizes that differ, and an unknown size.
    """
    clips = {"dwpose": keypoints, "smpl": body, "hamer": hands}
    known: dict[str, Any] = {name: clip for name, clip in clips.items() if clip is not None}
    if clash := sorted(set(known) & set(videos)):
        raise UserError(f"{videos[clash[0]]}: expected one source of {clash[0]}, found two")
    if not known and not videos:
        raise UserError("expected at least one of keypoints, --body, --hands, --warp, found none")
    infos = {name: probe_video(path) for name, path in videos.items()}
    counts = {name: clip.frames for name, clip in (known | infos).items()}
    frames = min(counts.values())
    if len(set(counts.values())) > 1 and not trim:
        found = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise UserError(f"expected equal frame counts, found {found}; --trim uses {frames}")
    if not frames:
        raise UserError("expected at least one frame, found none")
    if body is not None and np.any(body.focal[body.present] <= 0):
        raise UserError("--body: expected focal lengths above zero, found others")
    return Clips(
        keypoints=_cut(keypoints, frames),
        body=_cut(body, frames),
        hands=_cut(hands, frames),
        videos=videos,
        size=_one_size(known, infos, size),
        fps=_one_rate(known, infos, fps, say),
        frames=frames,
    )


def _one_size(known: dict[str, Any], infos: dict[str, VideoInfo], given: Size | None) -> Size:
    sizes = {name: clip.size for name, clip in known.items() if clip.size is not None}
    sizes |= {name: (info.height, info.width) for name, info in infos.items()}
    sizes |= {"--size": given} if given is not None else {}
    if not sizes:
        raise UserError("expected --size HxW, since no file tells the frame size, found none")
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
    rate = rate or ASSUMED_FPS
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
