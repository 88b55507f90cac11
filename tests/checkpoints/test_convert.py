"""Official checkpoints to a weights folder and back: every name and bit is kept."""

import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from realisdance_jax import convert
from realisdance_jax.checkpoints.convert import to_torch
from realisdance_jax.checkpoints.convert.plan import Request
from realisdance_jax.checkpoints.convert.sources import official_checkpoint
from realisdance_jax.checkpoints.convert.tensor_files import open_tensors, write_safetensors
from realisdance_jax.checkpoints.convert.to_jax import convert_to_jax
from realisdance_jax.checkpoints.convert.to_torch import convert_to_torch, official_tensors
from realisdance_jax.checkpoints.weights import Origin, load_component, merge, read_manifest
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output
from tests import oracle
from tests.checkpoints.files import damaged, planned, same
from tests.checkpoints.torch_pickles import ONE, call, document, fragment, write


def quiet(_: str) -> None:
    """For conversions of which the words are tested elsewhere."""


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line in this process; returns what it printed."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
        convert.main()
        return capsys.readouterr().out

    return run


def test_stage_2_comes_back_bit_for_bit(stage2_weights, oracle_folder, tmp_path, run):
    out, official = tmp_path / "back.ckpt", open_tensors(oracle_folder / "stage2.ckpt")
    said = run("to-torch", "--weights", stage2_weights.folder, "--out", out)
    assert said == f"wrote {out}: 2124 tensors\n"
    back = open_tensors(out)
    assert same(back.tensors, official.tensors)
    assert all(name.startswith("module.") for name in back.tensors)
    assert back.extra == official.extra == {"epoch": 3, "global_step": 12345}
    assert run("inspect", out).startswith(f"{out}: RealisDance checkpoint, stage 2\n")


def test_names_without_prefix_come_back_bit_for_bit(oracle_folder, tmp_path):
    path, out = oracle_folder / "stage2.safetensors", tmp_path / "back.safetensors"
    manifest = convert_to_jax(Request(checkpoint=path), tmp_path / "weights", say=quiet)
    assert manifest.origin == Origin()
    assert convert_to_torch(tmp_path / "weights", out) == 2124
    assert same(open_tensors(out).tensors, open_tensors(path).tensors)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["back.safetensors", "weights"]


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_stage_1_comes_back_bit_for_bit(oracle_folder, tmp_path, suffix):
    path, out = oracle_folder / f"stage1.{suffix}", tmp_path / "back.safetensors"
    manifest = convert_to_jax(Request(checkpoint=path), tmp_path / "weights", say=quiet)
    assert manifest.model.motion is None
    assert convert_to_torch(tmp_path / "weights", out) == 1424
    assert same(open_tensors(out).tensors, open_tensors(path).tensors)
    expected = Origin("module.", 3, 12345) if suffix == "ckpt" else Origin()
    assert official_checkpoint(out)[1] == manifest.origin == expected


def flat(variables: dict) -> dict:
    return traverse_util.flatten_dict(variables)


def assert_equal(ours: dict, theirs: dict) -> None:
    """Bit for bit, but for position tables: the recipe's differ from torch's in the last bit."""
    ours, theirs = flat(ours), flat(theirs)
    assert ours.keys() == theirs.keys()
    for path, leaf in theirs.items():
        assert ours[path].dtype == leaf.dtype, path
        np.testing.assert_allclose(ours[path], leaf, 0, 1e-6 if path[0] == "buffers" else 0)


def test_the_folder_holds_the_oracles_variables(stage2_weights):
    folder, manifest = stage2_weights.folder, read_manifest(stage2_weights.folder)
    assert manifest == stage2_weights.manifest
    assert manifest.model == oracle.config(2)
    assert (manifest.uncond, manifest.fresh) == ("fake", ())
    model = merge(*(load_component(folder, manifest, part) for part in COMPONENTS))
    assert_equal(model, oracle.model_variables(2))
    assert_equal(load_component(folder, manifest, "image_encoder"), oracle.dino_variables())
    assert_equal(load_component(folder, manifest, "vae"), {"params": oracle.vae_params()})


