"""Torch zip files that are hostile, damaged or of another format: one line, nothing run."""

import struct
import tarfile
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.torchzip import open_torch_zip, write_torch_zip
from tests.checkpoints.torch_pickles import (
    ONE,
    ONE_DATA,
    call,
    document,
    fragment,
    mention,
    storage,
    tensor,
    write,
)
from tests.hostile import evils
from tests.refusals import refusal


def refused(path) -> str:
    line = refusal(open_torch_zip, path)
    assert line.startswith(f"{path}: expected ")
    return line


def test_nothing_a_hostile_pickle_asks_for_is_run(tmp_path):
    mark = tmp_path / "was_run"
    fragments = {name: fragment(evil) for name, evil in evils(mark).items()}
    attribute = call("builtins", "getattr", mention("torch", "Tensor"), fragment("mro"))
    for name, evil in (fragments | {"builtins.getattr": attribute}).items():
        nested = call("torch._utils", "_rebuild_parameter", evil, b"\x89", b"}")
        for pickled in (document({"w": ONE, "key": evil}), document({"w": ONE, "key": nested})):
            line = refused(write(tmp_path / "a.pt", pickled))
            assert f"the global {name!r} at 'key'; nothing was run" in line
    assert not mark.exists()


@pytest.mark.parametrize(
    ("evil", "named"),
    [
        (call("torch", "load", fragment("x.pt")), "'torch.load'"),
        (call("torch.storage", "_load_from_bytes", fragment(b"x")), "_load_from_bytes"),
        (call("torch.jit._script", "unpackage_script_module"), "unpackage_script_module"),
        (call("numpy", "load", fragment("x.npy")), "'numpy.load'"),
        (call("__main__", "Net"), "'__main__.Net'"),
        (call("torch", "FloatStorage", fragment(3)), "a call of 'torch.FloatStorage'"),
        (call("torch", "Tensor", fragment(3)), "a call of 'torch.Tensor'"),
        (fragment("text") + b")R", "a call of 'text'"),
        (mention("torch.nn.parameter", "Parameter") + fragment({"a": 1}) + b"b", "attributes set"),
        (fragment([1]) + fragment({"a": 1}) + b"b", "attributes set"),
        (mention("collections", "OrderedDict") + b")\x81", "opcode NEWOBJ"),
        (b"(i__builtin__\neval\n", "opcode INST"),
        (b"(" + mention("collections", "OrderedDict") + b"o", "opcode OBJ"),
        (b"\x82\x01", "opcode EXT1"),
        (b"P0\n", "opcode PERSID"),
        (call("_codecs", "encode", fragment("x"), fragment("zip")), "unusual form"),
        (call("numpy", "dtype", fragment("O8"), b"\x89", b"\x88"), "the NumPy dtype 'O8'"),
        (
            call("numpy.core.multiarray", "_reconstruct", mention("torch", "Tensor"), b")"),
            "a NumPy array of the class 'torch.Tensor'",
        ),
        (
            call(
                *("torch._tensor", "_rebuild_from_type_v2", mention("torch", "device")),
                *(mention("torch", "Tensor"), b")", b"}"),
            ),
            "a tensor made by 'torch.device'",
        ),
        (
            call(
                *("torch._tensor", "_rebuild_from_type_v2"),
                *(mention("torch._utils", "_rebuild_tensor_v2"), mention("torch", "uint8"), b")}"),
            ),
            "a tensor of the class 'torch.uint8'",
        ),
        (call("torch._utils", "_rebuild_qtensor"), "a quantised tensor at 'key'"),
        (call("torch._utils", "_rebuild_sparse_tensor"), "a sparse tensor at 'key'"),
        (call("torch._utils", "_rebuild_meta_tensor_no_storage"), "without data (device meta)"),
        (
            tensor("FloatStorage", "0", 2, 0, (2,), (1,), fragment({"neg": True})),
            "pending conjugation or negation",
        ),
        (fragment({(1, 2): 3}), "a key that is not text or a number"),
    ],
)
def test_everything_outside_the_list_is_refused_by_name(tmp_path, evil, named):
    line = refused(write(tmp_path / "a.pt", document({"w": ONE, "key": evil})))
    assert named in line


