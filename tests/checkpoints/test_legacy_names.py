"""Names of older and single-file checkpoints cover today's names exactly once."""

import pytest

from realisdance_jax.checkpoints.convert.legacy_names import (
    MM_V2_HOMELESS,
    ldm_unet_names,
    ldm_vae_convolutions,
    ldm_vae_names,
    legacy_vae_names,
    single_file_ignored,
)
from tests.golden_files import load_keys

UNET, VAE = load_keys("sd15_unet"), load_keys("sd_vae")


def test_the_frozen_lists_are_whole():
    counts = {"stage1": 1428, "stage2": 2128, "sd15_unet": 686, "sd_vae": 248}
    counts |= {"dinov2_large": 439, "animatediff_mm_v2": 588}
    assert {name: len(load_keys(name)) for name in counts} == counts


def test_every_unet_name_has_one_single_file_name():
    names = ldm_unet_names(UNET)
    assert list(names) == list(UNET)
    assert len(set(names.values())) == 686
    assert all(name.startswith("model.diffusion_model.") for name in names.values())


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("conv_in.weight", "input_blocks.0.0.weight"),
        ("time_embedding.linear_2.bias", "time_embed.2.bias"),
        ("down_blocks.0.resnets.0.norm1.weight", "input_blocks.1.0.in_layers.0.weight"),
        ("down_blocks.0.downsamplers.0.conv.weight", "input_blocks.3.0.op.weight"),
        ("down_blocks.1.resnets.0.conv_shortcut.bias", "input_blocks.4.0.skip_connection.bias"),
        (
            "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight",
            "input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight",
        ),
        ("down_blocks.3.resnets.1.conv2.weight", "input_blocks.11.0.out_layers.3.weight"),
        ("mid_block.resnets.0.time_emb_proj.bias", "middle_block.0.emb_layers.1.bias"),
        ("mid_block.attentions.0.proj_in.weight", "middle_block.1.proj_in.weight"),
        ("mid_block.resnets.1.norm2.weight", "middle_block.2.out_layers.0.weight"),
        ("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"),
        ("up_blocks.1.resnets.0.conv1.weight", "output_blocks.3.0.in_layers.2.weight"),
        ("up_blocks.1.upsamplers.0.conv.bias", "output_blocks.5.2.conv.bias"),
        ("up_blocks.3.attentions.2.norm.weight", "output_blocks.11.1.norm.weight"),
        ("conv_norm_out.weight", "out.0.weight"),
        ("conv_out.bias", "out.2.bias"),
    ],
)
def test_unet_places_in_the_single_file(name, place):
    assert ldm_unet_names(UNET)[name] == f"model.diffusion_model.{place}"
    assert ldm_unet_names(UNET, "")[name] == place


def test_every_vae_name_has_one_single_file_name():
    names = ldm_vae_names(VAE)
    assert list(names) == list(VAE)
    assert len(set(names.values())) == 248
    assert all(name.startswith("first_stage_model.") for name in names.values())


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("encoder.conv_in.weight", "encoder.conv_in.weight"),
        ("encoder.conv_norm_out.bias", "encoder.norm_out.bias"),
        (
            "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
            "encoder.down.1.block.0.nin_shortcut.weight",
        ),
        ("encoder.down_blocks.2.downsamplers.0.conv.bias", "encoder.down.2.downsample.conv.bias"),
        ("encoder.mid_block.resnets.1.norm1.weight", "encoder.mid.block_2.norm1.weight"),
        ("decoder.mid_block.attentions.0.group_norm.bias", "decoder.mid.attn_1.norm.bias"),
        ("decoder.mid_block.attentions.0.to_out.0.weight", "decoder.mid.attn_1.proj_out.weight"),
        ("decoder.up_blocks.0.resnets.2.conv2.weight", "decoder.up.3.block.2.conv2.weight"),
        ("decoder.up_blocks.2.upsamplers.0.conv.weight", "decoder.up.1.upsample.conv.weight"),
        ("decoder.conv_out.bias", "decoder.conv_out.bias"),
        ("post_quant_conv.weight", "post_quant_conv.weight"),
    ],
)
def test_vae_places_in_the_single_file(name, place):
    assert ldm_vae_names(VAE)[name] == f"first_stage_model.{place}"
    assert ldm_vae_names(VAE, "")[name] == place


def test_the_attention_weights_of_the_vae_were_convolutions():
    places = ldm_vae_convolutions(VAE)
    assert {name.split(".")[-2] for name in places} == {"to_q", "to_k", "to_v", "0"}
    assert len(places) == 8
    assert all(len(VAE[name]) == 2 for name in places)


def test_the_vaes_older_attention_names():
    names = legacy_vae_names(VAE)
    changed = {name: old for name, old in names.items() if name != old}
    assert len(set(names.values())) == 248
    assert len(changed) == 16
    middle = "encoder.mid_block.attentions.0"
    assert changed[f"{middle}.to_q.weight"] == f"{middle}.query.weight"
    assert changed[f"{middle}.to_out.0.bias"] == f"{middle}.proj_attn.bias"


@pytest.mark.parametrize(
    "name",
    ["down_blocks.0.motion_modules.0.x.weight", "class_embedding.weight", "encoder.x.weight"],
)
def test_names_of_another_layout_are_refused(name):
    for names in (ldm_unet_names, ldm_vae_names):
        with pytest.raises(ValueError, match="not a name of the Stable Diffusion"):
            names([name])


def test_only_what_a_single_file_carries_besides_is_ignored():
    ignored = [
        *("cond_stage_model.transformer.text_model.embeddings.position_ids", "betas"),
        *("model_ema.decay", "model_ema.diffusion_modelinput_blocks00weight", "alphas_cumprod"),
        *("first_stage_model.loss.logvar", "loss.discriminator.main.0.weight"),
    ]
    assert all(map(single_file_ignored, ignored))
    kept = [*ldm_unet_names(UNET).values(), *ldm_vae_names(VAE).values(), *load_keys("stage2")]
    assert not any(map(single_file_ignored, [*kept, "betas.weight", "control_model.x"]))


def test_the_homeless_names_are_what_mm_v2_has_beyond_the_model():
    motion, main = load_keys("animatediff_mm_v2"), "unet_main."
    home = {name.removeprefix(main) for name in load_keys("stage2") if name.startswith(main)}
    assert len(MM_V2_HOMELESS) == len(set(MM_V2_HOMELESS)) == 28
    assert set(motion) - home == set(MM_V2_HOMELESS)
    assert len(set(motion) & home) == 560
