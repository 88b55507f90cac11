"""Our torch files against torch itself, our single-file names against diffusers' own conversion."""

import collections

import ml_dtypes
import numpy as np
import pytest

from realisdance_jax.checkpoints.convert.legacy_names import (
    ldm_unet_names,
    ldm_vae_convolutions,
    ldm_vae_names,
    legacy_vae_names,
)
from realisdance_jax.checkpoints.convert.tensor_files import open_tensors, write_safetensors
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.lazy import TORCH_STORAGES
from realisdance_jax.utils.torch_files.torchzip import open_torch_zip, write_torch_zip
from tests.golden_files import load_keys, oracle_checkpoints

pytestmark = pytest.mark.torch


def assert_same(array: np.ndarray, tensor) -> None:
    """Equal shape, dtype and bits."""
    import torch

    dense = tensor.detach().resolve_conj().contiguous()
    assert str(tensor.dtype) == f"torch.{array.dtype.name}"
    assert array.shape == tuple(tensor.shape)
    assert array.tobytes() == dense.flatten().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_loads_what_we_write(tmp_path, mmap):
    import torch

    rng = np.random.default_rng(0)
    shapes = [(), (0,), (3,), (2, 0, 3), (2, 3), (4, 3, 3, 3), (1, 32, 64)]
    state = {
        f"{dtype.name}.{i}": rng.integers(0, 2, shape).astype(dtype)
        for dtype in TORCH_STORAGES.values()
        for i, shape in enumerate(shapes)
    }
    plain = {"epoch": 3, "big": 2**70, "lr": 1e-5, "name": "é", "none": None, "t": (1, [True, {}])}
    write_torch_zip(tmp_path / "a.ckpt", {**plain, "state_dict": state})
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True, mmap=mmap)
    tensors = loaded.pop("state_dict")
    assert loaded == plain
    assert list(tensors) == list(state)
    for name, array in state.items():
        assert_same(array, tensors[name])
        assert tensors[name].is_contiguous()


def test_a_copy_of_an_official_checkpoint_loads_alike(tmp_path):
    import torch

    folder = oracle_checkpoints(tmp_path / "oracle")
    source = open_tensors(folder / "stage2.ckpt")
    write_torch_zip(tmp_path / "a.ckpt", {**source.extra, "state_dict": source.tensors})
    ours, theirs = (
        torch.load(path, weights_only=True)
        for path in (tmp_path / "a.ckpt", folder / "stage2.ckpt")
    )
    assert list(ours) == list(theirs)
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    assert all(map(torch.equal, ours["state_dict"].values(), theirs["state_dict"].values()))


def saved_tensors() -> dict:
    """Everything that may be in a state dict, as torch lays it out."""
    import torch

    base = torch.arange(48.0).reshape(6, 8)
    parameter = torch.nn.Parameter(base[:2] + 0.5)
    parameter.note = "kept with it"
    state = {
        "base": base,
        "row": base[3],
        "column": base[:, 2],
        "window": base[1:5:2, 3:7:3],
        "transposed": base.T,
        "expanded": base[:1, :1].expand(4, 3),
        "scalar": base[5, 7],
        "empty": base[2:2],
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(base[4:] * 2),
        "parameter_with_state": parameter,
        "buffer": torch.nn.Buffer(base + 1),
        "flags": base > 20,
    }
    names = "bfloat16 float16 float64 uint8 int8 int16 int32 int64 complex64 complex128"
    names += " uint16 uint32 uint64 float8_e4m3fn float8_e5m2"
    return state | {name: (base / 7).to(getattr(torch, name)) for name in names.split()}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_we_read_what_torch_saves(tmp_path, protocol):
    import torch

    state = saved_tensors()
    torch.save(state, tmp_path / "a.pt", pickle_protocol=protocol)
    saved = open_torch_zip(tmp_path / "a.pt")
    assert list(saved.tensors) == list(state)
    assert saved.extra == {}
    for name, tensor in state.items():
        assert_same(saved.tensors[name].read(), tensor)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_we_read_what_torch_saved_before_its_zip_files(tmp_path, protocol):
    import torch

    state = saved_tensors()
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": False}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "a.pth", **options)
    saved = open_torch_zip(tmp_path / "a.pth")
    assert list(saved.tensors) == list(state)
    assert saved.extra == {"epoch": 3}
    for name, tensor in state.items():
        assert_same(saved.tensors[name].read(), tensor)


