"""Options of `prepare poses`."""

import argparse
from pathlib import Path
from typing import Any, get_args

from realisdance_jax.data.config import CONDITIONS
from realisdance_jax.poses.dwpose_people import Person
from realisdance_jax.poses.smpl_cs import BodyLook
from realisdance_jax.preparing.framing import Mode
from realisdance_jax.preparing.painters import Renderer
from realisdance_jax.preparing.plugins import source_value
from realisdance_jax.preparing.values import at_least_one, positive, size_value

KEYPOINTS = ("dwpose", "openpose", "musepose")
"""Options that name a file of keypoints, which are also its kinds."""

SMOOTH_HZ = 1.5


def add_options(poses: Any) -> None:
    """Add them to the parser of the command."""
    _add_inputs(poses)
    _add_estimators(poses)
    _add_painting(poses)
    align = poses.add_argument_group("alignment to the reference picture")
    align.add_argument("--ref-dwpose", type=Path, help="keypoints of the reference, one frame")
    align.add_argument("--ref", type=Path, help="the picture, copied to OUT; tells its size")
    modes = (
        "one scale and shift for all, also limb by limb, or none (default: similarity with "
        "--ref-dwpose or with --ref and --dwpose-detector, none without --ref)"
    )
    align.add_argument("--align", choices=get_args(Mode), help=modes)
    shape = "limbs: body of the reference, whose shape coefficients are taken"
    align.add_argument("--ref-body", type=Path, help=shape)
    canvas = "HxW of the conditions (default: the reference's shape at the driver's scale)"
    align.add_argument("--canvas", type=size_value, help=canvas)
    mend = poses.add_argument_group("repair, recorded in repair.json")
    leaps = "take out points that leap and come back, interpolate gaps up to 4 frames"
    mend.add_argument("--repair", action="store_true", help=leaps)
    one_euro = f"One-Euro filter, HZ at rest ({SMOOTH_HZ:g} if no number follows)"
    mend.add_argument(
        "--smooth", type=positive, nargs="?", const=SMOOTH_HZ, metavar="HZ", help=one_euro
    )
    mend.add_argument("--report", type=Path, help="page of plots to write, one .html")


def _add_inputs(poses: Any) -> None:
    files = poses.add_argument_group("driver: any subset; what is absent is black in sampling")
    kinds = files.add_mutually_exclusive_group()
    kinds.add_argument("--dwpose", type=Path, help="DWPose .pkl, .json, folder, or clip .npz")
    kinds.add_argument("--openpose", type=Path, help="OpenPose JSON, one file or a folder")
    kinds.add_argument("--musepose", type=Path, help="MusePose .npy")
    body = "SMPLer-X folder, GVHMR .pt, clip .npz, or `command:PROGRAM ... {video} {out}`"
    files.add_argument("--body", type=source_value, metavar="BODY", help=body)
    files.add_argument("--body-model", type=Path, help="your SMPLX_NEUTRAL.npz")
    hands = "HaMeR .pkl or .npz, or a command as for --body"
    files.add_argument("--hands", type=source_value, metavar="HANDS", help=hands)
    files.add_argument("--mano", type=Path, help="your MANO_RIGHT.pkl, or .npz of convert-mano")
    ready = f"ready-made video, moved as a picture; NAME of {', '.join(CONDITIONS)}; repeatable"
    files.add_argument(
        "--warp", type=_named_video, action="append", default=[], metavar="NAME=VIDEO", help=ready
    )
    files.add_argument("--size", type=size_value, help="of the driver's frames, HxW, if unknown")
    files.add_argument("--fps", type=positive, help="of the driver (default: as its files say)")
    person = "whom to keep of several: of each frame the largest, or one by his or her track"
    files.add_argument("--person", choices=get_args(Person), default="largest", help=person)
    files.add_argument("--trim", action="store_true", help="cut everything to the shortest")
    files.add_argument("--out", type=Path, required=True, help="folder to write; a case of sample")


def _add_estimators(poses: Any) -> None:
    run = poses.add_argument_group("estimators, run here; results are kept in OUT/estimated")
    video = "the driver's film: its size and rate, and what DWPose and commands look at"
    run.add_argument("--video", type=Path, help=video)
    detector = "your yolox_l.onnx: finds keypoints of --video and --ref that no file gives"
    run.add_argument("--dwpose-detector", type=Path, help=detector)
    run.add_argument("--dwpose-pose", type=Path, help="your dw-ll_ucoco_384.onnx")


def _add_painting(poses: Any) -> None:
    look = poses.add_argument_group("painting")
    looks = "of the body: of RealisDance (sd) or RealisDance-DiT (dit)"
    look.add_argument("--look", choices=get_args(BodyLook), default="sd", help=looks)
    colours = "vertex colours, your smplx_color.pt or .npy (default: close to them)"
    look.add_argument("--colours", type=Path, help=colours)
    look.add_argument("--draw", action="store_true", help="dwpose_drawn.mp4 too, to look at")
    renderer = "gl needs the extra [gl] and an EGL driver"
    look.add_argument("--renderer", choices=get_args(Renderer), default="numpy", help=renderer)
    processes = "processes that paint (default: one per spare core if the video is long enough)"
    look.add_argument("--workers", type=at_least_one, help=processes)


def _named_video(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if name not in CONDITIONS or not path:
        known = ", ".join(CONDITIONS)
        raise argparse.ArgumentTypeError(f"expected NAME=VIDEO, NAME of {known}, found {text!r}")
    return name, Path(path)
