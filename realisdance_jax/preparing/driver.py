"""The driver of `prepare poses`: clips from files, or from the estimators that run here."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realisdance_jax.data.video_io import VideoInfo, probe_video
from realisdance_jax.preparing.estimators import Networks, estimated_files
from realisdance_jax.preparing.inputs import (
    Clips,
    common_length,
    join_clips,
    read_body,
    read_hands,
    read_keypoints,
)
from realisdance_jax.preparing.pose_options import KEYPOINTS

Say = Callable[[str], None]


def open_film(options: Namespace) -> VideoInfo | None:
    """Size, rate and length of the driver's film, if there is one."""
    return None if options.video is None else probe_video(options.video)


def open_driver(
    options: Namespace, networks: Networks | None, film: VideoInfo | None, say: Say
) -> Clips:
    """The clips that the options name. Raises `UserError` for bad input.

    Files are read and their lengths compared before any estimator runs, and what one of these
    leaves before the next.
    """
    videos = dict(options.warp)
    infos = {name: probe_video(path) for name, path in videos.items()}
    size, fps = options.size, options.fps
    if film is not None:
        infos["--video"] = film
        size, fps = size or (film.height, film.width), fps or film.fps
    clips: dict[str, Any] = {}

    def read(name: str, path: Path, kind: str | None = None) -> None:
        if name == "dwpose":
            clips[name] = read_keypoints(path, size, fps, kind)
        elif name == "hamer":
            clips[name] = read_hands(path, size, fps)
        else:
            clips[name] = read_body(path, size, fps, _frames_of_body(clips, film, options.trim))
        common_length({**infos, **clips}, options.trim)

    for kind in KEYPOINTS:
        if (path := getattr(options, kind)) is not None:
            read("dwpose", path, None if kind == "dwpose" else kind)
    for name, value in (("smpl", options.body), ("hamer", options.hands)):
        if isinstance(value, Path):
            read(name, value)
    for name, path in estimated_files(options, networks, film, say):
        read(name, path)
    keypoints, body, hands = (clips.get(name) for name in ("dwpose", "smpl", "hamer"))
    how = (size, fps, options.trim, options.person, say)
    return join_clips(keypoints, body, hands, videos, infos, *how)


def _frames_of_body(clips: dict[str, Any], film: VideoInfo | None, trim: bool) -> int | None:
    """How many frames a folder of bodies covers, as far as other inputs tell."""
    known = film or clips.get("dwpose")
    return None if known is None or trim else known.frames