def test_we_read_modules_and_trainers_as_torch_saves_them(tmp_path):
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    plain = {
        "epoch": np.int64(4),
        "loss": np.float32(0.25),
        "size": torch.Size([2, 3]),
        "device": torch.device("cuda", 1),
        "dtype": torch.bfloat16,
        "milestones": collections.Counter([3, 5]),
    }
    content = {"state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), **plain}
    torch.save(content, tmp_path / "a.ckpt")
    saved = open_torch_zip(tmp_path / "a.ckpt")
    for name, tensor in module.state_dict().items():
        assert_same(saved.tensors[name].read(), tensor)
    moment = saved.extra["optimizer"]["state"][0]["exp_avg"].read()
    assert_same(moment, optimizer.state_dict()["state"][0]["exp_avg"])
    assert {name: saved.extra[name] for name in plain} == {
        **{"epoch": 4, "loss": 0.25, "size": (2, 3), "device": "cuda:1"},
        **{"dtype": "torch.bfloat16", "milestones": {3: 1, 5: 1}},
    }


def test_files_without_checksums_are_read(tmp_path):
    import torch

    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(9)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert open_torch_zip(tmp_path / "a.pt").tensors["a"].read().tolist() == list(range(9))


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_dense_tensor_is_refused(tmp_path):
    import torch

    module = torch.nn.Linear(2, 2)
    saves = {
        "TorchScript": lambda f: torch.jit.script(module).save(f),
        "the global 'torch.nn.modules.linear.Linear'": lambda f: torch.save(module, f),
        "a quantised tensor at 'a'": lambda f: torch.save(
            {"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, f
        ),
        "a sparse tensor at 'a'": lambda f: torch.save({"a": torch.eye(3).to_sparse()}, f),
        "(device meta)": lambda f: torch.save({"a": torch.ones(2, device="meta")}, f),
        "pending conjugation": lambda f: torch.save(
            {"a": torch.ones(2, dtype=torch.cfloat).conj()}, f
        ),
    }
    for named, save in saves.items():
        save(str(tmp_path / "a.pt"))
        with pytest.raises(UserError) as caught:
            open_torch_zip(tmp_path / "a.pt")
        assert named in str(caught.value)


def test_safetensors_cross_with_torch(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    state = {
        "w": torch.randn(3, 4).to(torch.bfloat16),
        "b": torch.arange(5),
        "s": torch.tensor(2.0),
    }
    save_file(state, tmp_path / "a.safetensors", {"format": "pt"})
    source = open_tensors(tmp_path / "a.safetensors")
    assert source.info("w") == ((3, 4), np.dtype(ml_dtypes.bfloat16))
    for name, tensor in state.items():
        assert_same(source.read(name), tensor)
    write_safetensors(tmp_path / "b.safetensors", source.tensors, {"format": "pt"})
    again = load_file(tmp_path / "b.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def numbered(names, shape=(1,)) -> dict:
    """A distinct tensor for each name."""
    import torch

    return {name: torch.full(shape, float(i)) for i, name in enumerate(names)}


def test_single_file_unet_names_are_diffusers():
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    names = ldm_unet_names(load_keys("sd15_unet"))
    source = numbered(names.values())
    converted = convert_ldm_unet_checkpoint(source, {"layers_per_block": 2})
    assert set(converted) == set(names)
    assert all(converted[name] is source[names[name]] for name in names)


def test_single_file_vae_names_are_diffusers():
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    keys = load_keys("sd_vae")
    names, convolutions = ldm_vae_names(keys), ldm_vae_convolutions(keys)
    source = numbered(names.values())
    source |= {names[k]: source[names[k]].reshape(1, 1, 1, 1) for k in convolutions}
    config = {"down_block_types": ["x"] * 4, "up_block_types": ["x"] * 4}
    converted = convert_ldm_vae_checkpoint(dict(source), config)
    assert set(converted) == set(names)
    for name, old in names.items():
        assert converted[name].item() == source[old].item()
    assert {
        name for name in names if converted[name].ndim != source[names[name]].ndim
    } == convolutions


def test_older_vae_attention_names_are_those_diffusers_renames(tmp_path):
    import torch
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"]}
    sizes = {"block_out_channels": [8], "norm_num_groups": 4, "layers_per_block": 1}
    model = AutoencoderKL(**blocks, **sizes)
    state = model.state_dict()
    names = legacy_vae_names(state)
    model.save_config(tmp_path)
    torch.save({names[k]: v for k, v in state.items()}, tmp_path / "diffusion_pytorch_model.bin")
    loaded = AutoencoderKL.from_pretrained(tmp_path, low_cpu_mem_usage=False).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    source = open_tensors(tmp_path / "diffusion_pytorch_model.bin")
    for name, tensor in state.items():
        assert_same(source.read(names[name]), tensor)
