"""The synthetic models are sound meshes of the asked size, the same at every call."""

import numpy as np
import pytest

from realisdance_jax.poses.body_models import mano_model, smplx_model
from realisdance_jax.poses.meshes import border, signed_volume
from realisdance_jax.poses.surface_nets import Capsule, mesh_of_capsules
from realisdance_jax.poses.synthetic_models import (
    synthetic_mano,
    synthetic_smplx,
    write_synthetic_mano,
)
from realisdance_jax.utils.errors import UserError


@pytest.mark.parametrize("count", [1000, 1001, 2500])
def test_a_body_of_any_size_is_closed_and_outward(count):
    arrays = synthetic_smplx(count)
    model = smplx_model(arrays)
    assert model.template.shape == (count, 3)
    assert sorted(set(model.faces.ravel())) == list(range(count))
    assert border(model.faces) == []
    assert 0.05 < signed_volume(model.template, model.faces) < 0.09  # cubic metres
    span, height, depth = np.ptp(model.template, axis=0)
    assert 1.4 < span < 1.8  # fingers need a few vertices each
    assert 1.65 < height < 1.8
    assert 0.2 < depth < 0.4


@pytest.mark.parametrize("count", [300, 778, 1000])
def test_a_hand_of_any_size_is_open_at_the_wrist_alone(count):
    model = mano_model(synthetic_mano(count))
    assert model.template.shape == (count, 3)
    (rim,) = border(model.faces)
    assert np.all(model.template[rim, 0] > 0.005)
    assert model.template[:, 0].max() - 0.01 < model.template[rim, 0].min()


@pytest.mark.parametrize("arrays", [synthetic_smplx(2500), synthetic_mano(400)])
def test_every_kind_of_offset_acts_and_weights_add_up(arrays):
    assert np.all(np.abs(arrays["posedirs"]).max(axis=(0, 1)) > 1e-4)
    assert np.all(np.abs(arrays["shapedirs"]).max(axis=(0, 1)) > 1e-4)
    np.testing.assert_allclose(arrays["weights"].sum(axis=1), 1)
    assert np.all(arrays["weights"].max(axis=0) > 0.1)  # every joint moves something
    assert np.median(np.count_nonzero(arrays["weights"], axis=1)) == 4
    np.testing.assert_allclose(arrays["J_regressor"].sum(axis=1), 1)


def test_both_calls_make_the_same():
    one, other = synthetic_smplx(1000), synthetic_smplx(1000)
    assert sorted(one) == sorted(other)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_components_as_in_both_kinds_of_file():
    assert synthetic_smplx(1000)["shapedirs"].shape == (1000, 3, 20)
    assert synthetic_smplx(1000, components=400)["shapedirs"].shape == (1000, 3, 400)


def test_a_capsule_has_its_volume():
    capsule = Capsule((0.0, 0.0, 0.0), (0.3, 0.0, 0.0), 0.1, 0.1)
    lines = np.array([-0.15, -0.15, -0.15]), np.array([0.45, 0.15, 0.15])

    def grid(spacing):
        return tuple(np.arange(low, high, spacing) for low, high in zip(*lines, strict=True))

    vertices, faces = mesh_of_capsules([capsule], grid, 0.05, 3000)
    assert len(vertices) == 3000
    volume = np.pi * 0.1**2 * 0.3 + 4 / 3 * np.pi * 0.1**3
    assert signed_volume(vertices, faces) == pytest.approx(volume, rel=0.02)
    with pytest.raises(ValueError, match="expected at least"):
        mesh_of_capsules([capsule], grid, 0.01, 100)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected a name ending in \.pkl or \.npz, found \.txt"):
        write_synthetic_mano(tmp_path / "hand.txt", 300)
