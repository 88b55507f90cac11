"""Skinning: equal to the smplx package, and what must hold for any skeleton."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.poses.body_models import BodyModel, mano_model, smplx_model
from realisdance_jax.poses.lbs import make_skin, rotation_matrices, skin, skin_frames
from realisdance_jax.poses.synthetic_models import synthetic_mano, synthetic_smplx
from tests.poses import smplx_cases


def chain_model(parents: tuple[int, ...], seed: int = 0) -> BodyModel:
    """Two vertices per joint that follow it alone; no offsets but one of shape."""
    random, joints = np.random.default_rng(seed), len(parents)
    vertices = 2 * joints
    regressor = np.repeat(np.eye(joints), 2, axis=1) / 2
    return BodyModel(
        template=random.normal(size=(vertices, 3)).astype(np.float32),
        faces=np.zeros((0, 3), np.int64),
        weights=np.repeat(np.eye(joints, dtype=np.float32), 2, axis=0),
        joint_regressor=regressor.astype(np.float32),
        shape=random.normal(size=(vertices, 3, 1)).astype(np.float32),
        expression=np.zeros((vertices, 3, 0), np.float32),
        pose=np.zeros((vertices, 3, 9 * (joints - 1)), np.float32),
        pose_mean=np.zeros((joints, 3), np.float32),
        parents=parents,
    )


def one_by_one(model: BodyModel, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints of one frame, joint after joint, float64."""
    turns = np.asarray(rotation_matrices(jnp.asarray(pose, jnp.float32)), np.float64)
    rest = model.joint_regressor.astype(np.float64) @ model.template
    motions = []
    for joint, parent in enumerate(model.parents):
        motion = np.eye(4)
        motion[:3, :3] = turns[joint]
        motion[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
        motions.append(motions[parent] @ motion if joint else motion)
    joints = np.stack([motion[:3, 3] for motion in motions])
    vertices = [
        motion[:3, :3] @ (vertex - rest[joint]) + motion[:3, 3]
        for joint, motion in enumerate(motions)
        for vertex in model.template[2 * joint : 2 * joint + 2]
    ]
    return np.stack(vertices), joints


def posed(model: BodyModel, pose: np.ndarray, shape: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    still = jnp.zeros((len(pose), 3))
    amounts = jnp.full((len(pose), 1), shape)
    vertices, joints = skin(make_skin(model), amounts, jnp.asarray(pose, jnp.float32), still)
    return np.asarray(vertices), np.asarray(joints)


def test_the_body_is_what_smplx_makes_of_it():
    golden = np.load(smplx_cases.GOLDEN)
    vertices, joints = smplx_cases.our_body(smplx_model(synthetic_smplx()), add_hand_mean=True)
    tolerance = {"rtol": 0, "atol": smplx_cases.TOLERANCE}
    np.testing.assert_allclose(joints, golden["body.joints"], **tolerance)
    np.testing.assert_allclose(vertices, golden["body.vertices"], **tolerance)
    assert np.ptp(vertices, axis=0).mean() > 0.1  # the three frames differ


@pytest.mark.parametrize("matrices", [False, True])
def test_the_hand_is_what_smplx_makes_of_it(matrices):
    golden = np.load(smplx_cases.GOLDEN)
    name = "hand_matrices" if matrices else "hand"
    vertices, joints = smplx_cases.our_hand(mano_model(synthetic_mano()), matrices)
    tolerance = {"rtol": 0, "atol": smplx_cases.TOLERANCE}
    np.testing.assert_allclose(vertices, golden[f"{name}.vertices"], **tolerance)
    np.testing.assert_allclose(joints, golden[f"{name}.joints"], **tolerance)


def test_without_rotation_only_shape_acts():
    model = chain_model((-1, 0, 1, 1))
    vertices, joints = posed(model, np.zeros((1, 4, 3)), shape=0.7)
    expected = model.template + 0.7 * model.shape[..., 0]
    np.testing.assert_allclose(vertices[0], expected, atol=1e-6)
    np.testing.assert_allclose(joints[0], model.joint_regressor @ expected, atol=1e-6)


def test_one_joint_turns_its_own_limb_about_itself():
    model = chain_model((-1, 0, 1, 0))
    pose = np.zeros((1, 4, 3))
    pose[0, 1] = [0, 0, np.pi / 2]
    vertices, joints = posed(model, pose)
    rest = model.joint_regressor @ model.template
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = (model.template[2:6] - rest[1]) @ quarter.T + rest[1]
    np.testing.assert_allclose(vertices[0, 2:6], turned, atol=1e-5)
    np.testing.assert_allclose(vertices[0, [0, 1, 6, 7]], model.template[[0, 1, 6, 7]], atol=1e-6)
    np.testing.assert_allclose(joints[0, 2], (rest[2] - rest[1]) @ quarter.T + rest[1], atol=1e-5)


@given(st.data())
@settings(derandomize=True, max_examples=15, deadline=None)
def test_any_tree_is_what_joint_after_joint_gives(data):
    joints = data.draw(st.sampled_from([1, 6]))
    parents = (-1, *(data.draw(st.integers(0, joint - 1)) for joint in range(1, joints)))
    model = chain_model(parents, seed=joints)
    pose = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(joints, 3))
    vertices, places = posed(model, pose[None])
    expected, expected_places = one_by_one(model, pose)
    np.testing.assert_allclose(vertices[0], expected, atol=2e-5)
    np.testing.assert_allclose(places[0], expected_places, atol=2e-5)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_frames_in_batches_are_frames_one_by_one(batch):
    random = np.random.default_rng(3)
    model = make_skin(mano_model(synthetic_mano(300)))
    shape = random.normal(size=(3, 10)).astype(np.float32)
    pose = random.normal(size=(3, 16, 3)).astype(np.float32)
    translation = random.normal(size=(3, 3)).astype(np.float32)
    frames = list(skin_frames(model, shape, pose, translation, batch))
    together = skin(model, shape, pose, translation)
    assert len(frames) == 3
    for frame, expected in zip(frames, zip(*together, strict=True), strict=True):
        for values, wanted in zip(frame, expected, strict=True):
            np.testing.assert_allclose(values, wanted, atol=2e-6)


@given(st.tuples(*[st.floats(-4, 4)] * 3), st.sampled_from([1.0, 1e-2, 1e-4, 1e-8, 0.0]))
@settings(derandomize=True, max_examples=40, deadline=None)
def test_rotation_matrices_rotate_by_the_angle_about_the_axis(axis, scale):
    vector = np.array(axis) * scale
    matrix = np.asarray(rotation_matrices(jnp.asarray(vector, jnp.float32)), np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=2e-6)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=2e-6)
    np.testing.assert_allclose(matrix @ vector, vector, atol=1e-5)
    np.testing.assert_allclose(np.trace(matrix), 1 + 2 * np.cos(np.linalg.norm(vector)), atol=1e-5)
    skew = np.array(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )
    sinc = np.sinc(np.linalg.norm(vector) / np.pi)
    np.testing.assert_allclose(skew / 2, sinc * vector, atol=1e-5)


def test_rotation_matrices_have_a_gradient_at_rest():
    gradient = jax.jit(jax.jacobian(rotation_matrices))(jnp.zeros(3))
    assert np.all(np.isfinite(gradient))
    np.testing.assert_allclose(gradient[2, 1, 0], 1)  # x turns y towards z
