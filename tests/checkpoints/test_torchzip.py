"""Torch zip files: what is read, what is written, how much memory it takes."""

import struct
import tracemalloc
import weakref
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.lazy import TORCH_STORAGES, LazyTensor
from realisdance_jax.utils.torch_files.torchzip import open_torch_zip, write_torch_zip
from tests.checkpoints.torch_pickles import (
    ONE,
    call,
    document,
    fragment,
    mention,
    storage,
    tensor,
    write,
)

FLOATS = np.arange(24, dtype=np.float32)


@pytest.mark.parametrize(("stage", "count"), [(1, 1424), (2, 2124)])
def test_a_true_torch_file_reads_bit_for_bit_like_its_safetensors_twin(oracle_folder, stage, count):
    saved = open_torch_zip(oracle_folder / f"stage{stage}.ckpt")
    twin = load_file(oracle_folder / f"stage{stage}.safetensors")
    assert len(saved.tensors) == count
    assert set(saved.tensors) == {f"module.{name}" for name in twin}
    assert saved.extra == {"epoch": 3, "global_step": 12345}
    for name, expected in twin.items():
        lazy = saved.tensors[f"module.{name}"]
        assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(lazy.read(), expected)


def arrays(dtype: np.dtype) -> st.SearchStrategy[np.ndarray]:
    """Any bits of a dtype, NaNs included; booleans are 0 and 1."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    raw = np.dtype(np.bool_) if dtype == np.bool_ else np.dtype(f"V{dtype.itemsize}")
    if dtype == np.bool_:
        return hnp.arrays(raw, shapes)
    return shapes.flatmap(
        lambda shape: hnp.arrays(np.uint8, (*shape, dtype.itemsize)).map(
            lambda values: np.frombuffer(values.tobytes(), dtype).reshape(shape)
        )
    )


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(list(TORCH_STORAGES.values())).flatmap(arrays), min_size=1, max_size=3
    ),
    PLAIN,
)
def test_what_is_written_is_read_back(tmp_path_factory, values, plain):
    path = tmp_path_factory.mktemp("written") / "a.pt"
    state = {f"layer.{i}": value for i, value in enumerate(values)}
    write_torch_zip(path, {"epoch": 3, "state_dict": state, "other": plain})
    saved = open_torch_zip(path)
    assert saved.extra == {"epoch": 3, "other": plain}
    assert list(saved.tensors) == list(state)
    for name, value in state.items():
        found = saved.tensors[name].read()
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert found.tobytes() == value.tobytes()


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=4),
    st.integers(0, 12),
)
def test_views_are_the_elements_torch_would_see(tmp_path_factory, dims, offset):
    shape, strides = tuple(n for n, _ in dims), tuple(step for _, step in dims)
    indices = np.indices(shape).reshape(len(shape), -1).T if shape else np.zeros((1, 0), int)
    places = offset + (indices * strides).sum(-1).astype(int)
    view = tensor("FloatStorage", "0", len(FLOATS), offset, shape, strides)
    folder = tmp_path_factory.mktemp("view")
    path = write(folder / "a.pt", document({"a": view}), {"0": FLOATS.tobytes()})
    if len(places) and places.max() >= len(FLOATS):
        with pytest.raises(UserError, match="does not fit"):
            open_torch_zip(path)
    else:
        found = open_torch_zip(path).tensors["a"].read()
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, FLOATS[places].reshape(shape))


def test_tensors_may_share_a_storage_and_pass_through_parameters(tmp_path):
    first = tensor("FloatStorage", "0", 24, 0, (2, 3), (3, 1))
    last = tensor("FloatStorage", "0", 24, 18, (3, 2), (1, 3))
    parameter = call("torch._utils", "_rebuild_parameter", last, b"\x88", fragment({}))
    subclass = call(
        *("torch._tensor", "_rebuild_from_type_v2", mention("torch._utils", "_rebuild_tensor_v2")),
        *(mention("torch", "Tensor"), b"(" + storage("FloatStorage", "0", 24), fragment(23)),
        *(b"))\x89}t", fragment({"note": 1})),
    )
    pickled = document({"a": first, "b": parameter, "c": subclass})
    saved = open_torch_zip(write(tmp_path / "a.pt", pickled, {"0": FLOATS.tobytes()})).tensors
    np.testing.assert_array_equal(saved["a"].read(), FLOATS[:6].reshape(2, 3))
    np.testing.assert_array_equal(saved["b"].read(), FLOATS[18:].reshape(2, 3).T)
    assert saved["c"].read() == FLOATS[23]
    assert saved["c"].shape == ()


def test_dtypes_without_a_storage_class_are_read(tmp_path):
    def untyped(dtype):
        arguments = (fragment(1), fragment((2,)), fragment((1,)), b"\x89", b"}")
        bare = storage("UntypedStorage", "0", 24, module="torch.storage")
        return call("torch._utils", "_rebuild_tensor_v3", bare, *arguments, mention("torch", dtype))

    raw = bytes(range(24))
    names = {"uint16": np.uint16, "uint64": np.uint64}
    names |= {name: getattr(ml_dtypes, name) for name in ("float8_e4m3fn", "float8_e5m2")}
    pickled = document({name: untyped(name) for name in names})
    saved = open_torch_zip(write(tmp_path / "a.pt", pickled, {"0": raw})).tensors
    for name, dtype in names.items():
        expected = np.frombuffer(raw, dtype)[1:3]
        assert saved[name].read().dtype == expected.dtype
        assert saved[name].read().tobytes() == expected.tobytes()


def test_booleans_are_true_for_any_byte_but_zero(tmp_path):
    pickled = document({"a": tensor("BoolStorage", "0", 4, 0, (4,), (1,))})
    found = open_torch_zip(write(tmp_path / "a.pt", pickled, {"0": b"\0\1\2\xff"})).tensors["a"]
    assert found.read().tolist() == [False, True, True, True]


def test_plain_values_of_trainers_come_out_as_python(tmp_path):
    plain = {
        "epoch": np.int64(7),
        "lr": np.float32(0.5),
        "big": np.arange(6, dtype=">i4").reshape(2, 3),
        "fortran": np.asfortranarray(np.eye(2)),
        "flag": np.bool_(True),
        "bytes": b"\xff\0",
        "empty": b"",
        "set": {1, 2},
        "complex": 1 - 2j,
        "none": None,
    }
    more = {
        "size": call("torch", "Size", fragment((2, 3))),
        "device": call("torch", "device", fragment("cuda"), fragment(1)),
        "dtype": mention("torch", "bfloat16"),
        "ordered": call("collections", "OrderedDict", fragment([["a", 1]])) + b"}b",
    }
    pickled = document({"w": ONE} | {k: fragment(v) for k, v in plain.items()} | more)
    extra = open_torch_zip(write(tmp_path / "a.pt", pickled)).extra
    for name in ("big", "fortran"):
        np.testing.assert_array_equal(extra.pop(name), plain.pop(name))
    assert extra == {
        **plain,
        **{"size": (2, 3), "device": "cuda:1", "dtype": "torch.bfloat16", "ordered": {"a": 1}},
    }
    assert type(extra["epoch"]) is int
    assert type(extra["lr"]) is float


def test_later_pickle_protocols_are_read(tmp_path):
    import pickle

    body = pickle.dumps({"step": 5, "b": b"x", "s": {1}, "n": np.int64(3)}, 4)
    content = body[:-2] + fragment("w") + ONE + b"u."  # one more item for the dict
    frames = content[:2] + content[11:]  # without the frame, whose length no longer holds
    saved = open_torch_zip(write(tmp_path / "a.pt", frames))
    assert saved.extra == {"step": 5, "b": b"x", "s": {1}, "n": 3}
    assert saved.tensors["w"].read().tolist() == [1, 2]


@pytest.mark.parametrize("wrapper", ["state_dict", "module", "model"])
def test_the_state_dict_may_be_wrapped(tmp_path, wrapper):
    state = {"a": FLOATS, "note": "kept"}
    write_torch_zip(tmp_path / "a.pt", {wrapper: state, "epoch": 1, "optimizer": {"m": FLOATS}})
    saved = open_torch_zip(tmp_path / "a.pt")
    assert list(saved.tensors) == ["a"]
    np.testing.assert_array_equal(saved.extra["optimizer"]["m"].read(), FLOATS)
    assert saved.extra["epoch"] == 1
    assert saved.extra["note"] == "kept"
    assert wrapper not in saved.extra


def test_a_bare_state_dict_keeps_its_other_entries_apart(tmp_path):
    write_torch_zip(tmp_path / "a.pt", {"a": FLOATS, "step": 4})
    saved = open_torch_zip(tmp_path / "a.pt")
    assert list(saved.tensors) == ["a"]
    assert saved.extra == {"step": 4}


def test_compressed_entries_are_read(tmp_path):
    pickled = document({"a": tensor("FloatStorage", "0", 24, 4, (5,), (2,))})
    data = {"0": FLOATS.tobytes()}
    path = write(tmp_path / "a.pt", pickled, data, compression=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(open_torch_zip(path).tensors["a"].read(), FLOATS[4:14:2])


def test_a_file_written_without_checksums_is_read(tmp_path):
    write_torch_zip(tmp_path / "a.pt", {"a": FLOATS})
    blob = (tmp_path / "a.pt").read_bytes()
    for info in zipfile.ZipFile(tmp_path / "a.pt").infolist():
        blob = blob.replace(struct.pack("<I", info.CRC), bytes(4))
    (tmp_path / "a.pt").write_bytes(blob)
    np.testing.assert_array_equal(open_torch_zip(tmp_path / "a.pt").tensors["a"].read(), FLOATS)


def test_storages_begin_at_multiples_of_64_bytes(tmp_path):
    write_torch_zip(tmp_path / "a.pt", {str(n): FLOATS[:n] for n in range(9)})
    blob = (tmp_path / "a.pt").read_bytes()
    for info in zipfile.ZipFile(tmp_path / "a.pt").infolist():
        names = struct.unpack_from("<HH", blob, info.header_offset + 26)
        assert (info.header_offset + 30 + sum(names)) % 64 == 0


def test_equal_states_give_equal_files(tmp_path):
    for name in ("a.pt", "b.pt"):
        write_torch_zip(tmp_path / name, {"w": FLOATS, "epoch": 1})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_the_writer_lets_go_of_a_tensor_before_it_asks_for_the_next(tmp_path):
    seen: list[weakref.ref] = []

    def read():
        assert all(reference() is None for reference in seen)
        array = np.ones(1000, np.float32)
        seen.append(weakref.ref(array))
        return array

    tensors = {str(i): LazyTensor((1000,), np.dtype(np.float32), read) for i in range(4)}
    write_torch_zip(tmp_path / "a.pt", tensors)
    assert len(seen) == 4


def test_reading_and_copying_a_file_take_the_memory_of_one_tensor(tmp_path):
    megabyte = np.zeros(1 << 18, np.float32)
    write_torch_zip(tmp_path / "a.pt", {str(i): megabyte for i in range(16)})
    tracemalloc.start()
    saved = open_torch_zip(tmp_path / "a.pt")
    assert sum(float(lazy.read().sum()) for lazy in saved.tensors.values()) == 0
    write_torch_zip(tmp_path / "b.pt", saved.tensors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * megabyte.nbytes


def test_a_failing_reader_leaves_the_old_file(tmp_path):
    write_torch_zip(tmp_path / "a.pt", {"w": FLOATS})
    before = (tmp_path / "a.pt").read_bytes()
    wrong = LazyTensor((3,), np.dtype(np.float32), lambda: FLOATS)
    with pytest.raises(ValueError, match=r"declared as \(\(3,\), 'float32'\)"):
        write_torch_zip(tmp_path / "a.pt", {"w": wrong})
    assert (tmp_path / "a.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_what_torch_would_not_take_back_is_not_written(tmp_path):
    with pytest.raises(TypeError, match=r"opt.1: a object cannot go"):
        write_torch_zip(tmp_path / "a.pt", {"opt": [1, object()]})
    with pytest.raises(TypeError, match="w: the dtype uint16 cannot go"):
        write_torch_zip(tmp_path / "a.pt", {"w": np.ones(2, np.uint16)})
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(UserError, match=r"folder\.pt: cannot write it"):
        write_torch_zip(tmp_path / "folder.pt", {"w": FLOATS})