def test_kernels_load_in_bfloat16_and_vectors_and_buffers_do_not(stage2_weights):
    folder, manifest = stage2_weights.folder, stage2_weights.manifest
    exact = flat(load_component(folder, manifest, "pose_guider"))
    loaded = flat(load_component(folder, manifest, "pose_guider", jnp.bfloat16))
    assert loaded.keys() == exact.keys()
    for path, leaf in loaded.items():
        whole = path[0] == "buffers" or leaf.ndim == 1
        assert leaf.dtype == (jnp.float32 if whole else jnp.bfloat16)
        assert np.array_equal(leaf, exact[path].astype(leaf.dtype))


def test_what_is_there_and_what_is_absent_is_said(stage2_weights, oracle_folder):
    said = "\n".join(stage2_weights.said)
    for line in (
        "checkpoint: 2124 tensors",
        "base: configuration, schedule and VAE only; the checkpoint brings both UNets",
        "image_encoder: 43 tensors",
        "vae: 240 tensors",
        "wrote unet_main: 1244 tensors",
    ):
        assert line in said
    assert "absent" not in said
    _, said = planned(checkpoint=oracle_folder / "stage1.safetensors")
    assert said == [
        "checkpoint: 1424 tensors",
        "base: absent (schedule and heads of Stable Diffusion 1.5; --base gives them)",
        "no motion modules: an image-stage model; frames are animated one by one",
        "image_encoder: absent (--image-encoder gives it)",
        "vae: absent (--vae or --base gives it)",
    ]


def test_an_existing_folder_is_replaced_only_if_it_holds_weights(oracle_folder, tmp_path):
    request = Request(checkpoint=oracle_folder / "none.ckpt")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    for name, found in (("photos", "a folder with other things in it"), ("file", "a file")):
        with pytest.raises(UserError, match=f"{name}: expected a new, .*, found {found}"):
            convert_to_jax(request, tmp_path / name)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text('{"format": 0}')
    for name in ("old", "new"):
        with pytest.raises(UserError, match=r"none\.ckpt: expected a weight file"):
            convert_to_jax(request, tmp_path / name)


def test_an_input_is_never_replaced(tmp_path):
    """An old weights folder that the user keeps checkpoints in, or that reaches them by a link."""
    out = tmp_path / "weights"
    (out / "vae").mkdir(parents=True)
    (out / "config.json").write_text('{"format": 1}')
    (tmp_path / "link").symlink_to(out)
    inside = out / "vae" / "stage2.ckpt"
    inside.write_bytes(b"trained for weeks")
    for given in (out, tmp_path / "link"):
        with pytest.raises(UserError, match=r"weights folder to write, found .*stage2\.ckpt in it"):
            convert_to_jax(Request(checkpoint=inside), given)
    (out / "notes.txt").touch()
    with pytest.raises(UserError, match=r"found notes\.txt beside the weights"):
        convert_to_jax(Request(base=tmp_path / "none"), out)
    assert inside.read_bytes() == b"trained for weeks"


