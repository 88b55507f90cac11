"""Forward passes of both stages against the official code, piece by piece and assembled.

The model runs operation by operation here: each compiles once for all pieces that use it, where a
jitted piece compiles anew. test_sampling.py and test_train.py do the same with jitted programs.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.models.blocks import DownBlock, MidBlock, UpBlock
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.motion import MotionModule
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.models.resnet import Downsample, ResnetBlock
from realisdance_jax.models.transformer import SpatialTransformer
from realisdance_jax.models.unet import TimeEmbedding, timestep_embedding
from realisdance_jax.models.vae import VAE
from tests import oracle
from tests.parity.report import FORWARD, Table, channels_first, channels_last, clip, folded, images

CONDITIONS = ("pose", "hamer", "smpl")


@functools.cache
def stage_inputs(stage: int) -> dict:
    """sample, t, reference latents, tokens, stacked conditions in our layouts."""
    raw = {k[3:]: v for k, v in oracle.arrays("inputs").items() if k.startswith(f"s{stage}.")}
    return {
        "sample": jnp.asarray(clip(raw["sample"])),
        "t": jnp.asarray(raw["timestep"], jnp.int32),
        "reference": jnp.asarray(channels_last(raw["ref_sample"])),
        "tokens": jnp.asarray(raw["clip"]),
        "conditions": jnp.concatenate([clip(raw[name]) for name in CONDITIONS], axis=-1),
    }


@functools.cache
def pieces(stage: int, damped: bool = False) -> dict:
    """Every intermediate of the split forward."""
    model = RealisDance(oracle.config(stage))
    variables = oracle.model_variables(stage, damped)
    x = stage_inputs(stage)

    def run(method: str | Callable, *args):
        return model.apply(variables, *args, method=method)

    context = run("project", x["tokens"])
    features = run("encode_reference", x["reference"], context)
    kv = run("reference_kv", features)
    pose_features, gates = run("encode_pose", x["conditions"])
    pose = run("guide", pose_features)
    return {
        "context": context,
        "features": features,
        "features_t": {} if damped else run("encode_reference", x["reference"], context, x["t"]),
        "kv": kv,
        "gates": gates,
        "pose": pose,
        "run": run,
        "denoise": functools.partial(run, "denoise", x["sample"], x["t"], context),
    }


@pytest.mark.parametrize("stage", [1, 2])
def test_assembled(stage, record_property):
    p, table = pieces(stage), Table(record_property, f"stage{stage}", FORWARD)
    x = stage_inputs(stage)
    full = p["denoise"](p["pose"], p["kv"])
    table.row("full_out", images(full))
    dropped = p["denoise"](p["pose"], None)
    table.row("full_out_drop_reference", images(dropped))
    table.row("main_out_nobank", images(dropped))
    table.row("main_out_nobank_nopose", images(p["denoise"]()))
    table.row("main_out_bank_nopose", images(p["denoise"](None, p["kv"])))
    kv_t = p["run"]("reference_kv", p["features_t"])
    table.row("full_out_fix_ref_t_False", images(p["denoise"](p["pose"], kv_t)))
    if stage == 2:
        midup = {k: v for k, v in p["kv"].items() if k.startswith(("mid", "up"))}
        table.row("full_out_midup", images(p["denoise"](p["pose"], midup)))
        halves = RealisDance(dataclasses.replace(oracle.config(2), reference_blocks="midup"))
        chosen = jax.eval_shape(
            lambda v: halves.apply(v, x["reference"], p["context"], method="encode_reference"),
            oracle.model_variables(2),
        )
        assert set(chosen) == set(midup)
    monolithic = p["run"]("__call__", *(x[k] for k in ("sample", "t", "reference", "tokens")),
                          x["conditions"])  # fmt: skip
    assert oracle.relative_error(monolithic, full) < 2e-6, "composed != monolithic"
    table.verify()


@pytest.mark.parametrize("stage", [1, 2])
def test_drop_by_mask_is_drop(stage):
    """`keep=False` equals having no reference, `keep=True` equals having it (parity.md: H4)."""
    p = pieces(stage)
    batch = stage_inputs(stage)["sample"].shape[0]
    for keep, kv in ((True, p["kv"]), (False, None)):
        masked = p["denoise"](p["pose"], p["kv"], jnp.full((batch,), keep))
        assert oracle.relative_error(masked, p["denoise"](p["pose"], kv)) < 3e-6


@pytest.mark.parametrize("stage", [1, 2])
def test_pieces(stage, record_property):
    p, table = pieces(stage), Table(record_property, f"stage{stage}", FORWARD)
    x = stage_inputs(stage)
    table.row("clip_projector_out", p["context"])
    table.row("pg_gate", folded(p["gates"]))
    for i, output in enumerate(p["pose"]):
        table.row(f"pg_out_{i}", images(output))
    backbone = p["run"](lambda m, c: m.pose_guider.backbone(c), x["conditions"])
    table.row("pg_backbone", folded(backbone))
    gates = np.repeat(np.asarray(p["gates"]), backbone.shape[-1] // 3, axis=-1)
    table.row("pg_gated", folded(backbone * gates))
    for name, kind in (("ref_bank_t0.", "features"), ("ref_bank_t.", "features_t")):
        stored = [key for key in oracle.arrays(table.file) if key.startswith(name)]
        assert len(stored) == (16 if stage == 1 else 0)  # kept for one stage: it is the same UNet
        assert len(p[kind]) == 16
        for key in stored:
            table.row(key, np.asarray(p[kind][key.removeprefix(name)])[:1])
    for name, t in (("ref_out_t0", jnp.zeros_like(x["t"])), ("ref_out_t", x["t"])):
        out = p["run"](lambda m, *a: m.unet_ref(*a)[0], x["reference"][:, None], t, p["context"])
        table.row(name, images(out))
    if stage == 2:
        single = p["run"](lambda m, c: m.pose_guider(c), x["conditions"][:, :1])
        for i, output in enumerate(single):
            table.row(f"pg_single_frame_out_{i}", images(output))
    table.verify()


@pytest.mark.parametrize("stage", [1, 2])
def test_blocks_of_the_main_unet(stage, record_property):
    p, table = pieces(stage), Table(record_property, f"stage{stage}", FORWARD)
    x = stage_inputs(stage)

    def is_block(module, method):
        return isinstance(module, DownBlock | MidBlock | UpBlock) and method == "__call__"

    blocks = RealisDance(oracle.config(stage)).apply(
        oracle.model_variables(stage),
        *(x["sample"], x["t"], p["context"], p["pose"], p["kv"]),
        method="denoise",
        capture_intermediates=is_block,
        mutable=["intermediates"],
    )[1]["intermediates"]["unet_main"]
    assert len(blocks) == 9
    for name, outputs in blocks.items():
        table.row(f"main_{name}", images(outputs["__call__"][0][0]))
    table.verify()


@pytest.mark.parametrize("stage", [1, 2])
def test_units(stage, record_property):
    table = Table(record_property, f"stage{stage}", FORWARD)
    official, config = oracle.arrays(table.file), oracle.config(stage)
    main = oracle.model_variables(stage)["params"]["unet_main"]
    block = main["down_blocks.0"]
    x, bank = clip(official["unit_in"]), official["unit_bank"]
    context = pieces(stage)["context"]
    resnet = ResnetBlock(32, 32).apply({"params": block["resnets.0"]}, x, official["unit_temb"])
    table.row("unit_resnet_out", images(resnet))
    down = Downsample(32).apply({"params": block["downsamplers.0"]}, x)
    table.row("unit_downsample_out", images(down))
    transformer = SpatialTransformer(32, 8, 32, "unit").bind({"params": block["attentions.0"]})
    table.row("unit_transformer_out", images(transformer(x, context)[0]))
    kv = {transformer.block.key: transformer.block.attn1.key_value(jnp.asarray(bank))}
    table.row("unit_transformer_bank_out", images(transformer(x, context, kv)[0]))
    t = timestep_embedding(stage_inputs(stage)["t"], 32)
    embedding = TimeEmbedding(128).apply({"params": main["time_embedding"]}, t)
    table.row("unit_time_embedding", embedding)
    if stage == 2:
        buffers = oracle.model_variables(2)["buffers"]["unet_main"]["down_blocks.0"]
        variables = {
            "params": block["motion_modules.0"], "buffers": buffers["motion_modules.0"]
        }  # fmt: skip
        motion = MotionModule(config.motion, 32).apply(variables, x)
        table.row("unit_motion_out", images(motion))
    table.verify()


def test_damped(record_property):
    """Weights under which any single wrong norm epsilon moves the output by 1.8 % or more (H8)."""
    table = Table(record_property, "damped", FORWARD)
    for stage in (1, 2):
        p = pieces(stage, damped=True)
        table.row(f"stage{stage}_full_out", images(p["denoise"](p["pose"], p["kv"])))
        table.row(f"stage{stage}_full_out_drop_reference", images(p["denoise"](p["pose"])))
        table.row(f"stage{stage}_clip_projector_out", p["context"])
    x, p = stage_inputs(1), pieces(1, damped=True)
    out = p["run"](lambda m, *a: m.unet_ref(*a)[0], x["reference"][:, None], x["t"], p["context"])
    table.row("ref_out_t", images(out))
    vae, params = VAE(oracle.config(1).vae), oracle.vae_params(damped=True)
    inputs = oracle.arrays("inputs")
    mean = jax.jit(vae.posterior)(params, channels_last(inputs["vd.image"][:, :, :32, :32]))[0]
    table.row("vae_mode", channels_first(mean))
    latents = channels_last(inputs["vd.latents"][:, :, :4, :4]) * vae.config.scaling
    table.row("vae_decode", channels_first(jax.jit(vae.decode)(params, latents)))
    dino = DinoV2(oracle.config(1).dino)
    image = jnp.asarray(channels_last(inputs["vd.clip_image"]))
    table.row("dino_clip_image", dino.apply(oracle.dino_variables(damped=True), image))
    table.verify()


def test_autoencoder_and_image_encoder(record_property):
    table = Table(record_property, "vae_dino", FORWARD)
    inputs = oracle.arrays("inputs")
    vae, params = VAE(oracle.config(1).vae), oracle.vae_params()
    mean, std = jax.jit(vae.posterior)(params, channels_last(inputs["vd.image"]))
    table.row("vae_mode", channels_first(mean))
    table.row("vae_std", channels_first(std))
    table.row("vae_logvar", channels_first(2 * jnp.log(std)))
    latents = channels_last(inputs["vd.latents"]) * vae.config.scaling
    table.row("vae_decode", channels_first(jax.jit(vae.decode)(params, latents)))
    dino = DinoV2(oracle.config(1).dino)
    for name in ("clip_image", "clip_image2", "clip_image_square"):
        image = jnp.asarray(channels_last(inputs[f"vd.{name}"]))
        tokens = dino.apply(oracle.dino_variables(), image)
        table.row(f"dino_{name}", tokens)
    zeros = jnp.zeros_like(channels_last(inputs["vd.clip_image"]))
    table.row("dino_zero_image", dino.apply(oracle.dino_variables(), zeros))
    table.verify()
