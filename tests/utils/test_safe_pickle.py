"""Hostile and damaged pickles: nothing runs, and the only exception is a one-line UserError."""

import io
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.safe_pickle import NUMPY_GLOBALS, Guarded, load_pickle
from tests.refusals import refusal


def load(data: bytes, allowed=NUMPY_GLOBALS):
    return load_pickle(io.BytesIO(data), allowed, "a test pickle")


def refused(data: bytes, allowed=NUMPY_GLOBALS) -> str:
    line = refusal(load, data, allowed)
    assert "a test pickle" in line
    return line


def load_or_refuse(data: bytes) -> None:
    message = ""
    try:
        load(data)
    except UserError as error:
        message = str(error)
    assert "\n" not in message


class Calls:
    """Pickles as the call `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    np.arange(6, dtype=">i4").reshape(3, 2),
    np.zeros((0, 18)),
    np.array(5, np.int64),
    np.array([True, False]),
    np.arange(3, dtype=np.float16),
    np.arange(8, dtype=np.uint8)[::2],
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_scalars_and_bytes_survive_every_protocol(protocol):
    shared = np.arange(4)
    content = {"arrays": ARRAYS, "scalar": np.float64(2.5), "bytes": [b"", b"\xff\x00"]}
    content |= {"twice": (shared, shared), "text": "é", "numbers": (1, 2**70, None, True, 0.5)}
    found = load(pickle.dumps(content, protocol=protocol))
    for got, wanted in zip(found["arrays"], ARRAYS, strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert (got.dtype.kind, got.dtype.itemsize) == (wanted.dtype.kind, wanted.dtype.itemsize)
        assert got.flags.writeable
        assert type(pickle.loads(pickle.dumps(got))) is np.ndarray
    assert found["scalar"] == 2.5
    assert found["bytes"] == [b"", b"\xff\x00"]
    assert found["twice"][0] is found["twice"][1]
    assert found["text"] == "é"
    assert found["numbers"] == (1, 2**70, None, True, 0.5)


def test_numpy_1_module_names_and_python_2_strings_load():
    new = pickle.dumps(np.arange(3.0), protocol=2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new
    np.testing.assert_array_equal(load(old), np.arange(3.0))
    raw = np.array([1.5]).tobytes()
    build = b"(K\x01(K\x01tcnumpy\ndtype\n(U\x02f8K\x00K\x01tR\x89U\x08" + raw + b"tb."
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    np.testing.assert_array_equal(load(head + build), [1.5])


def hostile(marker) -> dict[str, bytes]:
    """Pickles that would create the file `marker` under an ordinary unpickler."""
    command = f"touch {marker}"
    system = b"c" + os.system.__module__.encode() + b"\nsystem\n"
    code = f"__import__('os').system({command!r})"
    getattr_system = b"cbuiltins\ngetattr\n(cos\n__dict__\n" + text("system") + b"tR"
    attack = {
        f"reduce protocol {protocol}": pickle.dumps(Calls(os.system, command), protocol=protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    }
    return attack | {
        "eval": pickle.dumps(Calls(eval, code)),
        "exec": pickle.dumps(Calls(exec, code)),
        "nested in data": pickle.dumps([{"hands": Calls(os.system, command)}]),
        "nested getattr": b"\x80\x04" + getattr_system + text(command) + b"\x85R.",
        "inst": b"(S" + repr(command).encode() + b"\nios\nsystem\n.",
        "obj": b"(" + system + text(command) + b"o.",
        "stack global": b"\x80\x04"
        + text("os")
        + text("system")
        + b"\x93"
        + text(command)
        + b"\x85R.",
        "dotted name": b"\x80\x04"
        + text("numpy")
        + text("os.system")
        + b"\x93"
        + text(command)
        + b"\x85R.",
        "newobj": b"\x80\x04csubprocess\nPopen\n" + text(command) + b"\x85\x81.",
        "import only": b"\x80\x04cantigravity\nfly\n.",
    }


def test_code_in_pickles_is_named_and_never_runs(tmp_path):
    marker = tmp_path / "ran"
    attacks = hostile(marker)
    for name, data in attacks.items():
        message = refused(data)
        assert "global" in message, name
        assert not marker.exists(), name
    assert "system" in refused(attacks["reduce protocol 4"])
    assert "builtins.eval" in refused(attacks["eval"])
    # The attack is real: an ordinary unpickler does create the file.
    pickle.loads(attacks["inst"])
    assert marker.exists()


def test_global_names_in_messages_cannot_break_the_line():
    name = "x\nsecond line" + "y" * 500
    message = refused(b"\x80\x04" + text("evil") + text(name) + b"\x93.")
    assert len(message) < 300


BUILD_ABUSE = {
    "function attribute": b"c_codecs\nencode\nN}" + text("_function") + text("x") + b"s\x86b.",
    "function dict": b"c_codecs\nencode\n}" + text("_function") + text("x") + b"sb.",
    "class attribute": b"cnumpy\nndarray\nN}" + text("__setstate__") + b"Ns\x86b.",
    "dtype with fields": b"cnumpy\ndtype\n" + text("f8") + b"\x85R(K\x03" + text("<")
    + b"N" + text("a") + b"\x85}J\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb.",
    "dtype of huge items": b"cnumpy\ndtype\n" + text("V99999999") + b"\x85R.",
    "dtype of objects": b"cnumpy\ndtype\n" + text("O") + b"\x85R.",
    "direct array": b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",
    "huge bytes": b"cbuiltins\nbytes\n(J\xff\xff\xff\x7ftR.",
    "odd codec": b"c_codecs\nencode\n" + text("uryyb") + text("rot13") + b"\x86R.",
    "zip codec": b"c_codecs\nencode\n" + text("a") + text("zlib") + b"\x86R.",
}  # fmt: skip


@pytest.mark.parametrize("name", BUILD_ABUSE)
def test_allowed_globals_cannot_be_abused(name):
    refused(b"\x80\x04" + BUILD_ABUSE[name])
    assert load(pickle.dumps(np.arange(2.0), protocol=0)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, None], object),
        np.zeros(3, [("a", np.float32)]),
        np.array(["text"]),
        np.array([b"raw"]),
        np.array([1j]),
        np.array(["2024-01-01"], "datetime64[D]"),
    ],
    ids=lambda array: str(array.dtype),
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_anything_but_numbers_are_refused(array, protocol):
    refused(pickle.dumps(array, protocol=protocol))


def test_array_bytes_must_fit_the_shape():
    head = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    dtype = b"cnumpy\ndtype\n" + text("f8") + b"\x85R"
    for shape in (
        b"K\x02\x85",
        b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86",
        b"J\xff\xff\xff\xff\x85",
    ):
        state = b"(K\x01" + shape + dtype + b"\x89C\x08" + bytes(8) + b"tb."
        refused(head + state)


def test_small_files_cannot_claim_much(tmp_path):
    start = b"\x80\x04"
    for data in (
        start + b"Nr\xff\xff\xff\xff.",  # memo slot 2**32 - 1
        start + b"\x8e" + struct.pack("<Q", 2**62) + b"x.",  # bytes of 2**62
        start + b"N" + b"\x85" * 1_000_000 + b".",  # a tuple a million deep
        start + b"}N" + b"2\x86" * 60 + b"Ns.",  # hashing it would take 2**60 steps
        start + b"]" * 100 + b"a" * 200 + b".",
        b"",
        b"\x80",
        b"\x80\x63.",
        b".",
        b"0.",
        b"not a pickle at all",
        start + b"]N\x82\x01.",
        start + text("id") + b"Q.",
        b"Pid\n.",
    ):
        refused(data)


def test_paths_are_named_and_checked(tmp_path):
    path = tmp_path / "a.pkl"
    with pytest.raises(UserError, match=r"a\.pkl: expected a thing, found no such file"):
        load_pickle(path, {}, "a thing")
    with pytest.raises(UserError, match="found a folder"):
        load_pickle(tmp_path, {}, "a thing")
    path.write_bytes(pickle.dumps([1, 2]))
    assert load_pickle(path, {}, "a thing") == [1, 2]
    assert load_pickle(str(path), {}, "a thing") == [1, 2]


def test_own_table_and_persistent_ids():
    calls = []
    allowed = {("mine", "make"): Guarded(lambda *values: calls.append(values) or "made")}
    data = b"\x80\x04cmine\nmake\nK\x01K\x02\x86R" + text("key") + b"Q\x86."
    found = load_pickle(io.BytesIO(data), allowed, "x", persistent_load=lambda pid: f"<{pid}>")
    assert found == ("made", "<key>")
    assert calls == [(1, 2)]
    refused(data, allowed)


SAMPLE = {
    protocol: pickle.dumps(
        [{"bodies": {"candidate": np.ones((3, 2))}, "H": 4, "hands": np.float64(1), "b": b"x"}],
        protocol=protocol,
    )
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
}


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLE)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.floats(0, 1),
)
def test_damaged_pickles_raise_only_user_errors(protocol, edits, keep):
    data = bytearray(SAMPLE[protocol])
    for place, byte in edits:
        data[int(place * len(data))] = byte
    if not edits:
        data = data[: int(keep * len(data))]
    load_or_refuse(bytes(data))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.lists(
        st.sampled_from(list(b"(.0123]}NKMXcRotbsaue\x80\x81\x85\x86\x87\x88\x94h\nq")), max_size=40
    )
)
def test_random_opcodes_raise_only_user_errors(opcodes):
    load_or_refuse(b"\x80\x04" + bytes(opcodes) + b".")
