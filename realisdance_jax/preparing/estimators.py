"""Estimators run for `prepare poses`; what they find becomes files that it reads like any other.

DWPose runs here, in onnxruntime. SMPLer-X, HaMeR and GVHMR run as commands of the user's own. All
results are kept in `OUT/estimated`, so that a second run can take them from there.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

from realisdance_jax.data.images import read_image
from realisdance_jax.data.video_io import probe_video, read_frames
from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.poses.dwpose_detect import open_detector
from realisdance_jax.poses.dwpose_estimate import estimate_dwpose
from realisdance_jax.poses.dwpose_pose import open_pose_network
from realisdance_jax.preparing.plugins import (
    BODY_FILES,
    HAND_FILES,
    command_of,
    command_words,
    run_plugin,
    written_file,
)
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

Say = Callable[[str], None]

_RESULTS = {"body": BODY_FILES, "hands": HAND_FILES}


def run_estimators(options: Namespace, say: Say) -> None:
    """Run what the options ask for; afterwards they name files in place of estimators.

    DWPose finds the keypoints that no option names: of `video`, and of the picture `ref` if the
    conditions are to be aligned to it. `size` and `fps`, where not given, are those of the video.
    Raises `UserError` for options that do not go together, and as the estimators do.
    """
    folder = options.out / "estimated"
    _check(options)
    if options.video is not None:
        info = probe_video(options.video)
        options.size = options.size or (info.height, info.width)
        options.fps = options.fps or info.fps
    if options.dwpose_detector is not None:
        _run_dwpose(options, folder, say)
    for name in _RESULTS:
        command = command_of(getattr(options, name) or "")
        if command is not None:
            found = _run_command(name, command, options.video, folder, say)
            setattr(options, name, found)


def _check(options: Namespace) -> None:
    """What can be seen to be wrong before anything has run for an hour."""
    if (options.dwpose_detector is None) != (options.dwpose_pose is None):
        raise UserError("expected --dwpose-detector and --dwpose-pose together")
    if options.dwpose_detector is not None and options.video is None and options.ref is None:
        raise UserError("--dwpose-detector: expected --video or --ref to look at, found neither")
    for name in _RESULTS:
        command = command_of(getattr(options, name) or "")
        if command is not None:
            command_words(command, options.video, options.out)


def _run_dwpose(options: Namespace, folder: Path, say: Say) -> None:
    detector = open_detector(options.dwpose_detector)
    network = open_pose_network(options.dwpose_pose)
    given = (options.dwpose, options.openpose, options.musepose)
    if options.video is not None and all(path is None for path in given):
        say(f"dwpose: looking for people in {options.video}")
        frames, count = partial(read_frames, options.video), probe_video(options.video).frames
        how = {"person": options.person, "fps": options.fps, "total": count, "progress": True}
        clip = estimate_dwpose(frames, detector, network, **how)
        options.dwpose = folder / "dwpose.npz"
        save_clip(options.dwpose, clip)
    if options.ref is not None and options.ref_dwpose is None and options.align != "none":
        picture = read_image(options.ref)
        options.ref_dwpose = folder / "ref_dwpose.npz"
        save_clip(options.ref_dwpose, estimate_dwpose(lambda: [picture], detector, network))


def _run_command(name: str, command: str, video: Path | None, folder: Path, say: Say) -> Path:
    """Results of a command, in place of those of an earlier run; kept even if none can be read."""
    out, log = folder / name, folder / f"{name}.log"
    say(f"{name}: running {command} (its output goes to {log})")
    with atomic_output(out) as partial_out:
        run_plugin(command, video, partial_out, log)
    return written_file(out, _RESULTS[name])
