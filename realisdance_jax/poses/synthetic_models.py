"""Made-up SMPL-X and MANO models in the layout of the licensed files, for tests and the demo.

Deterministic, no download. With 10475 or 778 vertices (the default) the smplx package loads them
too. Every kind of offset is non-zero, so that nothing in skinning goes untested.
"""

import pickle
from pathlib import Path

import numpy as np

from realisdance_jax.poses import synthetic_shapes as shapes
from realisdance_jax.poses.landmarks import LANDMARKS, SMPLX_VERTICES, landmark_vertices
from realisdance_jax.poses.surface_nets import mesh_of_capsules, to_segment
from realisdance_jax.shapes import typechecked
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

MANO_VERTICES = 778
_NO_PARENT = 2**32 - 1  # how the licensed files mark the root


@typechecked
def synthetic_smplx(vertices: int = SMPLX_VERTICES, components: int = 20) -> dict[str, np.ndarray]:
    """Entries of an SMPL-X file for a plain person in a T-pose.

    Args:
        vertices: at least 1000; below 2000 the fingers run together. The landmarks of SMPL-CS are
            at `landmark_vertices(vertices)`.
        components: of shapedirs, 20 (10 shape, 10 expression) or 400 (300 and 100).
    """
    template, faces = mesh_of_capsules(shapes.body_capsules(), shapes.body_grid, 0.08, vertices)
    template, faces = _renumbered(template, faces, _landmark_places(), landmark_vertices(vertices))
    model = _skinned(template, faces, shapes.smplx_joints(), shapes.SMPLX_PARENTS, components)
    curl = _finger_curl()
    return model | {
        "hands_meanl": curl,
        "hands_meanr": curl * np.tile([1.0, -1.0, -1.0], 15),
        "hands_componentsl": np.eye(45),
        "hands_componentsr": np.eye(45),
        "lmk_faces_idx": np.arange(51),
        "lmk_bary_coords": np.full((51, 3), 1 / 3),
        "dynamic_lmk_faces_idx": np.tile(np.arange(17), (79, 1)),
        "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
    }


@typechecked
def synthetic_mano(vertices: int = MANO_VERTICES) -> dict[str, np.ndarray]:
    """Entries of a MANO file for a right hand, open at the wrist; at least 300 vertices."""
    template, faces = mesh_of_capsules(
        shapes.right_hand_capsules(), shapes.hand_grid, 0.03, vertices
    )
    model = _skinned(template, faces, shapes.mano_joints(), shapes.MANO_PARENTS, 10)
    return model | {
        "hands_mean": _finger_curl() * np.tile([1.0, -1.0, -1.0], 15),
        "hands_components": np.eye(45),
    }


def write_synthetic_smplx(
    path: str | Path, vertices: int = SMPLX_VERTICES, components: int = 20
) -> None:
    """Write the person as `SMPLX_NEUTRAL.npz` is written, with an entry that needs a pickle."""
    unread = {"joint2num": np.array({"Pelvis": 0}, dtype=object)}
    with atomic_output(path) as partial:
        np.savez(partial, allow_pickle=True, **synthetic_smplx(vertices, components), **unread)


