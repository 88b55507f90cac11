"""Checkpoints with something wrong: one line that names it, and nothing written."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.checkpoints.convert import sources
from realisdance_jax.checkpoints.convert.plan import Request, plan
from realisdance_jax.checkpoints.convert.tensor_files import (
    LazyTensor,
    open_tensors,
    write_safetensors,
)
from realisdance_jax.checkpoints.convert.to_jax import convert_to_jax
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.torchzip import write_torch_zip
from tests.checkpoints.files import damaged, request_refusal, under
from tests.golden_files import load_keys

PLACES = {
    "conv": "unet_ref.down_blocks.0.resnets.0.conv1.weight",
    "first conv": "unet_main.conv_in.weight",
    "motion": (
        "unet_main.up_blocks.3.motion_modules.2.temporal_transformer.transformer_blocks.0."
        "attention_blocks.1.to_out.0.weight"
    ),
    "pe": (
        "pose_guider.motion_modules.4.temporal_transformer.transformer_blocks.0."
        "attention_blocks.0.pos_encoder.pe"
    ),
    "gate": "pose_guider.gate_module.gate_layer.2.bias",
    "projector": "clip_projector.identity.weight",
}


@pytest.mark.parametrize("how", ["dropped", "renamed", "reshaped", "quantised"])
@pytest.mark.parametrize("place", PLACES)
def test_one_damaged_tensor_is_named_and_nothing_is_written(oracle_folder, tmp_path, place, how):
    tensors, name = open_tensors(oracle_folder / "stage2.safetensors").tensors, PLACES[place]
    path = tmp_path / "a.safetensors"
    write_safetensors(path, subset := damaged(tensors, name, how))
    with pytest.raises(UserError) as caught:
        convert_to_jax(Request(checkpoint=path), tmp_path / "weights", say=lambda _: None)
    line, shape = str(caught.value), list(tensors[name].shape)
    assert (
        line
        == f"{path}: "
        + {
            "dropped": f"1 tensor not as expected: missing {name}",
            "renamed": f"2 tensors not as expected: missing {name}; unexpected {name}_",
            "reshaped": f"1 tensor not as expected: {name}: expected shape {shape}, "
            f"found {list(subset.get(name, tensors[name]).shape)}",
            "quantised": f"1 tensor not as expected: {name}: "
            "expected floating-point numbers, found int32",
        }[how]
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.sampled_from(sorted(load_keys("stage1"))), st.sampled_from([1, 2]), st.data())
def test_whichever_tensor_is_damaged_it_alone_is_named(oracle_folder, name, stage, data):
    source = open_tensors(oracle_folder / f"stage{stage}.safetensors")
    name = name if name in source.tensors else data.draw(st.sampled_from(sorted(source.tensors)))
    shape = source.tensors[name].shape
    shapes = [(), (*shape, 1), shape[::-1], (2 * shape[0], *shape[1:])]
    wrong = data.draw(st.sampled_from([None, *(s for s in shapes if s != shape)]))
    tensors = {k: t for k, t in source.tensors.items() if k != name or wrong is not None}
    if wrong is not None:
        tensors[name] = replace(tensors[name], shape=wrong)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "open_tensors", lambda _: replace(source, tensors=tensors))
        line = request_refusal(checkpoint=source.path)
    expected = f"missing {name}"
    if wrong is not None:
        expected = f"{name}: expected shape {list(shape)}, found {list(wrong)}"
    assert line == f"{source.path}: 1 tensor not as expected: {expected}"


def test_every_problem_of_every_file_is_in_the_one_line(oracle_folder, tmp_path):
    tensors = dict(open_tensors(oracle_folder / "stage1.safetensors").tensors)
    gone = [name for name in tensors if name.startswith("unet_ref.up_blocks")]
    kept = {name: tensor for name, tensor in tensors.items() if name not in gone}
    write_safetensors(tmp_path / "a.ckpt", kept | {"unet_ref.a\nb": tensors[gone[0]]})
    motion = under(open_tensors(oracle_folder / "stage2.safetensors").tensors, "unet_main.")
    motion = {name: tensor for name, tensor in motion.items() if "motion_modules." in name}
    lost = motion.popitem()[0]
    write_safetensors(tmp_path / "mm.safetensors", motion)
    line = request_refusal(checkpoint=tmp_path / "a.ckpt", motion=tmp_path / "mm.safetensors")
    assert f"a.ckpt: {len(gone) + 1} tensors not as expected: missing " in line
    assert all(f"missing {name};" in line for name in gone)
    assert "unexpected unet_ref.a b" in line
    assert line.startswith(f"{tmp_path}/mm.safetensors: 1 tensor not as expected: missing {lost}; ")


def test_a_prefix_on_some_names_only_is_refused(oracle_folder, tmp_path):
    tensors = dict(open_tensors(oracle_folder / "stage1.safetensors").tensors)
    tensors["module.unet_ref.conv_in.bias"] = tensors.pop("unet_ref.conv_in.bias")
    write_safetensors(tmp_path / "a.ckpt", tensors)
    line = request_refusal(checkpoint=tmp_path / "a.ckpt")
    assert "expected the prefix 'module.' on all names or on none, found 1423 of 1424" in line


def test_files_of_another_kind_are_named(oracle_folder, tmp_path):
    pretrained = oracle_folder / "pretrained"
    unet = pretrained / "unet" / "diffusion_pytorch_model.safetensors"
    assert "expected a RealisDance checkpoint (unet_ref, " in request_refusal(checkpoint=unet)
    assert "expected AnimateDiff motion modules" in request_refusal(base=pretrained, motion=unet)
    assert "expected DINOv2 in transformers layout" in request_refusal(
        base=pretrained, image_encoder=unet
    )
    assert "found no encoder.down_blocks" in request_refusal(base=pretrained, vae=unet)
    assert "expected a single-file Stable Diffusion checkpoint" in request_refusal(base=unet)
    assert "with unet/ and vae/, found neither" in request_refusal(base=tmp_path)
    assert "no such file" in request_refusal(base=tmp_path / "none")
    vae = pretrained / "vae"
    found = "config.json: expected settings of a dinov2, found AutoencoderKL"
    assert found in request_refusal(base=pretrained, image_encoder=vae)
    with pytest.raises(UserError, match="expected --checkpoint or --base, found neither"):
        plan(Request(vae=vae))


def test_more_conditions_than_are_known_are_refused(oracle_folder, tmp_path):
    tensors = dict(open_tensors(oracle_folder / "stage1.safetensors").tensors)
    for leaf, shape in (("weight", (4, 12, 7, 7)), ("bias", (4,))):
        name = f"pose_guider.gate_module.gate_layer.2.{leaf}"
        tensors[name] = LazyTensor.of(np.zeros(shape, np.float32))
    write_torch_zip(tmp_path / "a.ckpt", tensors)
    line = request_refusal(checkpoint=tmp_path / "a.ckpt")
    assert line == f"{tmp_path}/a.ckpt: expected at most 3 conditions, found 4"
