"""Every layout of base models, autoencoders and image encoders gives the same tensors."""

import json
import shutil

import numpy as np
import pytest

from realisdance_jax.checkpoints.convert.legacy_names import (
    LDM_VAE_PREFIX,
    ldm_unet_names,
    ldm_vae_convolutions,
    ldm_vae_names,
    legacy_vae_names,
)
from realisdance_jax.checkpoints.convert.tensor_files import (
    LazyTensor,
    open_tensors,
    write_safetensors,
)
from realisdance_jax.utils.torch_files.torchzip import write_torch_zip
from tests.checkpoints.files import changed, halves, planned, request_refusal, same, under, without
from tests.checkpoints.torch_pickles import ONE, ONE_DATA, document, fragment, mention, write

STEM = "diffusion_pytorch_model"
JUNK = LazyTensor.of(np.zeros(3, np.int64))


@pytest.fixture
def unet(oracle_folder):
    return open_tensors(oracle_folder / "pretrained" / "unet" / f"{STEM}.safetensors").tensors


@pytest.fixture
def vae(oracle_folder):
    return open_tensors(oracle_folder / "pretrained" / "vae" / f"{STEM}.safetensors").tensors


@pytest.fixture
def base(oracle_folder, tmp_path):
    """A diffusers folder without weights."""
    folder = tmp_path / "base"
    ignore = shutil.ignore_patterns("*.safetensors", "image_encoder")
    shutil.copytree(oracle_folder / "pretrained", folder, ignore=ignore)
    return folder


def ldm_unet(unet) -> dict:
    return {old: unet[name] for name, old in ldm_unet_names(unet).items()}


def ldm_vae(vae, prefix: str) -> dict:
    convolutions = ldm_vae_convolutions(vae)
    return {
        old: changed(vae[name], lambda x: x[..., None, None]) if name in convolutions else vae[name]
        for name, old in ldm_vae_names(vae, prefix).items()
    }


def single_file(unet, vae) -> dict:
    others = ("cond_stage_model.transformer.text_model.embeddings.position_ids", "betas")
    others += ("model_ema.decay", "first_stage_model.loss.logvar")
    return ldm_unet(unet) | ldm_vae(vae, LDM_VAE_PREFIX) | dict.fromkeys(others, JUNK)


def assert_gives(draft, unet=None, vae=None) -> None:
    for part in ("unet_ref", "unet_main") if unet else ():
        assert same(under(draft.parts[part].tensors, f"{part}."), unet)
    if vae:
        assert same(draft.parts["vae"].tensors, vae)


@pytest.mark.parametrize("half", [False, True])
def test_a_single_file_is_a_base(unet, vae, oracle_folder, tmp_path, half):
    if half:
        unet, vae = halves(unet), halves(vae)
    path = tmp_path / "v1-5.safetensors"
    write_safetensors(path, single_file(unet, vae))
    draft, said = planned(base=path)
    assert_gives(draft, unet, vae)
    note = "base: 4 tensors of text encoder, averages and schedule not read"
    assert note in said
    assert draft.config.unet.widths == (32, 32, 64, 64)
    assert_gives(planned(checkpoint=oracle_folder / "stage1.ckpt", vae=path)[0], vae=vae)


