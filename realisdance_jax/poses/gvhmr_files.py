"""GVHMR's `hmr4d_results.pt` as a `BodyClip`: body in camera axes, no fingers and no face."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.poses.clips import BODY_PARAMETERS, BodyClip
from realisdance_jax.poses.file_values import check_room, field, frame_size, within
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.lazy import LazyTensor
from realisdance_jax.utils.torch_files.torchzip import torch_content

_PARAMETERS = {"global_orient": (3,), "body_pose": (63,), "betas": (10,), "transl": (3,)}
_UNKNOWN = {name: BODY_PARAMETERS[name] for name in BODY_PARAMETERS.keys() - _PARAMETERS.keys()}
_MOST_UNPACKED, _MOST_PICKLED = 1 << 26, 1 << 22
_FURTHEST = 1e6


def read_gvhmr(
    path: str | Path, size: tuple[int, int] | None = None, fps: float | None = None
) -> BodyClip:
    """Read what GVHMR's demo saved with torch.save (zip format); nothing in it is run.

    The hands are the model's mean ones, so their pose is zero and `add_hands_mean` set.

    Args:
        path: `hmr4d_results.pt` or `pred.pt`, with `smpl_params_incam` and `K_fullimg`.
        size: height and width of the frames; by default worked out if the camera is the one that
            GVHMR assumes, as long as the frame's diagonal and centred.
        fps: kept in the clip.

    Raises `UserError` naming file and key for anything missing, misshapen or not finite.
    """
    content = torch_content(path, _MOST_UNPACKED, _MOST_PICKLED)
    found = field(str(path), content, "smpl_params_incam")
    camera = _values(path, "K_fullimg", field(str(path), content, "K_fullimg"), (3, 3), None)
    frames = len(camera)
    if not frames:
        raise UserError(f"{path}: K_fullimg: expected frames, found none")
    where = f"{path}: smpl_params_incam"
    parts = {
        name: _values(path, f"smpl_params_incam: {name}", field(where, found, name), shape, frames)
        for name, shape in _PARAMETERS.items()
    }
    focal, princpt = camera[:, [0, 1], [0, 1]], camera[:, :2, 2]
    if np.any(focal <= 0):
        raise UserError(f"{path}: K_fullimg: expected focal lengths above zero, found others")
    return BodyClip(
        present=np.ones(frames, bool),
        **parts | {"body_pose": parts["body_pose"].reshape(frames, 21, 3)},
        **{name: np.zeros((frames, *shape)) for name, shape in _UNKNOWN.items()},
        focal=focal,
        princpt=princpt,
        add_hands_mean=True,
        size=size or _assumed_size(focal, princpt),
        fps=fps,
    )


def _values(
    path: str | Path, key: str, value: Any, trailing: tuple[int, ...], frames: int | None
) -> np.ndarray:
    """A tensor of the file as float64, its shape checked before any of it is read."""
    shown = ", ".join(map(str, ("f" if frames is None else frames, *trailing)))
    expected = f"{path}: {key}: expected numbers of shape ({shown})"
    if not isinstance(value, LazyTensor | np.ndarray):
        raise UserError(f"{expected}, found {type(value).__name__}")
    right = value.shape[1:] == trailing and len(value.shape) == 1 + len(trailing)
    if not right or (frames is not None and value.shape[0] != frames):
        raise UserError(f"{expected}, found shape {value.shape}")
    if value.dtype.kind not in "iuf":
        raise UserError(f"{expected}, found values of type {value.dtype}")
    check_room(path, value.shape[0], 1, math.prod(trailing))
    array = value.read() if isinstance(value, LazyTensor) else value
    return within(f"{path}: {key}", array.astype(np.float64), _FURTHEST, "plausible numbers")


def _assumed_size(focal: np.ndarray, princpt: np.ndarray) -> tuple[int, int] | None:
    """(H, W) if every frame has the camera that GVHMR assumes when it knows none."""
    width, height = np.round(2 * princpt[0])
    usual = np.allclose(2 * princpt, [width, height], atol=0.01)
    if not usual or not np.allclose(focal, math.hypot(width, height), rtol=1e-3):
        return None
    if not 1 <= min(width, height) <= max(width, height) < 2**15:
        return None
    return frame_size("K_fullimg", height, width)
