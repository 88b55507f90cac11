"""SMPL-X and MANO model files, which every user downloads under their own licence, as typed arrays.

Only the entries needed are read, and never through an unrestricted pickle. Pose order of SMPL-X:
root, 21 body joints, jaw, left and right eye, then 15 joints of the left and 15 of the right hand
(index, middle, pinky, ring, thumb; three each). Of MANO: root, then the same 15.
"""

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realisdance_jax.poses.array_files import why_unreadable
from realisdance_jax.poses.mano_pickle import read_model_pickle
from realisdance_jax.shapes import Float, Int, typechecked
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output, existing_file

SMPLX_JOINTS, MANO_JOINTS = 55, 16
SMPLX_PARTS = {
    "global_orient": slice(0, 1),
    "body_pose": slice(1, 22),
    "jaw_pose": slice(22, 23),
    "leye_pose": slice(23, 24),
    "reye_pose": slice(24, 25),
    "left_hand_pose": slice(25, 40),
    "right_hand_pose": slice(40, 55),
}
"""Joints of every part of an SMPL-X pose, by the names that estimators use."""

_SHAPE_SPACE, _EXPRESSION_SPACE = 300, 100  # of files with all components; older ones have 10 + 10

_FAMILIES = {MANO_JOINTS: "a MANO", 24: "an SMPL", 52: "an SMPL+H", SMPLX_JOINTS: "an SMPL-X"}
"""By the number of joints."""

_MANO_SHAPES = {
    "v_template": "v 3",
    "f": "n 3",
    "weights": "v 16",
    "J_regressor": "16 v",
    "kintree_table": "2 16",
    "shapedirs": "v 3 s",
    "posedirs": "v 3 135",
    "hands_mean": "45",
}
_SMPLX_SHAPES = {
    "v_template": "v 3",
    "f": "n 3",
    "weights": "v 55",
    "J_regressor": "55 v",
    "kintree_table": "2 55",
    "shapedirs": "v 3 s",
    "posedirs": "v 3 486",
    "hands_meanl": "45",
    "hands_meanr": "45",
}


@dataclass(frozen=True, eq=False)
class BodyModel:
    """A mesh with a skeleton; float32, metres, rest pose.

    template: vertices of the mean shape. faces: counter-clockwise seen from outside.
    weights: share of each joint in a vertex. joint_regressor: joints from vertices.
    shape, expression: offsets per unit of each coefficient; e is 0 for MANO.
    pose: offsets per entry of R - I of all joints but the root, row by row; p = 9 (j - 1).
    pose_mean: axis-angle of the relaxed fingers, zero elsewhere.
    parents: parent of every joint, -1 for the root; a parent precedes its children.
    """

    template: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "n 3"]
    weights: Float[np.ndarray, "v j"]
    joint_regressor: Float[np.ndarray, "j v"]
    shape: Float[np.ndarray, "v 3 s"]
    expression: Float[np.ndarray, "v 3 e"]
    pose: Float[np.ndarray, "v 3 p"]
    pose_mean: Float[np.ndarray, "j 3"]
    parents: tuple[int, ...]


def read_smplx(path: str | Path) -> BodyModel:
    """Read `SMPLX_NEUTRAL.npz` (or another gender), with 300 + 100 or 10 + 10 components.

    Raises `UserError` naming file and entry for anything missing, misshapen or not finite.
    """
    return smplx_model(_read_npz(path, _SMPLX_SHAPES, "an SMPL-X model (.npz)"), str(path))


def read_mano(path: str | Path) -> BodyModel:
    """Read `MANO_RIGHT.pkl`, or the `.npz` that `convert_mano` made of it.

    Raises `UserError` as `read_smplx`, and for a pickle that mentions anything but numbers.
    """
    return mano_model(_read_mano_arrays(path), str(path))


def convert_mano(source: str | Path, target: str | Path) -> None:
    """Write what is needed of a MANO pickle to a plain `.npz`, values and types unchanged.

    Raises `UserError` as `read_mano`, or when `target` is no `.npz`.
    """
    if Path(target).suffix.lower() != ".npz":
        raise UserError(f"{target}: expected a name ending in .npz, found {Path(target).name!a}")
    arrays = _read_mano_arrays(source)
    mano_model(arrays, str(source))
    with atomic_output(target) as partial:
        np.savez(partial, allow_pickle=False, **arrays)


def _read_mano_arrays(path: str | Path) -> dict[str, np.ndarray]:
    what = "a MANO model (.pkl or .npz)"
    suffix = existing_file(path, what).suffix.lower()
    if suffix == ".npz":
        return _read_npz(path, _MANO_SHAPES, what)
    if suffix in (".pkl", ".pickle"):
        return read_model_pickle(path, _MANO_SHAPES)
    raise UserError(f"{path}: expected {what}, found {suffix or 'no ending'}")


@typechecked
def smplx_model(arrays: Mapping[str, np.ndarray], where: str = "SMPL-X model") -> BodyModel:
    """The model in the arrays of an SMPL-X file; `where` opens the error messages."""
    found = _checked(where, arrays, _SMPLX_SHAPES)
    directions = found["shapedirs"]
    full = directions.shape[2] >= _SHAPE_SPACE + _EXPRESSION_SPACE
    first = _SHAPE_SPACE if full else 10
    last = first + (_EXPRESSION_SPACE if full else 10)
    mean = np.zeros((SMPLX_JOINTS, 3), np.float32)
    mean[SMPLX_PARTS["left_hand_pose"]] = found["hands_meanl"].reshape(15, 3)
    mean[SMPLX_PARTS["right_hand_pose"]] = found["hands_meanr"].reshape(15, 3)
    return _model(where, found, directions[..., :first], directions[..., first:last], mean)