def write_synthetic_mano(path: str | Path, vertices: int = MANO_VERTICES) -> None:
    """Write the hand as a pickle (`.pkl`) or as `prepare convert-mano` does (`.npz`)."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".pkl", ".npz"):
        raise UserError(f"{path}: expected a name ending in .pkl or .npz, found {suffix or 'none'}")
    arrays = synthetic_mano(vertices)
    with atomic_output(path) as partial:
        if suffix == ".npz":
            np.savez(partial, allow_pickle=False, **arrays)
        else:
            partial.write_bytes(pickle.dumps(arrays, protocol=2))


def _skinned(
    template: np.ndarray,
    faces: np.ndarray,
    joints: np.ndarray,
    parents: tuple[int, ...],
    components: int,
) -> dict[str, np.ndarray]:
    """The entries that both kinds of file have."""
    weights = _weights(template, joints, parents)
    return {
        "v_template": template,
        "f": faces.astype(np.uint32),
        "weights": weights,
        "J_regressor": np.stack([_regressed(template, joint) for joint in joints]),
        "kintree_table": np.array([[_NO_PARENT, *parents[1:]], range(len(parents))], np.int64),
        "shapedirs": _shape_offsets(template, components),
        "posedirs": _pose_offsets(template, weights),
    }


def _landmark_places() -> np.ndarray:
    """(19 3) where the landmarks of SMPL-CS are on the person, in their order."""
    left = dict(
        zip(("thumb", "index", "middle", "ring", "pinky"), shapes.finger_tips(), strict=True)
    )
    left |= {
        "ear": np.array([0.11, 0.3, 0.0]),
        "big_toe": np.array([0.12, -1.285, 0.18]),
        "small_toe": np.array([0.16, -1.285, 0.16]),
        "heel": np.array([0.1, -1.29, -0.09]),
    }
    places = {"nose": np.array([0.0, 0.27, 0.135])}
    for name, place in left.items():
        places[f"left_{name}"], places[f"right_{name}"] = place, place * [-1, 1, 1]
    return np.stack([places[name] for name in LANDMARKS])


def _renumbered(
    template: np.ndarray, faces: np.ndarray, places: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same mesh, with the vertices nearest to `places` under the given numbers."""
    order = np.arange(len(template))  # order[new] = old
    for done, (place, number) in enumerate(zip(places, numbers, strict=True)):
        distance = np.linalg.norm(template[order] - place, axis=1).round(9)
        distance[numbers[:done]] = np.inf
        nearest = int(np.argmin(distance))
        order[[number, nearest]] = order[[nearest, number]]
    return template[order], np.argsort(order)[faces]


def _weights(template: np.ndarray, joints: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """(v j) shares by distance to the bones that leave each joint; four joints at most."""
    distance = np.linalg.norm(template[:, None] - joints, axis=-1)
    for child, parent in enumerate(parents):
        if parent >= 0:
            bone, _ = to_segment(template, joints[parent], joints[child])
            distance[:, parent] = np.minimum(distance[:, parent], bone)
    shares = np.maximum(distance, 1e-3).round(9) ** -6
    shares[shares < np.sort(shares, axis=1)[:, -4:-3]] = 0
    return shares / shares.sum(axis=1, keepdims=True)


def _regressed(template: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """(v) smallest weights of 24 near vertices whose mean is the joint."""
    near = np.argsort(np.linalg.norm(template - joint, axis=1).round(9), kind="stable")[:24]
    equations = np.concatenate([template[near].T - joint[:, None], np.ones((1, 24))])
    row = np.zeros(len(template))
    row[near] = np.linalg.lstsq(equations, np.array([0.0, 0, 0, 1]), rcond=None)[0]
    return row


def _shape_offsets(template: np.ndarray, components: int) -> np.ndarray:
    """(v 3 s) size, then ever finer and weaker waves."""
    number = np.arange(components)
    waves = 4 * np.stack([np.cos(number), np.sin(2 * number), np.cos(3 * number)])
    phase = (template @ waves + number)[:, None] + 2 * np.arange(3)[None, :, None]
    offsets = 0.01 / (1 + number / 4) * np.sin(phase)
    offsets[..., 0] = 0.04 * template
    return offsets


def _pose_offsets(template: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(v 3 p) bulges near the joint that bends: waves over the mesh, shifted for every entry."""
    shift = np.arange(9) + 2 * np.arange(weights.shape[1] - 1)[:, None]
    phase = np.stack([np.sin(20 * template), np.cos(20 * template)], axis=-1)
    waves = phase @ np.stack([np.cos(shift), np.sin(shift)]).reshape(2, -1)
    bends = np.repeat(0.01 * weights[:, None, 1:], 9, axis=2)
    return waves * bends


def _finger_curl() -> np.ndarray:
    """(45) axis-angle of a relaxed left hand: fingers down a little, the thumb less."""
    curl = np.zeros((15, 3))
    curl[:12, 2] = -0.25
    curl[12:, 1] = 0.1
    return curl.ravel()
