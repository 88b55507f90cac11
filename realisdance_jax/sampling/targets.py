"""Where outputs go, and that nothing of the user's is lost there; checked before anything runs."""

import os
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from realisdance_jax.utils.errors import UserError


def beside(path: Path, kind: str, suffix: str | None = None) -> Path:
    """`video.mp4` -> `video_kind.mp4`, or with another suffix."""
    return path.with_name(f"{path.stem}_{kind}{path.suffix if suffix is None else suffix}")


def output_paths(
    out: Path, *, side_by_side: bool = True, gates: bool = False, frames: bool = False
) -> dict[str, Path]:
    """What belongs to the video `out`, by kind: itself, more videos and the folder `*_frames`."""
    paths = {"video": out}
    if side_by_side:
        paths["side_by_side"] = beside(out, "side_by_side")
    if gates:
        paths["gates"] = beside(out, "gates")
    if frames:
        paths["frames"] = beside(out, "frames", "")
    return paths


def latents_paths(path: Path) -> tuple[Path, Path]:
    """Of initial latents and of denoised ones."""
    return path, beside(path, "final")


def check_outputs(
    outs: Sequence[Path],
    inputs: Iterable[Path | None],
    *,
    side_by_side: bool = True,
    gates: bool = False,
    frames: bool = False,
    latents: Path | None = None,
) -> None:
    """Raise `UserError` unless all that belongs to the videos `outs` can be written.

    Nothing may stand there but outputs of the same kind: no file of `inputs` or folder that holds
    one, no folder of other things, no output of another video. Touches nothing.
    """
    chosen = {"side_by_side": side_by_side, "gates": gates, "frames": frames}
    paths: list[tuple[Path, str]] = []
    for out in outs:
        for kind, path in output_paths(out, **chosen).items():
            if kind == "frames":
                check_frames(path)
            else:
                check_output(path, ".mp4")
            paths.append((path, "folder" if kind == "frames" else "file"))
    for path in latents_paths(latents) if latents else ():
        check_output(path, ".npy")
        paths.append((path, "file"))
    read = set(chain.from_iterable(map(_marks_upwards, filter(None, inputs))))
    written: set[object] = set()
    for path, what in paths:
        marks = _marks(path)
        if marks & read:
            raise UserError(f"{path}: expected a {what} to write, found an input")
        if marks & written:
            raise UserError(f"{path}: expected one output of this name, found two")
        written |= marks


def _marks(path: Path) -> set[object]:
    """What a path shares with all others that lead to the same place: name and number on disk."""
    marks: set[object] = {path.resolve()}
    if path.exists():
        status = path.stat()
        marks.add((status.st_dev, status.st_ino))
    return marks


def _marks_upwards(path: Path) -> set[object]:
    """Marks of `path` and of all folders that it lies in."""
    resolved = path.resolve()
    return set(chain.from_iterable(map(_marks, (resolved, *resolved.parents))))


def check_frames(folder: Path) -> None:
    """Raise `UserError` unless `folder` is new, empty or holds frames only; touches nothing."""
    if not os.path.lexists(folder):
        check_folder(folder)
    elif not folder.is_dir():
        raise UserError(f"{folder}: expected a folder for frames, found a file")
    else:
        for path in folder.iterdir():
            if not re.fullmatch(r"\d{6,}\.png", path.name):
                expected = "expected a folder with nothing but frames (000000.png, ...)"
                raise UserError(f"{folder}: {expected} to replace, found {path.name}")


def check_output(path: Path, suffix: str) -> None:
    """Raise `UserError` unless a file `path` ending in `suffix` can be made; touches nothing."""
    if path.suffix.lower() != suffix:
        raise UserError(f"{path}: expected a name ending in {suffix}")
    if os.path.isdir(path):
        raise UserError(f"{path}: expected a file to write, found a folder")
    check_folder(path.absolute().parent)


def check_folder(folder: Path) -> None:
    """Raise `UserError` unless files can be made in `folder`, itself made if need be."""
    nearest = folder.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not os.path.isdir(nearest):
        raise UserError(f"{folder}: expected a folder to write to, found the file {nearest}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: cannot write there (no permission in {nearest})")