@pytest.mark.parametrize(
    "body",
    [
        b"}",  # no end
        b".",  # nothing there
        b"}}.",  # two results
        b"(u.",  # items for nothing
        b"}(" + fragment("odd") + b"u.",
        b"h\x07.",  # never remembered
        b"a.",
        b"\x85.",
        b"0" * 3,
        b"X\xff\xff\xff\x7fab.",  # a text longer than the file
        b"\x8a\xff" + b"\x01" * 9,
        mention("torch", "Size") + fragment("ab") + b"\x85R.",
        call("torch", "Size", fragment((-1,))) + b".",
        call("builtins", "bytes", fragment(10**9)) + b".",
        tensor("FloatStorage", "0", 2, 0, (1 << 62, 0), (1, 1)) + b".",
        tensor("FloatStorage", "0", 2, 0, (2,), (1, 1)) + b".",
        tensor("FloatStorage", "0", 2, -1, (1,), (1,)) + b".",
        tensor("FloatStorage", "0", 2, 0, (2,), (True,)) + b".",
        tensor("UntypedStorage", "0", 8, 0, (2,), (1,)) + b".",
        call("torch._utils", "_rebuild_tensor_v2", fragment("no storage")) + b".",
        storage("float32", "0", 2) + b".",
        storage("FloatStorage", "0", -2) + b".",
    ],
)
def test_broken_pickles_are_one_line(tmp_path, body):
    refused(write(tmp_path / "a.pt", b"\x80\x02" + body))


def test_small_pickles_cannot_become_large(tmp_path):
    text = fragment("x" * 200_000) + b"q\x01"
    copies = (mention("_codecs", "encode") + b"h\x01\x85R") * 2000
    pickled = document({"w": ONE, "key": b"](" + text + copies + b"e"})
    assert "over and over" in refused(write(tmp_path / "a.pt", pickled))

    nested = b")" + b"\x85q\x01h\x01\x86" * 60  # a tuple of 2^60 leaves: no key, never walked
    started = time.monotonic()
    line = refused(write(tmp_path / "a.pt", b"\x80\x02}" + nested + b"K\x01s."))
    assert "a key that is not text or a number" in line
    assert "a dict of tensors" in refused(write(tmp_path / "a.pt", b"\x80\x02" + nested + b"."))
    assert time.monotonic() - started < 5

    huge = tensor("FloatStorage", "0", 2, 0, (1 << 40,), (0,))
    assert "does not fit" in refused(write(tmp_path / "a.pt", document({"w": huge})))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "expected 8 bytes in 'archive/data/0', found no such entry"),
        ({"0": b"1234"}, "expected 8 bytes in 'archive/data/0', found 4"),
        ({"0": b"123456789"}, "expected 8 bytes in 'archive/data/0', found 9"),
    ],
)
def test_storages_must_be_there_and_of_the_declared_size(tmp_path, data, expected):
    assert expected in refused(write(tmp_path / "a.pt", document({"w": ONE}), data))


def test_archives_of_another_kind_are_named(tmp_path):
    good = document({"w": ONE})
    path = tmp_path / "a.pt"
    order = {"byteorder": b"big"}
    assert "byte order b'big'" in refused(write(path, good, extra=order))
    assert "TorchScript" in refused(write(path, good, extra={"constants.pkl": b""}))
    assert "1 data.pkl" not in refused(write(path, document({"w": fragment(1)})))
    assert "a list" in refused(write(path, b"\x80\x02]."))
    assert "(entries: epoch)" in refused(write(path, document({"epoch": fragment(1)})))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "text")
    assert "0 data.pkl" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", good)
        archive.writestr("b/data.pkl", good)
    assert "2 data.pkl" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/data.pkl", good)
    assert "'a/data.pkl' 2 times" in refused(path)
    assert "packed otherwise" in refused(write(path, good, compression=zipfile.ZIP_BZIP2))


def test_the_oldest_format_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "storages").write_bytes(b"0")
    with tarfile.open(tmp_path / "old.tar", "w") as archive:
        archive.add(tmp_path / "storages", "storages")
    assert "the tar format" in refused(tmp_path / "old.tar")
    assert "torch.save(torch.load(f, weights_only=True), f)" in refused(tmp_path / "old.tar")


