"""Weight files of every layout through one interface."""

import json
import struct
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save

from realisdance_jax.checkpoints.convert.tensor_files import (
    TensorSource,
    carries_prefix,
    open_component_folder,
    open_tensors,
    write_safetensors,
)
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.lazy import SAFETENSORS_DTYPES, LazyTensor
from realisdance_jax.utils.torch_files.torchzip import write_torch_zip
from tests.refusals import refusal

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4, dtype=np.int64)


def lazily(arrays: dict[str, np.ndarray]) -> dict[str, LazyTensor]:
    return {name: LazyTensor.of(array) for name, array in arrays.items()}


def test_both_formats_of_the_oracle_say_the_same(oracle_folder):
    torch_file = open_tensors(oracle_folder / "stage2.ckpt")
    assert torch_file.extra == {"epoch": 3, "global_step": 12345}
    bare = torch_file.without_prefix("module.")
    twin = open_tensors(oracle_folder / "stage2.safetensors")
    assert sorted(bare.keys()) == sorted(twin.keys())
    for name in twin.tensors:
        assert bare.info(name) == twin.info(name)
        np.testing.assert_array_equal(bare.read(name), twin.read(name))


@pytest.mark.parametrize(
    ("component", "count"), [("unet", 684), ("vae", 240), ("image_encoder", 43)]
)
def test_component_folders_of_the_oracle_open(oracle_folder, component, count):
    source = open_component_folder(oracle_folder / "pretrained" / component)
    assert len(source.keys()) == count
    expected = load_file(source.path)
    for name in source.tensors:
        np.testing.assert_array_equal(source.read(name), expected[name])


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "__metadata__"),
        st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_]).flatmap(
            lambda dtype: hnp.arrays(
                dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
            )
        ),
        max_size=4,
    ),
    st.sampled_from([None, {"format": "pt"}]),
)
def test_safetensors_are_the_librarys_and_read_back(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.mktemp("written") / "a.safetensors"
    write_safetensors(path, lazily(arrays), metadata)
    library = dict(safetensors.deserialize(path.read_bytes()))
    source = open_tensors(path)
    assert set(source.keys()) == set(library) == set(arrays)
    assert source.extra == (metadata or {})
    for name, array in arrays.items():
        found = source.read(name)
        assert (found.shape, found.dtype) == source.info(name) == (array.shape, array.dtype)
        assert found.tobytes() == array.tobytes() == bytes(library[name]["data"])


def test_a_written_file_equals_the_librarys_byte_for_byte(tmp_path):
    arrays = {"b": B, "a": A, "half": A.astype(np.float16)}
    write_safetensors(tmp_path / "a.safetensors", lazily(arrays), {"format": "pt"})
    assert (tmp_path / "a.safetensors").read_bytes() == save(arrays, {"format": "pt"})


@pytest.mark.parametrize("name", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_dtypes_numpy_lacks_pass_through_both_formats(tmp_path, name):
    dtype = SAFETENSORS_DTYPES[name]
    array = np.array([1.5, -2, np.inf if name != "F8_E4M3" else 0, 0.25], dtype)
    write_safetensors(tmp_path / "a.safetensors", lazily({"w": array}))
    ((_, library),) = safetensors.deserialize((tmp_path / "a.safetensors").read_bytes())
    assert library["dtype"] == name
    found = open_tensors(tmp_path / "a.safetensors").read("w")
    assert (found.dtype, found.tobytes()) == (dtype, array.tobytes())


def test_bfloat16_survives_a_torch_file(tmp_path):
    array = A.astype(ml_dtypes.bfloat16)
    write_torch_zip(tmp_path / "a.bin", {"w": array})
    found = open_tensors(tmp_path / "a.bin").read("w")
    assert (found.dtype, found.tobytes()) == (array.dtype, array.tobytes())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda blob: blob[:-1], "of 55 bytes"),
        (lambda blob: blob + b"x", "expected 56 bytes of tensors, found 57"),
        (lambda blob: blob[:40], "cut or another format"),
        (lambda blob: b"", "0 bytes, cut"),
        (lambda blob: blob.replace(b"F32", b"F33"), "'F33'"),
        (lambda blob: blob.replace(b'"shape":[4]', b'"shape":[5]'), "32 bytes for I64 [5]"),
        (lambda blob: blob.replace(b'"shape":[4]', b'"shape":[-]'), "broken JSON"),
        (lambda blob: blob.replace(b'"shape":[4]', b'"shape":4.5'), "broken one"),
        (lambda blob: blob.replace(b"[32,56]", b"[31,55]"), "'a' at 31..55 after 32"),
        (lambda blob: blob.replace(b'"b":', b'"a":'), "a name given twice"),
        (lambda blob: struct.pack("<Q", 2) + b"[]", "a list"),
        (lambda blob: struct.pack("<Q", 9) + b'{"a": 12}', "broken one"),
        (lambda blob: struct.pack("<Q", 20) + b'{"__metadata__": 12}', "broken one"),
        (lambda blob: struct.pack("<Q", 1 << 62) + b"{}", "cut or another format"),
        (lambda blob: struct.pack("<Q", 20000) + b"[" * 20000, "broken JSON"),
        (lambda blob: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_damaged_safetensors_are_one_line(tmp_path, change, found):
    path = tmp_path / "a.safetensors"
    path.write_bytes(change(save({"a": A, "b": B})))
    line = refusal(open_tensors, path)
    assert line.startswith(f"{path}: expected ")
    assert found in line


def test_a_safetensors_file_cut_after_opening_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"a": A}))
    source = open_tensors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="one that ends early"):
        source.read("a")


