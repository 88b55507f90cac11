"""Base, then motion, then checkpoint: who brings what, and what is new."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from flax import traverse_util

from realisdance_jax.checkpoints.convert import infer
from realisdance_jax.checkpoints.convert.components import is_motion
from realisdance_jax.checkpoints.convert.tensor_files import open_tensors, write_safetensors
from realisdance_jax.checkpoints.convert.to_jax import write
from realisdance_jax.checkpoints.weights import load_component
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.models.motion import sinusoid_table
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.torchzip import write_torch_zip
from tests import oracle
from tests.checkpoints.files import changed, motion_twin, planned, request_refusal, same, under


@pytest.fixture(scope="module")
def mm_v2(oracle_folder, tmp_path_factory):
    """The tiny model's mm_v2, wrapped as some releases are."""
    path = tmp_path_factory.mktemp("motion") / "mm_v2.ckpt"
    write_torch_zip(path, {"state_dict": motion_twin(oracle_folder), "animatediff_config": "{}"})
    return path


def flat(variables: dict) -> dict:
    """Leaves by dotted path, without the collection."""
    leaves = traverse_util.flatten_dict(variables).items()
    return {".".join(path[1:]): np.asarray(leaf) for path, leaf in leaves}


def test_motion_over_stage_1_leaves_the_guiders_modules_new(oracle_folder, mm_v2):
    draft, said = planned(checkpoint=oracle_folder / "stage1.ckpt", motion=mm_v2)
    assert said[:4] == [
        "motion: 560 tensors",
        "motion: 28 tensors of mid_block.motion_modules.0 without a place here",
        "checkpoint: 1424 tensors",
        "base: absent (schedule and heads of Stable Diffusion 1.5; --base gives them)",
    ]
    assert "140 tensors newly initialised: pose_guider.motion_modules" in said
    assert draft.sources == ("checkpoint: stage1.ckpt", "motion: mm_v2.ckpt")
    wanted = oracle.config(2)
    assert (draft.config.unet, draft.config.motion) == (wanted.unet, wanted.motion)
    main, twin = under(draft.parts["unet_main"].tensors, "unet_main."), motion_twin(oracle_folder)
    stage1 = open_tensors(oracle_folder / "stage1.safetensors").tensors
    moved = {name: twin[name] for name in main if is_motion(name)}
    assert len(moved) == 560
    assert same(main, under(stage1, "unet_main.") | moved)
    guider = draft.parts["pose_guider"]
    assert same(under(guider.tensors, ""), {k: stage1[k] for k in guider.tensors})
    assert len(guider.fresh) == 140
    assert all(name.startswith("pose_guider.motion_modules.") for name in guider.fresh)


def test_new_motion_modules_add_nothing_at_first(oracle_folder, tmp_path, mm_v2):
    draft, _ = planned(checkpoint=oracle_folder / "stage1.ckpt", motion=mm_v2)
    stage2 = open_tensors(oracle_folder / "stage2.safetensors").tensors
    whole, module = draft.parts["pose_guider"], "pose_guider.motion_modules.0."
    given = {name: stage2[name] for name in whole.table if not name.startswith(module)}
    draft = replace(draft, parts={"pose_guider": replace(whole, tensors=given)})
    manifest = write(draft, tmp_path / "weights", say=lambda _: None)
    assert manifest.fresh == ("pose_guider",)
    loaded = flat(load_component(tmp_path / "weights", manifest, "pose_guider"))
    new = {k.removeprefix(module): x for k, x in loaded.items() if k.startswith(module)}
    assert len(new) == 28
    block = "temporal_transformer.transformer_blocks.0"
    for name, array in new.items():
        if "proj_out" in name:
            assert not array.any()
        elif name.endswith("pe"):
            np.testing.assert_array_equal(array, sinusoid_table(32, 32))
        elif name.endswith("kernel"):
            assert 0.9 < np.abs(array).max() * array.shape[0] ** 0.5 <= 1
    assert f"{block}.attention_blocks.1.to_q.kernel" in new
    for name, tensor in given.items():
        leaf = whole.table[name]
        ours = leaf.to_torch(loaded[".".join(leaf.path[1:])])
        assert ours.tobytes() == tensor.read().tobytes(), name


def test_a_stage_2_checkpoint_overrides_motion(oracle_folder, mm_v2):
    path = oracle_folder / "stage2.safetensors"
    draft, said = planned(checkpoint=path, motion=mm_v2)
    assert "checkpoint: 2124 tensors, 560 override earlier ones" in said
    assert not any(part.fresh for part in draft.parts.values())
    merged = {name: t for part in draft.parts.values() for name, t in part.tensors.items()}
    assert same(merged, open_tensors(path).tensors)


