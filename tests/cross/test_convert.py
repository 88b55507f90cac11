"""Converted checkpoints against torch itself: what torch saves comes back as torch loads it."""

import sys
import types

import pytest

from realisdance_jax.checkpoints.convert.plan import Request
from realisdance_jax.checkpoints.convert.tensor_files import open_tensors
from realisdance_jax.checkpoints.convert.to_jax import convert_to_jax
from realisdance_jax.checkpoints.convert.to_torch import convert_to_torch
from tests.golden_files import oracle_checkpoints

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def oracle_folder(tmp_path_factory):
    return oracle_checkpoints(tmp_path_factory.mktemp("oracle"))


def there_and_back(path, tmp_path, name):
    convert_to_jax(Request(checkpoint=path), tmp_path / "weights", say=lambda _: None)
    convert_to_torch(tmp_path / "weights", tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("stage", [1, 2])
def test_torch_loads_what_comes_back(oracle_folder, tmp_path, stage):
    import torch

    path = oracle_folder / f"stage{stage}.ckpt"
    back = there_and_back(path, tmp_path, "back.ckpt")
    theirs = torch.load(path, weights_only=True)
    state = theirs.pop("state_dict")
    for mmap in (False, True):
        ours = torch.load(back, weights_only=True, mmap=mmap)
        loaded = ours.pop("state_dict")
        assert ours == theirs == {"epoch": 3, "global_step": 12345}
        assert loaded.keys() == state.keys()
        assert all(loaded[name].dtype == tensor.dtype for name, tensor in state.items())
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_safetensors_torch_loads_what_comes_back(oracle_folder, tmp_path):
    import torch
    from safetensors.torch import load_file

    path = oracle_folder / "stage2.safetensors"
    ours = load_file(there_and_back(path, tmp_path, "back.safetensors"))
    theirs = load_file(path)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_a_half_precision_checkpoint_of_torch_converts(oracle_folder, tmp_path):
    """What users save after `model.half()`, with an optimizer beside it."""
    import torch

    saved = torch.load(oracle_folder / "stage1.ckpt", weights_only=True)
    state = {name: tensor.half() for name, tensor in saved["state_dict"].items()}
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-5}]}
    torch.save(saved | {"state_dict": state, "optimizer": optimizer}, tmp_path / "half.ckpt")
    back = torch.load(there_and_back(tmp_path / "half.ckpt", tmp_path, "back.ckpt"))
    assert back["global_step"] == 12345
    assert all(torch.equal(back["state_dict"][k], tensor.float()) for k, tensor in state.items())


def test_a_checkpoint_of_old_lightning_opens(tmp_path, monkeypatch):
    """Its callbacks' states are keyed by classes; they are read as names and never imported."""
    import torch

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    states = {module.ModelCheckpoint: {"best_model_score": torch.tensor(1.0), "path": "x"}}
    saved = {"state_dict": {"w": torch.ones(2)}, "callbacks": states, "global_step": 5}
    torch.save(saved, tmp_path / "old.ckpt")
    monkeypatch.undo()
    opened = open_tensors(tmp_path / "old.ckpt")
    assert opened.keys() == ["w"]
    (kept,) = opened.extra["callbacks"].values()
    assert list(opened.extra["callbacks"]) == [f"{module.__name__}.ModelCheckpoint"]
    assert kept["path"] == "x"
    assert opened.extra["global_step"] == 5