def test_a_checkpoint_is_overwritten_on_demand_only(stage2_weights, tmp_path, run, monkeypatch):
    folder, out = stage2_weights.folder, tmp_path / "stage2.ckpt"
    monkeypatch.setattr(to_torch, "write_torch_zip", lambda path, _: path.write_bytes(b"new"))
    out.write_bytes(b"trained for weeks")
    words = ("to-torch", "--weights", folder, "--out", out)
    with pytest.raises(UserError, match=r"stage2\.ckpt: expected a new file, found .* \(--force "):
        run(*words)
    assert out.read_bytes() == b"trained for weeks"
    assert run(*words, "--force") == f"wrote {out}: 2124 tensors\n"
    assert out.read_bytes() == b"new"
    (tmp_path / "a.ckpt").mkdir()
    with pytest.raises(UserError, match=r"a\.ckpt: expected a file to write, found a folder"):
        run("to-torch", "--weights", folder, "--out", tmp_path / "a.ckpt", "--force")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_conversion_leaves_the_old_weights(oracle_folder, tmp_path, number):
    """Killed as soon as the first of five components is written; the next one clears up."""
    out = tmp_path / "weights"
    out.mkdir()
    (out / "config.json").write_text('{"format": 0}')
    line = [sys.executable, "-u", "-m", "realisdance_jax.convert", "to-jax"]
    line += ["--checkpoint", oracle_folder / "stage1.safetensors", "--out", out]
    with subprocess.Popen(list(map(str, line)), stdout=-1, stderr=-1, text=True) as process:
        assert any(said.startswith("wrote unet_ref") for said in process.stdout)
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert [path.name for path in out.iterdir()] == ["config.json"]
    if number == signal.SIGTERM:
        assert (process.returncode, err) == (143, "interrupted\n")
        assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    else:
        assert process.returncode == -signal.SIGKILL
    with atomic_output(out) as partial:
        partial.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    assert not list(out.iterdir())


def test_a_full_disk_is_found_before_writing(oracle_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2e6))
    request = Request(checkpoint=oracle_folder / "stage2.ckpt")
    with pytest.raises(UserError) as caught:
        convert_to_jax(request, tmp_path / "weights", say=quiet)
    assert str(caught.value) == f"{tmp_path}: expected 0.03 GB of free space, found 0.00"
    assert not list(tmp_path.iterdir())


def test_torch_files_need_a_known_suffix_and_a_whole_folder(stage2_weights, tmp_path):
    with pytest.raises(UserError, match=r"a\.txt: expected a name ending in \.ckpt, "):
        convert_to_torch(stage2_weights.folder, tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"expected a weights folder with config\.json"):
        convert_to_torch(tmp_path, tmp_path / "a.ckpt")
    config = (stage2_weights.folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"unet_ref":', '"vae2":'))
    with pytest.raises(UserError, match="expected the component unet_ref, found none"):
        convert_to_torch(tmp_path, tmp_path / "a.ckpt")
    config = re.sub(r'("clip_projector": )"\w+"', r'\1"0"', config)
    (tmp_path / "config.json").write_text(config)
    shutil.copytree(stage2_weights.folder / "clip_projector", tmp_path / "clip_projector")
    tensors = official_tensors(tmp_path, read_manifest(tmp_path))
    with pytest.raises(UserError, match=r"clip_projector: expected the tensors of .*, found other"):
        tensors["module.clip_projector.identity.bias"].read()
    assert not list(tmp_path.glob("*.ckpt"))


def command(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "realisdance_jax.convert", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_line_names_a_dropped_key_and_exits_2(oracle_folder, tmp_path):
    key, out = "unet_main.mid_block.resnets.0.conv1.weight", tmp_path / "weights"
    tensors = open_tensors(oracle_folder / "stage1.safetensors").tensors
    write_safetensors(tmp_path / "a.safetensors", damaged(tensors, key, "dropped"))
    done = command("to-jax", "--checkpoint", tmp_path / "a.safetensors", "--out", out)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path}/a.safetensors: 1 tensor not as expected: missing {key}\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_command_line_runs_nothing_in_a_malicious_checkpoint(tmp_path):
    mark = tmp_path / "was_run"
    evil = call("posix", "system", fragment(f"touch {mark}"))
    path = write(tmp_path / "evil.ckpt", document({"w": ONE, "key": evil}))
    done = command("to-jax", "--checkpoint", path, "--out", tmp_path / "weights")
    assert done.returncode == 2
    assert "the global 'posix.system'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["evil.ckpt"]


def test_the_command_line_helps(run, capsys):
    parser = convert.make_parser()
    assert all(name in parser.format_help() for name in ("to-jax", "to-torch", "inspect"))
    with pytest.raises(SystemExit) as caught:
        run("to-jax", "--chekpoint", "x", "--out", "y")
    assert caught.value.code == 2
    assert "did you mean '--checkpoint'?" in capsys.readouterr().err