@typechecked
def mano_model(arrays: Mapping[str, np.ndarray], where: str = "MANO model") -> BodyModel:
    """The model in the arrays of a MANO file; `where` opens the error messages."""
    found = _checked(where, arrays, _MANO_SHAPES)
    mean = np.zeros((MANO_JOINTS, 3), np.float32)
    mean[1:] = found["hands_mean"].reshape(15, 3)
    return _model(where, found, found["shapedirs"], found["shapedirs"][..., :0], mean)


@typechecked
def smplx_pose(
    model: BodyModel, parts: Mapping[str, np.ndarray], add_hand_mean: bool = True
) -> Float[np.ndarray, "f 55 3"]:
    """Axis-angle of all joints from an estimator's parts.

    Args:
        model: an SMPL-X model.
        parts: names of `SMPLX_PARTS` to f 3k or f k 3; absent ones are zero.
        add_hand_mean: hands are relative to relaxed fingers (SMPLer-X), so absent hands relax.
    Raises `UserError` for unknown names and wrong shapes.
    """
    frames = max((part.shape[0] for part in parts.values() if part.ndim), default=0)
    pose = np.zeros((frames, SMPLX_JOINTS, 3), np.float32)
    for name, part in parts.items():
        if name not in SMPLX_PARTS:
            raise UserError(f"pose: expected parts among {', '.join(SMPLX_PARTS)}, found {name!a}")
        place = pose[:, SMPLX_PARTS[name]]
        if part.size != place.size or part.shape[0] != frames:
            raise UserError(
                f"pose: {name}: expected shape ({frames}, {place.shape[1]}, 3), found {part.shape}"
            )
        place[...] = part.reshape(place.shape)
    return pose + model.pose_mean if add_hand_mean else pose


def _read_npz(path: str | Path, keys: Iterable[str], what: str) -> dict[str, np.ndarray]:
    """Those of `keys` that the archive has; no other entry is touched, objects are refused."""
    path = existing_file(path, what)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys if key in archive}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        reason = why_unreadable(error)
    except (AttributeError, TypeError, KeyError, RuntimeError) as error:
        reason = f"{type(error).__name__}: " + " ".join(str(error).split())[:120]
    raise UserError(f"{path}: expected {what}, found an unreadable file ({reason})")


def _checked(
    where: str, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """`arrays` if their shapes agree with `shapes`, letter by letter, and all are finite."""
    _check_family(where, arrays, shapes)
    sizes: dict[str, int] = {}
    for key, letters in shapes.items():
        if key not in arrays:
            raise UserError(f"{where}: expected the entry {key!r}, found none")
        array, axes = arrays[key], letters.split()
        expected = [int(axis) if axis.isdigit() else sizes.get(axis) for axis in axes]
        known = zip(expected, array.shape, strict=False)
        if array.ndim != len(axes) or any(a not in (None, b) for a, b in known):
            shown = ", ".join(str(a or b) for a, b in zip(expected, axes, strict=True))
            raise UserError(f"{where}: {key}: expected shape ({shown}), found {array.shape}")
        sizes.update(zip(axes, array.shape, strict=True))
        if array.dtype.kind not in "iuf" or not np.all(np.isfinite(array)):
            raise UserError(f"{where}: {key}: expected finite numbers, found {array.dtype} others")
    return dict(arrays)


def _check_family(where: str, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, str]) -> None:
    """Raise `UserError` for a model with the joints of another family."""
    joints, weights = int(shapes["weights"].split()[1]), arrays.get("weights")
    found = weights.shape if weights is not None and weights.ndim == 2 else (0, joints)
    if found[1] != joints and found[1] in _FAMILIES:
        other = f"{_FAMILIES[found[1]]} model ({found[0]} vertices, {found[1]} joints)"
        raise UserError(f"{where}: expected {_FAMILIES[joints]} model, found {other}")


def _model(
    where: str,
    found: Mapping[str, np.ndarray],
    shape: np.ndarray,
    expression: np.ndarray,
    pose_mean: np.ndarray,
) -> BodyModel:
    faces, count = found["f"].astype(np.int64), len(found["v_template"])
    if faces.min(initial=0) < 0 or faces.max(initial=0) >= count:
        raise UserError(f"{where}: f: expected vertices below {count}, found {faces.max()}")
    parents = tuple(int(parent) for parent in found["kintree_table"][0])
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents) if joint):
        raise UserError(f"{where}: kintree_table: expected parents before children, found others")
    return BodyModel(
        template=found["v_template"].astype(np.float32),
        faces=faces,
        weights=found["weights"].astype(np.float32),
        joint_regressor=found["J_regressor"].astype(np.float32),
        shape=shape.astype(np.float32),
        expression=expression.astype(np.float32),
        pose=found["posedirs"].astype(np.float32),
        pose_mean=pose_mean,
        parents=(-1, *parents[1:]),
    )
