"""`convert inspect` says what a file is, whatever it is."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from realisdance_jax.checkpoints.convert.inspect import describe
from realisdance_jax.checkpoints.convert.tensor_files import (
    LazyTensor,
    open_tensors,
    write_safetensors,
)
from realisdance_jax.checkpoints.weights import write_manifest
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.torchzip import write_torch_zip
from tests.checkpoints.files import motion_twin, without
from tests.checkpoints.torch_pickles import ONE, document, fragment, write


def lines(path) -> list[str]:
    found = list(describe(path))
    assert all(line.isprintable() for line in found)
    return found


def test_official_checkpoints(oracle_folder):
    path = oracle_folder / "stage2.ckpt"
    assert lines(path) == [
        f"{path}: RealisDance checkpoint, stage 2",
        "2124 tensors (2124 float32), 6,600,107 values, 0.03 GB",
        "prefix: module.",
        "epoch: 3",
        "global_step: 12345",
        "  clip_projector: 10 tensors",
        "  pose_guider: 186 tensors",
        "  unet_main: 1244 tensors",
        "  unet_ref: 684 tensors",
        "UNet widths (32, 32, 64, 64), tokens 48 -> 32",
        "conditions dwpose, hamer, smpl; encoders (8, 8, 16, 24)",
        "motion modules hold up to 32 frames",
        "complete: every tensor has its place",
    ]


def test_incomplete_checkpoints(oracle_folder, tmp_path):
    tensors = open_tensors(oracle_folder / "stage1.safetensors").tensors
    name, path = "pose_guider.blocks_0.0.bias", tmp_path / "a.safetensors"
    write_safetensors(path, without(tensors, [name]))
    assert lines(path)[0] == f"{path}: RealisDance checkpoint, stage 1"
    assert lines(path)[-1] == f"missing {name}"
    rest = [name for name in tensors if name.startswith("unet_main.")]
    write_safetensors(path, without(tensors, rest))
    assert lines(path)[-1].startswith(f"incomplete: {path}: expected a Stable Diffusion UNet")


def test_weights_folders(stage2_weights):
    folder, manifest = stage2_weights.folder, stage2_weights.manifest
    found = lines(folder)
    assert found[:3] == [
        f"{folder}: weights folder, video (stage 2), hash {manifest.weight_hash}",
        "unconditional branch: fake; from checkpoint: stage2.ckpt, base: pretrained, "
        "image_encoder: image_encoder",
        "epoch 3, global step 12345",
    ]
    assert f"  vae: sha256 {manifest.components['vae'][:16]}" in found


def test_weights_folders_are_verified_when_asked_for(stage2_weights, tmp_path):
    name = "clip_projector"
    digests = {name: stage2_weights.manifest.components[name]}
    write_manifest(tmp_path, replace(stage2_weights.manifest, components=digests))
    shutil.copytree(stage2_weights.folder / name, tmp_path / name)
    line = f"  {name}: sha256 {digests[name][:16]}"
    assert lines(tmp_path)[-1] == line
    assert list(describe(tmp_path, verify=True))[-1] == f"{line}, verified"
    write_manifest(tmp_path, replace(stage2_weights.manifest, components={name: "0" * 64}))
    with pytest.raises(UserError, match=f"SHA-256 {'0' * 16} of config.json, found"):
        list(describe(tmp_path, verify=True))
    with pytest.raises(UserError, match="expected a weights folder to verify"):
        list(describe(tmp_path / "config.json", verify=True))


def test_folders_of_the_pytorch_world(oracle_folder):
    base = oracle_folder / "pretrained"
    kinds = [line for line in lines(base) if ": Stable" in line or ": DINO" in line]
    assert [line.split(": ")[-1] for line in kinds] == [
        *("Stable Diffusion UNet", "Stable Diffusion VAE", "DINOv2 image encoder"),
    ]
    assert lines(base / "vae")[0].endswith("Stable Diffusion VAE")
    with pytest.raises(UserError, match="expected one of"):
        lines(oracle_folder)


def test_motion_modules_and_single_files(oracle_folder, tmp_path):
    write_torch_zip(tmp_path / "mm.ckpt", motion_twin(oracle_folder))
    kind = "AnimateDiff motion modules, 28 tensors without a place here"
    assert lines(tmp_path / "mm.ckpt")[0] == f"{tmp_path}/mm.ckpt: {kind}"
    one = LazyTensor.of(np.ones(2, np.float16))
    write_safetensors(tmp_path / "sd", {"model.diffusion_model.out.0.bias": one})
    assert lines(tmp_path / "sd")[0].endswith(": single-file Stable Diffusion checkpoint")
    write_safetensors(tmp_path / "x", {"what\never": one})
    assert lines(tmp_path / "x") == [
        f"{tmp_path}/x: tensors of an unknown kind",
        "1 tensor (1 float16), 2 values, 0.00 GB",
        "  what ever: 1 tensor",
    ]


def test_nested_data_cannot_explode(tmp_path):
    bomb = b"]" + b"q\x01h\x01\x86" * 64  # (x, x) of (x, x) of ...: text of 2^64 brackets
    entries = {"w": ONE, "bomb": bomb, "t": ONE, "note": fragment("a\nb" * 99)}
    found = lines(write(tmp_path / "a.pt", document({"state_dict": document(entries)[2:-1]})))
    assert "bomb: a tuple of 2" in found
    assert f"note: {('a b' * 99)[:80]}".strip() in found
