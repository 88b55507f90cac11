"""Weights folders: what is wrong with one is said in one line."""

import gc
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, check_sizes
from realisdance_jax.checkpoints.weights import (
    Manifest,
    hash_tensors,
    is_weights_folder,
    load_component,
    merge,
    read_manifest,
    save_component,
    verify_component,
    write_manifest,
)
from realisdance_jax.models.config import DinoConfig, RealisDanceConfig, UNetConfig, VAEConfig
from tests import oracle
from tests.refusals import refusal


@pytest.fixture
def folder(stage2_weights, tmp_path):
    """A copy of the tiny weights folder: its `config.json` and its smallest component."""
    copy = tmp_path / "weights"
    shutil.copytree(stage2_weights.folder / "clip_projector", copy / "clip_projector")
    shutil.copy(stage2_weights.folder / "config.json", copy)
    return copy


def edited(folder, change) -> Manifest:
    """The manifest of `folder` after `change` to the parsed `config.json`."""
    path = folder / "config.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return read_manifest(folder)


def test_manifests_survive_writing(stage2_weights, tmp_path):
    manifest = stage2_weights.manifest
    assert read_manifest(stage2_weights.folder) == manifest
    assert set(manifest.components) == set(ALL_COMPONENTS)
    shutil.copytree(stage2_weights.folder / "vae", tmp_path / "vae")
    written = write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == written
    assert written == replace(manifest, files={"vae": manifest.files["vae"]})


def test_manifests_list_the_files_of_what_was_written(stage2_weights):
    folder, files = stage2_weights.folder, stage2_weights.manifest.files
    assert set(files) == set(ALL_COMPONENTS)
    for name, sizes in files.items():
        on_disk = {path: (folder / name / path).stat().st_size for path in sizes}
        assert on_disk == sizes
        assert len(sizes) == sum(path.is_file() for path in (folder / name).rglob("*"))
    assert any("/d/" in path and size > 1000 for path, size in files["vae"].items())


def test_folders_written_before_files_were_recorded_load(folder):
    manifest = edited(folder, lambda data: data.pop("files"))
    assert manifest.files == {}
    recorded = edited(folder, lambda data: data.update(files={"clip_projector": {"a": 1}}))
    assert recorded.weight_hash == manifest.weight_hash
    load_component(folder, manifest, "clip_projector")
    verify_component(folder, manifest, "clip_projector")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "expected JSON, found "),
        ("[" * 20000, "expected JSON, found "),
        ("[]", "expected format 1, found None"),
        ('{"format": 2}', "expected format 1, found 2"),
        ('{"format": 1}', "expected key 'model', found none"),
        ('{"format": 1, "modle": {}}', "unknown key 'modle'; did you mean 'model'?"),
        (
            '{"format": 1, "model": {"unet": {"width": [1]}}}',
            "model: unet: unknown key 'width'; did you mean 'widths'?",
        ),
        ('{"format": 1, "model": {"unet": {"widths": "320"}}}', "widths: expected a list"),
        ('{"format": 1, "model": {"unet": {"norm_groups": 0}}}', "of at least 1, found 0"),
        ('{"format": 1, "model": {"dino": {"layers": -3}}}', "dino.layers: expected at least 1"),
        ('{"format": 1, "model": {}, "uncond": "none"}', "expected one of fake, image, found"),
        (
            '{"format": 1, "model": {"unet": {"widths": [], "attention_levels": [], "heads": []}}}',
            "unet.widths: expected at least one entry, found none",
        ),
        (
            '{"format": 1, "model": {"pose": {"encoder_widths": []}}}',
            "pose.encoder_widths: expected at least one entry, found none",
        ),
        (
            '{"format": 1, "model": {"pose": {"encoder_widths": [8, 8, 8]}}}',
            "pose.encoder_widths: expected levels that shrink pictures 8 times, found 4",
        ),
        (
            '{"format": 1, "model": {"vae": {"widths": [32, 32]}}}',
            "vae.widths: expected levels that shrink pictures 8 times, found 2",
        ),
        (
            '{"format": 1, "model": {"pose": {"conditions": []}}}',
            "pose.conditions: expected at least one entry, found none",
        ),
        (
            '{"format": 1, "model": {"pose": {"conditions": ["foo", "smpl"]}}}',
            "pose: conditions: expected some of dwpose, hamer, smpl, each once, got foo, smpl",
        ),
        (
            '{"format": 1, "model": {"pose": {"conditions": ["smpl", "smpl"]}}}',
            "each once, got smpl, smpl",
        ),
        ('{"format": 1, "model": {"vae": {"norm_groups": 0}}}', "vae.norm_groups: expected at"),
        ('{"format": 1, "model": {"vae": {"scaling": NaN}}}', "expected a positive number, found"),
        ('{"format": 1, "model": {"vae": {"scaling": 0}}}', "vae.scaling: expected a positive"),
        ('{"format": 1, "model": {"vae": {"scaling": 1e999}}}', "positive number, found inf"),
        ('{"format": 1, "model": {"dino": {"norm_eps": -1}}}', "dino.norm_eps: expected a posit"),
    ],
)
def test_wrong_manifests_are_one_line(tmp_path, text, found):
    (tmp_path / "config.json").write_text(text)
    line = refusal(read_manifest, tmp_path)
    assert line.startswith(f"{tmp_path}/config.json: ")
    assert found in line