def test_a_lightning_checkpoint_is_a_base(unet, vae, tmp_path):
    """Such files key the state of a callback by its class, which nothing ever calls."""
    saved = tmp_path / "tensors.ckpt"
    write_torch_zip(saved, {"state_dict": single_file(unet, vae)})
    callback = mention("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    callbacks = b"}(" + callback + fragment({"monitor": "val/loss"}) + b"u"
    pickled = document({"state_dict": b"}" + fragment("w") + ONE + b"s", "callbacks": callbacks})
    opened = open_tensors(write(tmp_path / "a.ckpt", pickled, ONE_DATA))
    name = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
    assert opened.extra == {"callbacks": {name: {"monitor": "val/loss"}}}
    called = document({"w": ONE, "callbacks": callback + b")R"})
    assert "a call of 'pytorch_lightning" in request_refusal(
        base=write(tmp_path / "b.ckpt", called)
    )
    other = document({"w": ONE, "callbacks": mention("pytorch_lightning", "Trainer")})
    assert "the global 'pytorch_lightning.T" in request_refusal(
        base=write(tmp_path / "c.ckpt", other)
    )
    assert_gives(planned(base=saved)[0], unet, vae)


def test_strangers_in_a_single_file_are_listed_or_refused(unet, vae, tmp_path):
    tensors, path = single_file(unet, vae), tmp_path / "a.safetensors"
    write_safetensors(path, tensors | {"embedding_manager.x": JUNK})
    _, said = planned(base=path)
    assert "base: 1 tensor outside UNet and VAE not read: embedding_manager.x" in said
    name = "model.diffusion_model.input_blocks.0.0.weight"
    strange = {"model.diffusion_model.label_emb.0.0.weight": JUNK}
    write_safetensors(path, without(tensors, [name]) | strange)
    line = request_refusal(base=path)
    assert (
        f"2 tensors not as expected: missing conv_in.weight; unexpected {next(iter(strange))}"
        in line
    )
    write_safetensors(path, tensors | {"first_stage_model.encoder.x": JUNK})
    assert "1 tensor not as expected: unexpected first_stage_model.encoder.x" in request_refusal(
        base=path
    )


@pytest.mark.parametrize("layout", ["bin", "fp16", "sharded"])
def test_folders_of_every_layout_are_bases(unet, vae, base, layout):
    if layout == "fp16":
        unet, vae = halves(unet), halves(vae)
    for part, tensors in (("unet", unet), ("vae", vae)):
        folder = base / part
        if layout == "bin":
            write_torch_zip(folder / f"{STEM}.bin", tensors)
        elif layout == "fp16":
            write_safetensors(folder / f"{STEM}.fp16.safetensors", tensors)
        else:
            names = sorted(tensors)
            shards = {"1.safetensors": names[::2], "2.safetensors": names[1::2]}
            for shard, kept in shards.items():
                write_safetensors(folder / shard, {name: tensors[name] for name in kept})
            places = {name: shard for shard, kept in shards.items() for name in kept}
            index = folder / f"{STEM}.safetensors.index.json"
            index.write_text(json.dumps({"weight_map": places}))
    assert_gives(planned(base=base)[0], unet, vae)


def test_a_base_needs_a_unet_unless_there_is_a_checkpoint(vae, base, oracle_folder):
    write_safetensors(base / "vae" / f"{STEM}.safetensors", vae)
    assert f"unet: expected one of {STEM}.safetensors" in request_refusal(base=base)
    shutil.rmtree(base / "unet")
    assert "unet: expected a weight file" in request_refusal(base=base)
    draft, _ = planned(base=base, checkpoint=oracle_folder / "stage1.ckpt")
    assert_gives(draft, vae=vae)


@pytest.mark.parametrize("layout", ["today", "legacy", "legacy 1x1", "ldm", "ldm state_dict"])
def test_autoencoders_of_every_layout(vae, oracle_folder, tmp_path, layout):
    path = tmp_path / "vae.pt"
    if layout == "today":
        write_safetensors(path, vae)
    elif layout.startswith("legacy"):
        old = {old: vae[name] for name, old in legacy_vae_names(vae).items()}
        if layout == "legacy 1x1":
            names = [legacy_vae_names(vae)[name] for name in ldm_vae_convolutions(vae)]
            assert len(names) == 8
            old |= {name: changed(old[name], lambda x: x[..., None, None]) for name in names}
        write_safetensors(path, old)
    elif layout == "ldm":
        write_safetensors(path, ldm_vae(vae, ""))
    else:
        write_torch_zip(path, {"state_dict": ldm_vae(vae, "") | {"loss.logvar": JUNK}})
    given = {"checkpoint": oracle_folder / "stage1.ckpt", "vae": path}
    assert_gives(planned(**given)[0], vae=vae)
    # The one asked for goes before the base's.
    other = {name: changed(tensor, np.negative) for name, tensor in vae.items()}
    write_safetensors(path, other)
    assert_gives(planned(**given, base=oracle_folder / "pretrained")[0], vae=other)


def test_settings_beside_a_lone_file_count_only_if_they_are_its_own(vae, base, oracle_folder):
    checkpoint, lone = oracle_folder / "stage1.ckpt", base / "vae" / "mine.safetensors"
    write_safetensors(lone, vae)
    config = base / "vae" / "config.json"
    settings = json.loads(config.read_text()) | {"scaling_factor": 0.5}
    for kind, scaling in (("AutoencoderKL", 0.5), ("UNet2DConditionModel", 0.18215)):
        config.write_text(json.dumps(settings | {"_class_name": kind}))
        assert planned(checkpoint=checkpoint, vae=lone)[0].config.vae.scaling == scaling
    for key, value, found in (
        ("scaling_factor", -1, "scaling_factor: expected a positive number, found -1"),
        ("norm_num_groups", 5, "vae.widths: expected multiples of 5 (heads or groups), found 32"),
    ):
        config.write_text(json.dumps(settings | {key: value}))
        assert found in request_refusal(checkpoint=checkpoint, vae=lone)


def test_an_autoencoder_of_other_latents_is_one_clear_line(vae, oracle_folder, tmp_path):
    wide = {
        name: changed(t, lambda x: np.concatenate([x, x])) if "quant_conv" in name else t
        for name, t in vae.items()
    }
    for name in ("quant_conv.weight", "post_quant_conv.weight"):
        wide[name] = changed(wide[name], lambda x: np.concatenate([x, x], 1))
    wide["decoder.conv_in.weight"] = changed(
        vae["decoder.conv_in.weight"], lambda x: np.concatenate([x, x], 1)
    )
    for leaf in ("weight", "bias"):
        name = f"encoder.conv_out.{leaf}"
        wide[name] = changed(vae[name], lambda x: np.concatenate([x, x]))
    path = tmp_path / "vae.safetensors"
    write_safetensors(path, wide)
    line = request_refusal(checkpoint=oracle_folder / "stage1.ckpt", vae=path)
    assert line == f"{path}: expected 4 latent channels, as unet_main takes, found 8"


@pytest.fixture
def encoder(oracle_folder):
    return open_tensors(
        oracle_folder / "pretrained" / "image_encoder" / "model.safetensors"
    ).tensors


def test_image_encoders_inside_a_classifier(encoder, oracle_folder, tmp_path):
    path = tmp_path / "dino.bin"
    prefixed = {f"dinov2.{name}": tensor for name, tensor in encoder.items()}
    write_torch_zip(path, prefixed | {"classifier.bias": JUNK})
    draft, said = planned(checkpoint=oracle_folder / "stage1.ckpt", image_encoder=path)
    assert same(draft.parts["image_encoder"].tensors, encoder)
    assert "image_encoder: 1 tensor outside dinov2 not read: classifier.bias" in said
    assert draft.config.dino.heads == 1  # no config.json: heads of 64 channels, or one


def test_image_encoders_need_no_mask_token(encoder, oracle_folder, tmp_path):
    """It stands for hidden patches in training; nothing here hides any."""
    path, name = tmp_path / "dino.safetensors", "embeddings.mask_token"
    write_safetensors(path, without(encoder, [name]))
    draft, said = planned(checkpoint=oracle_folder / "stage1.ckpt", image_encoder=path)
    tensors = draft.parts["image_encoder"].tensors
    assert same(without(tensors, [name]), without(encoder, [name]))
    assert not tensors[name].read().any()
    assert tensors[name].shape == encoder[name].shape
    assert f"image_encoder: {name} is absent: zeros instead, which nothing uses" in said


def test_image_encoders_that_do_not_fit_are_one_line(encoder, oracle_folder, tmp_path):
    path, checkpoint = tmp_path / "dino.safetensors", oracle_folder / "stage1.ckpt"
    write_safetensors(path, without(encoder, ["layernorm.bias"]))
    line = request_refusal(checkpoint=checkpoint, image_encoder=path)
    assert line == f"{path}: 1 tensor not as expected: missing layernorm.bias"
    shapes = {name: tuple(2 * n if n == 48 else n for n in t.shape) for name, t in encoder.items()}
    write_safetensors(path, {k: LazyTensor.of(np.zeros(s, np.float32)) for k, s in shapes.items()})
    line = request_refusal(checkpoint=checkpoint, image_encoder=path)
    expected = "an image encoder of width 48, as clip_projector takes"
    assert line == f"{path}: expected {expected}, found 96"
    write_safetensors(path, {"cls_token": encoder["embeddings.cls_token"]})
    line = request_refusal(checkpoint=checkpoint, image_encoder=path)
    assert line == f"{path}: expected DINOv2 in transformers layout, found cls_token"
