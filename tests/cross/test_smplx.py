"""Skinning against the smplx package, live, on the synthetic models.

`python -m tests.cross.test_smplx` writes what smplx computes to tests/golden/smplx.npz, which
tests/poses/test_lbs.py reads.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.poses.body_models import read_mano, read_smplx
from realisdance_jax.poses.synthetic_models import write_synthetic_mano, write_synthetic_smplx
from tests.poses import smplx_cases

pytestmark = pytest.mark.torch


def official_body(path: Path, add_hand_mean: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and 55 joints of smplx.SMPLX."""
    import smplx
    import torch

    with contextlib.redirect_stdout(io.StringIO()):  # it warns about files with 20 components
        model = smplx.SMPLX(
            str(path), use_pca=False, flat_hand_mean=not add_hand_mean, num_betas=10, batch_size=3
        )
    inputs = {
        name: torch.from_numpy(value.reshape(3, -1))
        for name, value in smplx_cases.body_inputs().items()
    }
    with torch.no_grad():
        output = model(**inputs)
    return output.vertices.numpy(), output.joints[:, :55].numpy()


def official_hand(path: Path, matrices: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and 16 joints of smplx.MANOLayer (matrices) or smplx.MANO (axis-angle)."""
    import smplx
    import torch
    from smplx.lbs import batch_rodrigues

    inputs = {name: torch.from_numpy(v) for name, v in smplx_cases.hand_inputs().items()}
    if matrices:
        for name in ("global_orient", "hand_pose"):
            pose = inputs[name]
            inputs[name] = batch_rodrigues(pose.reshape(-1, 3)).reshape(*pose.shape, 3)
        model = smplx.MANOLayer(str(path), is_rhand=True)
    else:
        inputs = {name: value.reshape(2, -1) for name, value in inputs.items()}
        model = smplx.MANO(
            str(path), is_rhand=True, use_pca=False, flat_hand_mean=False, batch_size=2
        )
    with torch.no_grad():
        output = model(**inputs)
    return output.vertices.numpy(), output.joints[:, :16].numpy()


@pytest.mark.parametrize("components", [20, 400])
@pytest.mark.parametrize("add_hand_mean", [True, False])
def test_bodies_are_smplx(tmp_path, components, add_hand_mean):
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    write_synthetic_smplx(path, components=components)
    ours = smplx_cases.our_body(read_smplx(path), add_hand_mean)
    for mine, theirs in zip(ours, official_body(path, add_hand_mean), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=smplx_cases.TOLERANCE)


@pytest.mark.parametrize("matrices", [True, False])
def test_hands_are_smplx(tmp_path, matrices):
    path = tmp_path / "MANO_RIGHT.pkl"
    write_synthetic_mano(path)
    ours = smplx_cases.our_hand(read_mano(path), matrices)
    for mine, theirs in zip(ours, official_hand(path, matrices), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=smplx_cases.TOLERANCE)


def test_golden_file_is_current(tmp_path):
    made = results(tmp_path)
    with np.load(smplx_cases.GOLDEN) as golden:
        assert sorted(golden.files) == sorted(made)
        for name, values in made.items():
            np.testing.assert_allclose(golden[name], values, rtol=0, atol=1e-6)


def results(folder: Path) -> dict[str, np.ndarray]:
    """What the golden file holds."""
    body, hand = folder / "SMPLX_NEUTRAL.npz", folder / "MANO_RIGHT.pkl"
    write_synthetic_smplx(body)
    write_synthetic_mano(hand)
    pairs = {
        "body": official_body(body, add_hand_mean=True),
        "hand": official_hand(hand, matrices=False),
        "hand_matrices": official_hand(hand, matrices=True),
    }
    return {
        f"{name}.{kind}": values
        for name, pair in pairs.items()
        for kind, values in zip(("vertices", "joints"), pair, strict=True)
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        np.savez_compressed(smplx_cases.GOLDEN, **results(Path(scratch)))
