"""Weights in one small file: all of them, rounded once, and nothing else."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from realisdance_jax.checkpoints.packed import pack_weights, unpack_weights
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, abstract_component
from realisdance_jax.checkpoints.weights import load_component, read_manifest
from realisdance_jax.models.config import DinoConfig, MotionConfig, RealisDanceConfig, VAEConfig
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.tree import flatten
from tests.models.tiny import POSE, TWO_LEVELS

MODEL = RealisDanceConfig(
    unet=TWO_LEVELS,
    pose=dataclasses.replace(POSE, kind="ungated"),
    dino=DinoConfig(width=8, layers=1, heads=2, table_size=3),
    vae=VAEConfig(widths=(4, 4, 4, 4), layers_per_block=1, norm_groups=4),
    motion=MotionConfig(heads=2, max_frames=6),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "weights"
    write_random_weights(folder, MODEL)
    return folder


def leaves_of(component: str) -> list:
    return jax.tree.leaves(dict(abstract_component(MODEL, component)))


def test_there_and_back(folder, tmp_path):
    size = pack_weights(folder, tmp_path / "small.npz")
    assert size == (tmp_path / "small.npz").stat().st_size
    leaves = [x for n in ALL_COMPONENTS for x in leaves_of(n)]
    assert size < 2 * sum(math.prod(x.shape) for x in leaves) + 10_000
    manifest = unpack_weights(tmp_path / "small.npz", tmp_path / "back")
    assert manifest.model == MODEL == read_manifest(tmp_path / "back").model
    before = read_manifest(folder)
    for name in before.components:
        a = flatten(load_component(folder, before, name))
        b = flatten(load_component(tmp_path / "back", manifest, name))
        assert a.keys() == b.keys()
        for path, x in a.items():
            wanted = x if path.endswith("/pe") else np.asarray(x).astype(np.float16)
            np.testing.assert_array_equal(b[path], np.asarray(wanted, np.float32), err_msg=path)


def test_what_is_not_packed_weights_is_refused(folder, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="expected packed weights"):
        unpack_weights(bad, tmp_path / "x")
    pack_weights(folder, bad)
    with np.load(bad) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "vae"}
    np.savez(bad, **kept)
    with pytest.raises(UserError, match=r"as its manifest says, found clip_projector, image_enc"):
        unpack_weights(bad, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("vae", "reason"),
    [
        (np.zeros(3, np.float16), r"vae: expected [0-9]+ values, found 3"),
        (np.zeros(3, complex), "vae: expected half precision, found complex128"),
        (np.array(["a"]), "vae: expected half precision, found <U1"),
        (None, "vae: expected finite values, found others"),
    ],
)
def test_whole_archives_of_other_arrays_are_refused(vae, reason, folder, tmp_path):
    bad = tmp_path / "bad.npz"
    pack_weights(folder, bad)
    with np.load(bad) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    np.savez(bad, **kept | {"vae": np.full_like(kept["vae"], np.nan) if vae is None else vae})
    with pytest.raises(UserError, match=reason):
        unpack_weights(bad, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 99}, "expected format 1, found 99"),
        ({"components": {}}, "as its manifest says, found clip_projector"),
        ({"components": {"vae": "", "odd": ""}}, "as its manifest says, found clip_projector"),
        ({"norm_groups": 7}, "unet: width 8 must divide by 7 norm groups"),
        ({"norm_groups": 0}, "expected sizes of at least 1, found 0"),
        ({"vae": {"widths": []}}, r"vae.widths: expected at least one entry, found none"),
    ],
)
def test_manifests_of_no_model_are_refused(change, reason, folder, tmp_path):
    bad = tmp_path / "bad.npz"
    pack_weights(folder, bad)
    with np.load(bad) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    told = json.loads(bytes(kept["manifest"]))
    if "norm_groups" in change:
        told["model"]["unet"] |= change
    elif "vae" in change:
        told["model"]["vae"] |= change["vae"]
    else:
        told |= change
    data = np.frombuffer(json.dumps(told).encode(), np.uint8)
    np.savez(bad, **kept | {"manifest": data})
    with pytest.raises(UserError, match=reason):
        unpack_weights(bad, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_damage_is_refused_in_one_line(folder, tmp_path):
    """Any byte may be another one, and the file may end early or be another kind of numpy file."""
    bad, random = tmp_path / "bad.npz", np.random.default_rng(0)
    pack_weights(folder, bad)
    data = bad.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    damaged = [data[: len(data) // 2], (tmp_path / "array.npy").read_bytes()]
    for place in random.integers(0, len(data), 40):
        changed = bytearray(data)
        changed[place] ^= 0xFF
        damaged.append(bytes(changed))
    reasons = [refusal(bad, content, tmp_path / "x") for content in damaged]
    refused = [reason for reason in reasons if reason is not None]
    assert len(refused) > 30
    assert all(reason.startswith(str(bad)) and "\n" not in reason for reason in refused)


def refusal(file, content: bytes, folder) -> str | None:
    """None where the damage changed a value that may be any number."""
    file.write_bytes(content)
    try:
        unpack_weights(file, folder)
    except UserError as error:
        return str(error)
    return None