def test_a_base_alone_gives_both_unets_and_new_layers(oracle_folder, tmp_path):
    pretrained = oracle_folder / "pretrained"
    draft, said = planned(base=pretrained, image_encoder=pretrained / "image_encoder")
    assert "base: 684 tensors" in said
    assert "56 tensors newly initialised: clip_projector, pose_guider" in said
    assert draft.config.motion is None
    assert draft.config.dino == oracle.config(1).dino
    base = open_tensors(pretrained / "unet" / "diffusion_pytorch_model.safetensors")
    for part in ("unet_ref", "unet_main"):
        assert same(under(draft.parts[part].tensors, f"{part}."), base.tensors)

    draft = replace(draft, parts={"clip_projector": draft.parts["clip_projector"]})
    kernels = []
    for seed in (0, 0, 1):
        manifest = write(draft, tmp_path / "weights", seed, say=lambda _: None)
        projector = flat(load_component(tmp_path / "weights", manifest, "clip_projector"))
        assert not projector["clip_projector.post_proj.kernel"].any()
        kernels.append(projector["clip_projector.identity.kernel"])
    assert kernels[0].shape == (48, 32)
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_a_base_with_motion_is_a_video_model(oracle_folder, mm_v2):
    draft, said = planned(base=oracle_folder / "pretrained", motion=mm_v2)
    assert (
        "196 tensors newly initialised: clip_projector, pose_guider, pose_guider.motion_modules"
        in said
    )
    assert draft.config.motion == oracle.config(2).motion
    assert not draft.parts["unet_main"].fresh
    twin = motion_twin(oracle_folder)
    name = "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"
    ours = draft.parts["unet_main"].tensors[f"unet_main.{name}"]
    np.testing.assert_array_equal(ours.read(), twin[name].read())