def test_the_contents_decide_over_the_suffix(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(save({"a": A}))
    np.testing.assert_array_equal(open_tensors(tmp_path / "a.ckpt").read("a"), A)
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>")
    assert "starts with b'<!DOCTYP'" in refusal(open_tensors, tmp_path / "page.pth")
    assert "no such file" in refusal(open_tensors, tmp_path / "none.pth")


def test_safetensors_are_read_and_written_one_at_a_time(tmp_path):
    megabyte = np.zeros(1 << 18, np.float32)
    write_safetensors(tmp_path / "a.safetensors", lazily({str(i): megabyte for i in range(16)}))
    tracemalloc.start()
    source = open_tensors(tmp_path / "a.safetensors")
    write_safetensors(tmp_path / "b.safetensors", source.tensors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * megabyte.nbytes
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_failed_write_leaves_nothing(tmp_path):
    wrong = LazyTensor((3,), np.dtype(np.float32), lambda: A)
    with pytest.raises(ValueError, match="w: declared as"):
        write_safetensors(tmp_path / "a.safetensors", {"w": wrong})
    with pytest.raises(TypeError, match="w: dtype complex128 cannot go"):
        write_safetensors(tmp_path / "a.safetensors", lazily({"w": A.astype(np.complex128)}))
    assert list(tmp_path.iterdir()) == []


def write_shards(folder, suffix: str, index: str) -> dict[str, str]:
    writers = {
        ".safetensors": lambda path, arrays: path.write_bytes(save(arrays)),
        ".bin": write_torch_zip,
    }
    places = {}
    for number, arrays in enumerate(({"a": A}, {"b": B, "c": A + 1}), start=1):
        name = f"part-{number}-of-2{suffix}"
        writers[suffix](folder / name, arrays)
        places |= dict.fromkeys(arrays, name)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


@pytest.mark.parametrize(
    ("suffix", "index"),
    [
        (".safetensors", "diffusion_pytorch_model.safetensors.index.json"),
        (".bin", "pytorch_model.bin.index.json"),
    ],
)
def test_sharded_files_open_by_their_index(tmp_path, suffix, index):
    places = write_shards(tmp_path, suffix, index)
    source = open_component_folder(tmp_path)
    assert source.path == tmp_path / index
    assert source.keys() == ["a", "b", "c"]
    np.testing.assert_array_equal(source.read("c"), A + 1)
    (tmp_path / places["b"]).unlink()
    assert f"{places['b']}: expected a weight file" in refusal(open_tensors, tmp_path / index)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"d": "part-1-of-2.bin"}, "'d' in part-1-of-2.bin, found no such tensor"),
        ({"d": "../part-1-of-2.bin"}, "shards in its own folder, found '../part-1-of-2.bin'"),
        ({"c": "part-1-of-2.bin"}, "'c' in part-1-of-2.bin, found no such tensor"),
        ({"a": 3}, "broken one"),
    ],
)
def test_wrong_indices_are_refused(tmp_path, change, found):
    places = write_shards(tmp_path, ".bin", "model.bin.index.json")
    path = tmp_path / "model.bin.index.json"
    path.write_text(json.dumps({"weight_map": places | change}))
    assert found in refusal(open_tensors, path)


def test_an_index_must_list_everything_and_be_one(tmp_path):
    places = write_shards(tmp_path, ".bin", "model.bin.index.json")
    path = tmp_path / "model.bin.index.json"
    del places["c"]
    path.write_text(json.dumps({"weight_map": places}))
    assert "every tensor of its shards listed, found 'c' in a shard only" in refusal(
        open_tensors, path
    )
    for text in ("[]", "{", '{"weight_map": []}', "[" * 20000, "\x00"):
        path.write_text(text)
        assert "an index with a weight_map, found a broken one" in refusal(open_tensors, path)


def test_full_precision_goes_before_fp16_and_safetensors_before_torch(tmp_path):
    write_torch_zip(tmp_path / "diffusion_pytorch_model.fp16.bin", {"w": A})
    assert open_component_folder(tmp_path).path.name == "diffusion_pytorch_model.fp16.bin"
    (tmp_path / "diffusion_pytorch_model.fp16.safetensors").write_bytes(save({"w": A}))
    assert open_component_folder(tmp_path).path.name == "diffusion_pytorch_model.fp16.safetensors"
    write_torch_zip(tmp_path / "diffusion_pytorch_model.bin", {"w": A})
    assert open_component_folder(tmp_path).path.name == "diffusion_pytorch_model.bin"
    (tmp_path / "model.safetensors").write_bytes(save({"w": A}))
    assert open_component_folder(tmp_path).path.name == "model.safetensors"
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(save({"w": A}))
    assert open_component_folder(tmp_path).path.name == "diffusion_pytorch_model.safetensors"


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"expected one of model\.safetensors, .*found config\.json"
    ):
        open_component_folder(tmp_path, ["model"])
    with pytest.raises(UserError, match="no such folder"):
        open_component_folder(tmp_path / "none")


def test_a_prefix_is_on_all_names_or_on_none(tmp_path):
    assert carries_prefix(["module.a", "module.b"], "module.", "f")
    assert not carries_prefix(["a", "b.module."], "module.", "f")
    assert not carries_prefix([], "module.", "f")
    with pytest.raises(UserError, match=r"f: expected .* found 1 of 3 without it, such as 'b'"):
        carries_prefix(["module.a", "b", "module.c"], "module.", "f")
    source = TensorSource(tmp_path, lazily({"module.a": A, "module.b": B}), {"epoch": 1})
    bare = source.without_prefix("module.")
    assert bare.keys() == ["a", "b"]
    assert bare.extra == {"epoch": 1}
    assert bare.without_prefix("module.") is bare
