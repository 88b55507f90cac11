"""Estimators run for `prepare poses`; what they find becomes files that it reads like any other.

DWPose runs here, in onnxruntime. SMPLer-X, HaMeR and GVHMR run as commands of the user's own. All
results are kept in `OUT/estimated`, so that a second run can take them from there.
"""

import shlex
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from realisdance_jax.data.images import read_image
from realisdance_jax.data.video_io import VideoInfo, read_frames
from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.poses.dwpose_detect import Detector, open_detector
from realisdance_jax.poses.dwpose_estimate import estimate_dwpose
from realisdance_jax.poses.dwpose_pose import PoseNetwork, open_pose_network
from realisdance_jax.preparing.option_checks import finds_keypoints, finds_reference
from realisdance_jax.preparing.plugins import (
    BODY_FILES,
    HAND_FILES,
    command_of,
    command_words,
    run_plugin,
    written_file,
)
from realisdance_jax.utils.files import atomic_output

Say = Callable[[str], None]

_RESULTS = {"body": ("smpl", BODY_FILES), "hands": ("hamer", HAND_FILES)}
"""Condition and file names, by option."""


class Networks(NamedTuple):
    """Both halves of DWPose."""

    detector: Detector
    pose: PoseNetwork


def open_networks(options: Namespace) -> Networks | None:
    """Those that the options name, if any."""
    if options.dwpose_detector is None:
        return None
    return Networks(open_detector(options.dwpose_detector), open_pose_network(options.dwpose_pose))


def reference_keypoints(options: Namespace, networks: Networks | None) -> Path | None:
    """The file of keypoints of the reference picture, found by DWPose if the options say so."""
    if networks is None or not finds_reference(options):
        return options.ref_dwpose
    picture = read_image(options.ref)
    path = options.out / "estimated" / "ref_dwpose.npz"
    save_clip(path, estimate_dwpose(lambda: [picture], *networks))
    return path


def estimated_files(
    options: Namespace, networks: Networks | None, film: VideoInfo | None, say: Say
) -> Iterator[tuple[str, Path]]:
    """Condition and file of what each estimator of the options leaves, as soon as it has run.

    film: of `options.video`. Raises `UserError` as the estimators do.
    """
    folder = options.out / "estimated"
    if networks is not None and film is not None and finds_keypoints(options):
        say(f"dwpose: looking for people in {options.video}")
        how = {"person": options.person, "fps": options.fps or film.fps, "total": film.frames}
        frames = partial(read_frames, options.video)
        save_clip(folder / "dwpose.npz", estimate_dwpose(frames, *networks, **how, progress=True))
        yield "dwpose", folder / "dwpose.npz"
    for name, (condition, patterns) in _RESULTS.items():
        command = command_of(getattr(options, name) or "")
        if command is not None:
            yield condition, _run_command(name, command, patterns, options.video, folder, say)


def _run_command(
    name: str,
    command: str,
    patterns: tuple[str, ...],
    video: Path | None,
    folder: Path,
    say: Say,
) -> Path:
    """Results of a command, in place of those of an earlier run; kept even if none can be read."""
    out, log = folder / name, folder / f"{name}.log"
    words = shlex.join(command_words(command, video, out))
    say(f"{name}: running {words} (its output goes to {log})")
    with atomic_output(out) as partial_out:
        run_plugin(command, video, partial_out, log)
    return written_file(out, patterns)
