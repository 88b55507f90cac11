"""Poses of the synthetic models, and what our skinning makes of them.

Shared by the test on golden/smplx.npz and its live twin, tests/cross/test_smplx.py.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from realisdance_jax.poses.body_models import SMPLX_PARTS, BodyModel, smplx_pose
from realisdance_jax.poses.lbs import make_skin, rotation_matrices, skin

GOLDEN = Path(__file__).parents[1] / "golden" / "smplx.npz"
TOLERANCE = 1e-5


def body_inputs() -> dict[str, np.ndarray]:
    """Three frames of an estimator: at rest, posed, and far from rest."""
    random = np.random.default_rng(1)
    reach = np.array([0.0, 0.2, 0.9])[:, None, None]
    parts = {
        name: (reach * random.normal(size=(3, part.stop - part.start, 3))).astype(np.float32)
        for name, part in SMPLX_PARTS.items()
    }
    return parts | {
        "betas": random.normal(size=(3, 10)).astype(np.float32),
        "expression": random.normal(size=(3, 10)).astype(np.float32),
        "transl": random.normal(size=(3, 3)).astype(np.float32),
    }


def hand_inputs() -> dict[str, np.ndarray]:
    """Two frames of a hand, axis-angle."""
    random = np.random.default_rng(2)
    return {
        "global_orient": random.normal(size=(2, 1, 3)).astype(np.float32),
        "hand_pose": (0.4 * random.normal(size=(2, 15, 3))).astype(np.float32),
        "betas": random.normal(size=(2, 10)).astype(np.float32),
        "transl": random.normal(size=(2, 3)).astype(np.float32),
    }


def our_body(model: BodyModel, add_hand_mean: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints of the three frames."""
    inputs = body_inputs()
    parts = {name: inputs[name] for name in SMPLX_PARTS}
    shape = np.concatenate([inputs["betas"], inputs["expression"]], axis=1)
    pose = smplx_pose(model, parts, add_hand_mean)
    return tuple(map(np.asarray, skin(make_skin(model), shape, pose, inputs["transl"])))


def our_hand(model: BodyModel, matrices: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints of the two frames: as HaMeR (matrices, no mean) or relaxed."""
    inputs = hand_inputs()
    pose = np.concatenate([inputs["global_orient"], inputs["hand_pose"]], axis=1)
    pose = rotation_matrices(jnp.asarray(pose)) if matrices else pose + model.pose_mean
    return tuple(map(np.asarray, skin(make_skin(model), inputs["betas"], pose, inputs["transl"])))