@pytest.mark.parametrize("content", [b"", b"PK", b"<!DOCTYPE html><html>", b"\x93NUMPY\x01\x00"])
def test_files_of_another_format_are_named_by_their_start(tmp_path, content):
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    assert f"starts with {content[:8]!r}" in refused(path)


def test_folders_and_missing_files_are_named(tmp_path):
    assert "found a folder" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "none.ckpt")


def small_file(path) -> bytes:
    state = {"epoch": 1, "state_dict": {"a": np.arange(40, dtype=np.float32), "b": np.ones(3)}}
    write_torch_zip(path, state)
    return path.read_bytes()


def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "a.pt"
    whole = small_file(path)
    for length in range(4, len(whole), 13):
        path.write_bytes(whole[:length])
        assert "truncated or damaged" in refused(path)


def test_changed_values_are_found_by_their_checksum(tmp_path):
    path = tmp_path / "a.pt"
    whole = small_file(path)
    place = whole.index(np.arange(40, dtype=np.float32).tobytes()) + 50
    path.write_bytes(whole[:place] + b"\x55" + whole[place + 1 :])
    with pytest.raises(
        UserError, match="'archive/data/0' whole, found it cut short or with a wrong"
    ):
        open_torch_zip(path).tensors["a"].read()


def test_a_file_cut_after_opening_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    whole = small_file(path)
    saved = open_torch_zip(path)
    path.write_bytes(whole[: whole.index(np.ones(3).tobytes()) + 5])
    with pytest.raises(UserError, match="whole, found it cut short"):
        saved.tensors["b"].read()


def central(blob: bytes, name: bytes) -> int:
    """Offset of the central directory record of an entry."""
    return blob.rindex(name) - 46


def test_dishonest_zip_records_are_refused(tmp_path):
    path = write(tmp_path / "a.pt", document({"w": ONE}), compression=zipfile.ZIP_DEFLATED)
    blob = bytearray(path.read_bytes())
    at = central(blob, b"archive/data.pkl")
    bomb, locked, short = bytearray(blob), bytearray(blob), bytearray(blob)
    struct.pack_into("<I", bomb, at + 24, 1 << 30)  # uncompressed size
    struct.pack_into("<H", locked, at + 8, 1)  # encrypted
    struct.pack_into("<I", short, at + 24, 40)
    for changed, found in (
        (bomb, "bytes for 1073741824"),
        (locked, "encrypted"),
        (short, "checksum"),
    ):
        path.write_bytes(changed)
        assert found in refused(path)

    path = write(tmp_path / "a.pt", document({"w": ONE}))
    stored = bytearray(path.read_bytes())
    at = central(stored, b"archive/data.pkl")
    struct.pack_into("<II", stored, at + 20, 1 << 30, 1 << 30)  # both sizes, so they agree
    path.write_bytes(stored)
    assert "1073741824 bytes for 1073741824" in refused(path)

    path = write(tmp_path / "a.pt", bytes(65 << 20), compression=zipfile.ZIP_DEFLATED)
    assert "at most 67108864 bytes beside the tensors" in refused(path)


def outcome(path) -> str:
    """Empty when everything reads, else the message."""
    try:
        saved = open_torch_zip(path)
        assert all(lazy.read().shape == lazy.shape for lazy in saved.tensors.values())
    except UserError as error:
        return str(error)
    return ""


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6))
def test_fuzzed_files_are_read_or_refused_but_never_crash(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("fuzz") / "a.pt"
    blob = bytearray(small_file(path))
    for place, value in changes:
        blob[int(place * len(blob))] = value
    path.write_bytes(blob)
    assert outcome(path).isprintable()


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.data())
def test_fuzzed_pickles_are_read_or_refused_but_never_crash(tmp_path_factory, data):
    pieces = (ONE, fragment({"a": [1, 2.5, None, np.int64(3)]}), call("torch", "Size", b"(K\1t"))
    blob = bytearray(document({str(i): piece for i, piece in enumerate(pieces)}))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(blob) - 1))
        known = st.sampled_from(b"}](.)utseaRbcQ0jhqX\x85\x86\x87\x88\x8aKMNq")
        blob[place] = data.draw(known | st.integers(0, 255))
    path = write(tmp_path_factory.mktemp("fuzz") / "a.pt", bytes(blob), ONE_DATA)
    assert outcome(path).isprintable()