def test_a_folder_without_manifest_says_how_to_make_one(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        line = refusal(read_manifest, path)
        assert line.startswith(f"{path}: expected a weights folder with config.json, found none")
        assert "realisdance_jax.convert to-jax" in line
        assert not is_weights_folder(path)


def test_missing_components_are_named(folder):
    manifest = read_manifest(folder)
    line = refusal(load_component, folder, manifest, "unet_ref")
    assert line.startswith(f"{folder}: expected the component unet_ref, found clip_projector, ")
    bare = edited(folder, lambda data: data["components"].clear())
    line = refusal(load_component, folder, bare, "vae")
    assert line == f"{folder}: expected the component vae, found nothing"


def test_weights_of_another_width_are_refused(folder):
    manifest = edited(folder, lambda data: data["model"]["unet"].update(context_dim=64))
    line = refusal(load_component, folder, manifest, "clip_projector")
    assert line == (
        f"{folder}/clip_projector: 8 tensors are not as config.json says, the first "
        "clip_projector.ff.net.2.bias: expected (64,), found (32,)"
    )


def test_tensors_that_the_manifest_does_not_know_are_refused(stage2_weights, folder):
    shutil.copytree(stage2_weights.folder / "pose_guider", folder / "pose_guider")
    manifest = edited(folder, lambda data: data["model"].update(motion=None))
    line = refusal(load_component, folder, manifest, "pose_guider")
    assert ": 140 tensors are not as config.json says" in line
    assert "expected no such tensor, found (" in line


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_folders_are_one_line(folder):
    manifest, component = read_manifest(folder), folder / "clip_projector"
    data = max(component.rglob("d/*"), key=lambda path: path.stat().st_size)
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    expected = f"{component}: expected a whole Orbax checkpoint, found "
    assert refusal(load_component, folder, manifest, "clip_projector").startswith(expected)
    data.unlink()
    assert refusal(load_component, folder, manifest, "clip_projector").startswith(expected)
    (component / "_METADATA").write_text("{")
    assert refusal(load_component, folder, manifest, "clip_projector").startswith(expected)
    for path in component.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert refusal(load_component, folder, manifest, "clip_projector").startswith(expected)
    gc.collect()  # Orbax leaves unfinished coroutines behind, which complain when collected


def test_components_load_sharded(folder):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.P())
    manifest = read_manifest(folder)
    loaded = load_component(folder, manifest, "clip_projector", sharding=sharding)
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(loaded))
    kernel = loaded["params"]["clip_projector"]["identity"]["kernel"]
    expected = oracle.model_variables(2)["params"]["clip_projector"]["identity"]["kernel"]
    np.testing.assert_array_equal(kernel, expected)


def test_half_precision_leaves_vectors_whole(folder):
    loaded = load_component(folder, read_manifest(folder), "clip_projector", jax.numpy.bfloat16)
    dtypes = {(leaf.ndim, leaf.dtype.name) for leaf in jax.tree.leaves(loaded)}
    assert dtypes == {(1, "float32"), (2, "bfloat16")}
    scale = loaded["params"]["clip_projector"]["post_norm"]["scale"]
    expected = oracle.model_variables(2)["params"]["clip_projector"]["post_norm"]["scale"]
    np.testing.assert_array_equal(scale, expected)


def test_changed_tensors_are_found_when_asked_for(folder):
    manifest = read_manifest(folder)
    verify_component(folder, manifest, "clip_projector")
    variables = load_component(folder, manifest, "clip_projector")
    kernel = variables["params"]["clip_projector"]["identity"]["kernel"]
    variables["params"]["clip_projector"]["identity"]["kernel"] = kernel.at[3, 4].add(1e-3)
    shutil.rmtree(folder / "clip_projector")
    save_component(folder, "clip_projector", variables)
    load_component(folder, manifest, "clip_projector")
    line = refusal(verify_component, folder, manifest, "clip_projector")
    assert line.startswith(f"{folder}/clip_projector: expected tensors with the SHA-256 ")
    assert manifest.components["clip_projector"][:16] in line


def test_hashes_tell_values_names_and_shapes_apart(tmp_path):
    variables = {"params": {"a": np.arange(4.0, dtype=np.float32), "b": np.ones(2, np.float32)}}
    digest = save_component(tmp_path, "part", variables)
    assert digest == hash_tensors(jax.tree.map(jax.device_put, variables))
    assert digest == hash_tensors({"params": dict(reversed(variables["params"].items()))})
    others = [
        {"params": variables["params"] | {"b": np.zeros(2, np.float32)}},
        {"params": variables["params"] | {"a": np.arange(4.0, dtype=np.float32).reshape(2, 2)}},
        {"buffers": variables["params"]},
    ]
    assert len({digest, *map(hash_tensors, others)}) == 4
    manifests = [
        Manifest(format=1, model=RealisDanceConfig(), components=components)
        for components in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1", "b": "3"})
    ]
    hashes = [manifest.weight_hash for manifest in manifests]
    assert hashes[0] == hashes[1] != hashes[2]


def test_components_merge_by_collection():
    merged = merge({"params": {"a": 1}, "buffers": {"a": 2}}, {"params": {"b": 3}})
    assert merged == {"params": {"a": 1, "b": 3}, "buffers": {"a": 2}}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (RealisDanceConfig(unet=UNetConfig(in_channels=0)), "unet.in_channels: expected at least"),
        (RealisDanceConfig(dino=DinoConfig(width=100)), "dino.width: expected multiples of 16"),
        (RealisDanceConfig(vae=VAEConfig(widths=(32, 40))), "vae.widths: expected multiples of 32"),
    ],
)
def test_sizes_that_make_no_model_are_refused(config, found):
    assert refusal(check_sizes, config, "f").startswith(f"f: {found}")
    check_sizes(RealisDanceConfig(), "f")
