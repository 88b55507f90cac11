"""Files of torch.save before PyTorch 1.6: read like zip files, refused in one line."""

import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.metrics.lpips import LINEAR
from realisdance_jax.metrics.weights import read_weights
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.torchzip import open_torch_zip
from tests.checkpoints.torch_pickles import (
    MAGIC,
    ONE,
    call,
    document,
    fragment,
    storage,
    tensor,
    write_legacy,
)
from tests.hostile import evils
from tests.refusals import refusal

FLOATS = np.arange(24, dtype=np.float32)
PAIR = document({"w": ONE, "epoch": fragment(3)})


def old_tensor(kind: str, key: str, count: int, offset: int, shape: tuple, strides: tuple) -> bytes:
    """With the sixth entry of the persistent id, None."""
    numbers = (fragment(offset), fragment(shape), fragment(strides))
    hooks = call("collections", "OrderedDict")
    stored = storage(kind, key, count, more=pickle.NONE)
    return call("torch._utils", "_rebuild_tensor_v2", stored, *numbers, pickle.NEWFALSE, hooks)


def refused(path) -> str:
    line = refusal(open_torch_zip, path)
    assert line.startswith(f"{path}: expected ")
    return line


def test_tensors_and_plain_data(tmp_path):
    pickled = document(
        {
            "a": old_tensor("FloatStorage", "94", 24, 18, (3, 2), (1, 3)),
            "b": old_tensor("FloatStorage", "94", 24, 0, (24,), (1,)),
            "c": tensor("LongStorage", "17", 3, 0, (3,), (1,)),
            "empty": old_tensor("HalfStorage", "5", 0, 0, (0, 4), (4, 1)),
            "epoch": fragment(np.int64(7)),
            "arch": fragment("resnet"),
        }
    )
    longs = np.array([1, -2, 2**40])
    data = {"17": (3, longs.tobytes()), "5": (0, b""), "94": (24, FLOATS.tobytes())}
    saved = open_torch_zip(write_legacy(tmp_path / "a.pth", pickled, data))
    assert saved.extra == {"epoch": 7, "arch": "resnet"}
    np.testing.assert_array_equal(saved.tensors["a"].read(), FLOATS[18:].reshape(2, 3).T)
    np.testing.assert_array_equal(saved.tensors["b"].read(), FLOATS)
    np.testing.assert_array_equal(saved.tensors["c"].read(), longs)
    assert saved.tensors["empty"].read().shape == (0, 4)


def test_weights_of_a_published_metric(tmp_path):
    """LPIPS: `lin0.model.1.weight` and so on, one storage each, as its files have them."""
    wanted = LINEAR["alex"]
    entries, data = {}, {}
    for number, (name, shape) in enumerate(wanted.shapes.items()):
        count = int(np.prod(shape))
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
        entries[name] = old_tensor("FloatStorage", str(number), count, 0, shape, strides)
        data[str(number)] = (count, np.full(count, number, np.float32).tobytes())
    write_legacy(tmp_path / wanted.filename, document(entries), data)
    found = read_weights(tmp_path, wanted)
    assert set(found) == set(wanted.shapes)
    for number, name in enumerate(wanted.shapes):
        assert (np.asarray(found[name]) == number).all()


def test_nothing_a_hostile_file_asks_for_is_run(tmp_path):
    mark = tmp_path / "was_run"
    for name, evil in evils(mark).items():
        path = write_legacy(tmp_path / "a.pth", document({"w": ONE, "key": fragment(evil)}))
        assert f"the global {name!r} at 'key'; nothing was run" in refused(path)
        for place in ("facts", "keys", "version"):
            path = write_legacy(tmp_path / "a.pth", PAIR, **{place: evil})
            assert f"the global {name!r}" in refused(path)
    assert not mark.exists()


def test_modules_saved_whole_are_refused(tmp_path):
    source = (
        fragment("module") + pickle.GLOBAL + b"model\nNet\n" + fragment("net.py") + fragment("")
    )
    module = pickle.MARK + source + pickle.TUPLE + pickle.BINPERSID
    path = write_legacy(tmp_path / "a.pth", document({"w": ONE, "net": module}))
    assert "the global 'model.Net'" in refused(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 1000}, "version 1001"),
        ({"facts": {"little_endian": False}}, "little-endian tensors"),
        ({"facts": [1]}, "little-endian tensors"),
        ({"keys": ["1"]}, "the storages of its tensors"),
        ({"keys": ["0", "0"]}, "the storages of its tensors"),
        ({"keys": "0"}, "the storages of its tensors"),
        ({"data": {"0": (3, bytes(8))}}, "8 bytes in storage '0'"),
        ({"data": {"0": (-2, bytes(8))}}, "8 bytes in storage '0'"),
        ({"data": {"0": (2, bytes(7))}}, "a truncated one, in storage '0'"),
    ],
)
def test_dishonest_files_are_refused(tmp_path, change, reason):
    assert reason in refused(write_legacy(tmp_path / "a.pth", PAIR, **change))


def test_views_that_leave_their_storage_are_refused(tmp_path):
    two = {"a": ONE, "b": tensor("FloatStorage", "0", 3, 0, (3,), (1,))}
    assert "one size of the storage '0'" in refused(write_legacy(tmp_path / "a.pth", document(two)))
    long = document({"a": tensor("FloatStorage", "0", 2, 1, (2,), (1,))})
    assert "does not fit" in refused(write_legacy(tmp_path / "a.pth", long))
    part = storage("FloatStorage", "0", 2, more=fragment(("1", 0, 2)))
    arguments = (part, fragment(0), fragment((2,)), fragment((1,)))
    old = document({"a": call("torch._utils", "_rebuild_tensor", *arguments)})
    assert "part of another one" in refused(write_legacy(tmp_path / "a.pth", old))


def test_files_cut_off_anywhere_are_refused(tmp_path):
    whole = write_legacy(tmp_path / "a.pth", PAIR).read_bytes()
    assert open_torch_zip(tmp_path / "a.pth").tensors["w"].read().tolist() == [1, 2]
    for length in range(20, len(whole)):
        (tmp_path / "b.pth").write_bytes(whole[:length])
        assert refused(tmp_path / "b.pth")


def test_lengths_beyond_the_file_cost_nothing(tmp_path):
    head = pickle.dumps(MAGIC, 2)
    started = time.perf_counter()
    for opcode in (b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f", b"X\xff\xff\xff\xff"):
        (tmp_path / "a.pth").write_bytes(head + b"\x80\x02" + opcode)
        assert "truncated or damaged" in refused(tmp_path / "a.pth")
    assert time.perf_counter() - started < 1


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_end_in_one_line_or_in_data(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(write_legacy(folder / "a.pth", PAIR).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(14, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.pth").write_bytes(content)
    lines: list[str] = []
    try:
        for lazy in open_torch_zip(folder / "a.pth").tensors.values():
            lazy.read()
    except UserError as error:
        lines = str(error).splitlines()
    assert len(lines) <= 1
