"""Linear blend skinning in JAX: pose and shape of many frames to vertices, in one jitted call.

SMPL (Loper et al., 2015, section 3): shape and pose offsets are added to the rest mesh, and each
vertex follows a weighted mean of the joints' rigid motions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.poses.body_models import BodyModel
from realisdance_jax.shapes import Array, Float, Int, typechecked

_EXACT = jax.lax.Precision.HIGHEST  # accelerators would otherwise round to bfloat16


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Skin:
    """A model laid out for skinning, on the device.

    offsets: vertex offsets per shape coefficient, then per entry of R - I; d = s + 9 (j - 1).
    joints, joint_offsets: rest joints, and their offsets per shape coefficient.
    ancestors: row r holds the ancestor 2^r steps up, j where there is none.
    """

    template: Float[Array, " v3"]
    offsets: Float[Array, "d v3"]
    weights: Float[Array, "v j"]
    joints: Float[Array, "j 3"]
    joint_offsets: Float[Array, "s j 3"]
    ancestors: Int[Array, "r j"]


@typechecked
def make_skin(model: BodyModel, betas: int = 10, expressions: int = 10) -> Skin:
    """Prepare `model` for its first `betas` shape and `expressions` expression coefficients.

    Fewer are used when the model has fewer. Joints are regressed here, once, in float64.
    """
    shape = np.concatenate([model.shape[..., :betas], model.expression[..., :expressions]], axis=-1)
    offsets = np.concatenate([shape, model.pose], axis=-1)
    regressor = model.joint_regressor.astype(np.float64)
    joints = regressor @ model.template
    joint_offsets = np.einsum("jv,vcs->sjc", regressor, shape, optimize=True)
    return Skin(
        template=jnp.asarray(model.template.reshape(-1)),
        offsets=jnp.asarray(offsets.reshape(-1, offsets.shape[-1]).T),
        weights=jnp.asarray(model.weights),
        joints=jnp.asarray(joints, jnp.float32),
        joint_offsets=jnp.asarray(joint_offsets, jnp.float32),
        ancestors=jnp.asarray(_ancestors(model.parents)),
    )


def _ancestors(parents: tuple[int, ...]) -> np.ndarray:
    """(r j) ancestors 1, 2, 4, ... steps up until nobody has one; j stands for none."""
    count = len(parents)
    step = np.array([*(parent if parent >= 0 else count for parent in parents), count])
    rows = []
    while np.any(step < count):
        rows.append(step[:count])
        step = step[step]
    return np.array(rows, np.int32).reshape(-1, count)


@typechecked
def rotation_matrices(axis_angle: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Rodrigues' formula, exact at and near zero; angles in radians."""
    square = jnp.sum(axis_angle**2, axis=-1)[..., None, None]
    small = square < 1e-6
    angle = jnp.sqrt(jnp.where(small, 1.0, square))
    sine = jnp.where(small, 1 - square / 6, jnp.sin(angle) / angle)
    cosine = jnp.where(small, 0.5 - square / 24, 2 * (jnp.sin(angle / 2) / angle) ** 2)
    x, y, z = jnp.moveaxis(axis_angle, -1, 0)
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    cross = cross.reshape(*axis_angle.shape, 3)
    squared = jnp.einsum("...ij,...jk->...ik", cross, cross, precision=_EXACT)
    return jnp.eye(3) + sine * cross + cosine * squared


@jax.jit
@typechecked
def skin(
    model: Skin,
    shape: Float[Array, "b s"],
    pose: Float[Array, "b j 3"] | Float[Array, "b j 3 3"],
    translation: Float[Array, "b 3"],
) -> tuple[Float[Array, "b v 3"], Float[Array, "b j 3"]]:
    """Vertices and joints of b frames, metres.

    Args:
        model: from `make_skin`.
        shape: shape coefficients, then expression.
        pose: of every joint against its parent: axis-angle, or rotation matrices.
        translation: added to everything.
    """
    turns = rotation_matrices(pose) if pose.ndim == 3 else pose
    bends = (turns[:, 1:] - jnp.eye(3)).reshape(len(turns), -1)
    amounts = jnp.concatenate([shape, bends], axis=-1)
    moved = model.template + jnp.matmul(amounts, model.offsets, precision=_EXACT)
    rest = model.joints + jnp.einsum("bs,sjc->bjc", shape, model.joint_offsets, precision=_EXACT)
    turns, places = _chain(turns, rest, model.ancestors)
    shifts = places - jnp.einsum("bjxy,bjy->bjx", turns, rest, precision=_EXACT)
    rigid = jnp.concatenate([turns, shifts[..., None]], axis=-1)
    mixed = jnp.einsum(
        "vj,bjk->bkv", model.weights, rigid.reshape(*turns.shape[:2], 12), precision=_EXACT
    )
    x, y, z = jnp.moveaxis(moved.reshape(len(turns), -1, 3), -1, 0)
    rows = mixed.reshape(len(turns), 3, 4, -1)
    vertices = rows[:, :, 0] * x[:, None] + rows[:, :, 1] * y[:, None] + rows[:, :, 2] * z[:, None]
    vertices = jnp.swapaxes(vertices + rows[:, :, 3], 1, 2)
    return vertices + translation[:, None], places + translation[:, None]


def _chain(
    turns: Float[Array, "b j 3 3"], rest: Float[Array, "b j 3"], ancestors: Int[Array, "r j"]
) -> tuple[Float[Array, "b j 3 3"], Float[Array, "b j 3"]]:
    """Rotation and place of every joint in camera axes.

    Pointer doubling: after r rounds a joint's motion includes its 2^r - 1 nearest ancestors, so the
    eleven levels of SMPL-X take four rounds over all joints instead of 54 products in a row.
    """
    batch = len(rest)

    def with_root(of_joints: Array, value: Array) -> Array:
        return jnp.concatenate(
            [of_joints, jnp.broadcast_to(value, (batch, 1, *value.shape))], axis=1
        )

    if len(ancestors) == 0:
        return turns, rest
    origin = with_root(rest, jnp.zeros(3))
    places = rest - origin[:, ancestors[0]]
    for up in ancestors:
        above, at = with_root(turns, jnp.eye(3))[:, up], with_root(places, jnp.zeros(3))[:, up]
        places = at + jnp.einsum("bjxy,bjy->bjx", above, places, precision=_EXACT)
        turns = jnp.einsum("bjxy,bjyz->bjxz", above, turns, precision=_EXACT)
    return turns, places


@typechecked
def skin_frames(
    model: Skin,
    shape: Float[np.ndarray, "f s"],
    pose: Float[np.ndarray, "f j 3"] | Float[np.ndarray, "f j 3 3"],
    translation: Float[np.ndarray, "f 3"],
    batch: int = 64,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Vertices (v 3) and joints (j 3) of every frame in turn, computed `batch` frames at a time.

    The last batch is padded, so that a clip of any length compiles once; memory does not grow.
    """
    for first in range(0, len(pose), batch):
        parts = [part[first : first + batch] for part in (shape, pose, translation)]
        count = len(parts[0])
        padded = [
            np.concatenate([part, np.repeat(part[-1:], batch - count, axis=0)]) for part in parts
        ]
        vertices, joints = skin(model, *(jnp.asarray(part, jnp.float32) for part in padded))
        yield from zip(np.asarray(vertices)[:count], np.asarray(joints)[:count], strict=True)
