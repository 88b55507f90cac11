"""Any estimator's output to a typed clip: one reader per program, and a guess which one it is."""

import os
from collections.abc import Callable
from pathlib import Path

from realisdance_jax.poses.array_files import npz_names
from realisdance_jax.poses.clip_files import load_clip
from realisdance_jax.poses.clips import Clip
from realisdance_jax.poses.dwpose_files import read_dwpose, read_musepose
from realisdance_jax.poses.gvhmr_files import read_gvhmr
from realisdance_jax.poses.hamer_files import read_hamer
from realisdance_jax.poses.openpose_files import read_openpose
from realisdance_jax.poses.smplerx_files import read_smplerx
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file
from realisdance_jax.utils.listing import listed_files

__all__ = [
    "READERS",
    "guess_kind",
    "read_dwpose",
    "read_gvhmr",
    "read_hamer",
    "read_musepose",
    "read_openpose",
    "read_poses",
    "read_smplerx",
]

READERS: dict[str, Callable[..., Clip]] = {
    "dwpose": read_dwpose,
    "musepose": read_musepose,
    "openpose": read_openpose,
    "smplerx": read_smplerx,
    "gvhmr": read_gvhmr,
    "hamer": read_hamer,
}
"""Readers by kind; all take (path, size, fps)."""

CLIP = "clip"
"""The kind of what `save_clip` wrote."""

_SUFFIXES = {".npy": "musepose", ".pt": "gvhmr", ".pth": "gvhmr"}


def read_poses(
    path: str | Path,
    kind: str | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
) -> Clip:
    """Read poses of any kind.

    Args:
        path: file or folder as the reader of its kind takes it, or a clip from `save_clip`.
        kind: a name of `READERS` or "clip"; by default `guess_kind` of the path.
        size: height and width of the frames, for files that do not say; not for clips.
        fps: frames per second, for files that do not say; not for clips.

    Raises `UserError` for whatever is unreadable, damaged or unsafe; nothing in a file is run.
    """
    kind = guess_kind(path) if kind is None else kind
    if kind == CLIP:
        return load_clip(path)
    if kind not in READERS:
        raise UserError(
            f"{path}: expected a kind among {', '.join((*READERS, CLIP))}, found {kind!a}"
        )
    return READERS[kind](path, size, fps)


def guess_kind(path: str | Path) -> str:
    """Which program wrote `path`, by its ending, layout and a look at the names inside.

    Raises `UserError` when it looks like nothing known.
    """
    path = Path(path)
    if os.path.isdir(path):
        if (path / "smplx").is_dir():
            return "smplerx"
        return _kind_of_json(listed_files(path, (".json",), "pose files")[0])
    suffix = existing_file(path, "a file or folder of poses").suffix.lower()
    if suffix == ".json":
        return _kind_of_json(path)
    if suffix in (".pkl", ".pickle"):
        content = _content(path)
        return "hamer" if b"all_verts" in content and b"bodies" not in content else "dwpose"
    if suffix == ".npz":
        return "hamer" if "all_verts" in npz_names(path) else CLIP
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    raise UserError(
        f"{path}: expected poses (.pkl, .json, .npy, .pt, .npz or a folder), found "
        f"{suffix or 'no ending'}"
    )


def _kind_of_json(path: Path) -> str:
    return "openpose" if b'"people"' in _content(path) else "dwpose"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected a file of poses ({error.strerror})") from None