def test_the_base_gives_schedule_heads_and_vae_beside_a_checkpoint(oracle_folder, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(oracle_folder / "pretrained", base, ignore=shutil.ignore_patterns("image_*"))
    unet, scheduler = base / "unet" / "config.json", base / "scheduler" / "scheduler_config.json"
    settings = json.loads(unet.read_text()) | {"attention_head_dim": [4, 4, 8, 8]}
    unet.write_text(json.dumps(settings))
    schedule = json.loads(scheduler.read_text()) | {"beta_schedule": "linear", "beta_end": 0.02}
    scheduler.write_text(json.dumps(schedule))
    checkpoint = oracle_folder / "stage1.ckpt"
    draft, _ = planned(checkpoint=checkpoint, base=base)
    assert draft.config.unet.heads == (4, 4, 8, 8)
    assert draft.schedule == ScheduleConfig(beta_schedule="linear", beta_end=0.02)
    assert "vae" in draft.parts
    for key, value, found in (
        ("attention_head_dim", [8, 8], "got 4, 4 and 2"),
        ("attention_head_dim", "8", "expected a whole number from 1, found '8'"),
        ("norm_num_groups", 0, "norm_num_groups: expected a whole number from 1, found 0"),
        ("norm_num_groups", 24, "width 32 must divide by 24 norm groups"),
        ("block_out_channels", [320, 640], "expected block_out_channels [320, 640] (config.json)"),
    ):
        unet.write_text(json.dumps(settings | {key: value}))
        assert found in request_refusal(checkpoint=checkpoint, base=base)
    unet.write_text(json.dumps(settings))
    scheduler.write_text(json.dumps(schedule | {"beta_schedule": "cosine"}))
    assert "beta_schedule: expected one of " in request_refusal(checkpoint=checkpoint, base=base)
    unet.write_text("{")
    assert "unet/config.json: expected JSON" in request_refusal(checkpoint=checkpoint, base=base)


@pytest.mark.parametrize(
    ("settings", "schedule"),
    [
        ({"set_alpha_to_one": None, "beta_end": None}, ScheduleConfig()),
        ({"num_train_timesteps": 500.0}, ScheduleConfig(num_train_timesteps=500)),
        ({"steps_offset": 0.0, "set_alpha_to_one": True}, ScheduleConfig(
            steps_offset=0, set_alpha_to_one=True)),
    ],
)  # fmt: skip
def test_schedules_are_read_as_diffusers_reads_them(settings, schedule):
    assert infer.schedule_config(settings, "f") == schedule
    with pytest.raises(UserError, match=r"f: steps_offset: expected int, found 1\.5"):
        infer.schedule_config(settings | {"steps_offset": 1.5}, "f")


def test_tensors_beside_the_state_dict_are_told(oracle_folder, tmp_path):
    tensors = open_tensors(oracle_folder / "stage1.safetensors").tensors
    path, one = tmp_path / "a.ckpt", np.ones(2, np.float32)
    extra = {"optimizer": {"state": [{"m": one, "v": one + 1}], "lr": 0.1}, "note": "x"}
    ema = {name: tensors[name] for name in list(tensors)[:5]}
    write_torch_zip(path, {"state_dict": dict(tensors), "ema_state_dict": ema, **extra})
    said = planned(checkpoint=path)[1]
    assert "checkpoint: 7 tensors beside the state dict not read: ema_state_dict, optimizer" in said
    assert not any(
        "beside" in line for line in planned(checkpoint=oracle_folder / "stage1.ckpt")[1]
    )


@pytest.mark.parametrize("value", [7, 7.0, np.array(7), np.array([7.0], np.float16), "7"])
def test_counters_may_be_tensors(oracle_folder, tmp_path, value):
    tensors = dict(open_tensors(oracle_folder / "stage1.safetensors").tensors)
    path = tmp_path / "a.ckpt"
    write_torch_zip(path, {"state_dict": tensors, "epoch": value, "global_step": None})
    draft, said = planned(checkpoint=path)
    assert (draft.origin.epoch, draft.origin.global_step) == (7, 0)
    assert not any("beside" in line for line in said)


def test_counters_that_are_no_whole_numbers_are_refused(oracle_folder, tmp_path):
    tensors = dict(open_tensors(oracle_folder / "stage1.safetensors").tensors)
    path = tmp_path / "a.ckpt"
    for value, found in (
        (1.7, "a float 1.7"),
        (np.array(1.5), "a float 1.5"),
        (float("nan"), "a float nan"),
        (True, "a bool True"),
        ("last", "a str last"),
        (np.zeros(3), "a LazyTensor"),
    ):
        write_torch_zip(path, {"state_dict": tensors, "epoch": value})
        line = request_refusal(checkpoint=path)
        assert line.startswith(f"{path}: expected a whole number as epoch, found {found}")


def test_motion_of_another_width_is_one_clear_line(oracle_folder, tmp_path):
    def wider(tensor):
        return changed(tensor, lambda x: np.repeat(x, 2, axis=0))

    path = tmp_path / "mm.ckpt"
    write_torch_zip(path, {name: wider(t) for name, t in motion_twin(oracle_folder).items()})
    widths = "expected motion modules of widths 32, 32, 64, 64, as the UNets"
    for stage in (1, 2):
        line = request_refusal(checkpoint=oracle_folder / f"stage{stage}.ckpt", motion=path)
        assert line == f"{path}: {widths}, found 64, 64, 128, 128"


def test_a_damaged_motion_file_is_named_by_its_own_names(oracle_folder, tmp_path):
    tensors, path = motion_twin(oracle_folder), tmp_path / "mm.ckpt"
    name = "up_blocks.1.motion_modules.2.temporal_transformer.proj_in.weight"
    del tensors[name]
    tensors["mid_block.motion_modules.1.temporal_transformer.norm.bias"] = tensors[
        "mid_block.motion_modules.0.temporal_transformer.norm.bias"
    ]
    write_safetensors(path, tensors | {"conv_in.bias": tensors[next(iter(tensors))]})
    line = request_refusal(checkpoint=oracle_folder / "stage1.ckpt", motion=path)
    strange = "unexpected mid_block.motion_modules.1.temporal_transformer.norm.bias"
    assert line == f"{path}: 2 tensors not as expected: missing {name}; {strange}"


def test_tensors_outside_motion_modules_are_listed(oracle_folder, tmp_path):
    tensors, path = motion_twin(oracle_folder), tmp_path / "mm.ckpt"
    write_torch_zip(path, tensors | {"conv_in.bias": tensors[next(iter(tensors))]})
    _, said = planned(checkpoint=oracle_folder / "stage1.ckpt", motion=path)
    assert "motion: 1 tensor outside motion modules not read: conv_in.bias" in said


def test_shorter_motion_tables_set_the_frame_limit(oracle_folder, tmp_path):
    def shorter(name, tensor):
        return changed(tensor, lambda x: x[:, :24]) if name.endswith(".pe") else tensor

    path, twin = tmp_path / "mm.ckpt", motion_twin(oracle_folder)
    write_torch_zip(path, {name: shorter(name, tensor) for name, tensor in twin.items()})
    draft, _ = planned(checkpoint=oracle_folder / "stage1.ckpt", motion=path)
    assert draft.config.motion.max_frames == 24
    assert not draft.parts["unet_main"].fresh
    assert "pos_encoder.pe: expected shape [1, 32, 32], found [1, 24, 32]" in request_refusal(
        checkpoint=oracle_folder / "stage2.ckpt", motion=path
    )
