"""Mutated files of every kind: each is read or refused in one line, quickly, and nothing runs."""

import copy
import io
import json
import math
import pickle
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.readers import guess_kind, read_poses
from realisdance_jax.utils.errors import UserError
from tests.hostile import evils
from tests.poses.pose_files import (
    SIZE,
    dwpose_frame,
    gvhmr_content,
    hamer_arrays,
    hamer_frame,
    listed,
    openpose_frame,
    openpose_person,
    smplerx_meta,
    smplerx_person,
    write_gvhmr,
)
from tests.poses.test_clips import body, hands, keypoints

MOST_SECONDS = 2.0  # of the processor, so that a busy machine changes nothing
MOST_MEMORY = 1 << 28


class Arena:
    """Where it happens; no tuple, which Hypothesis would print with all its arrays."""

    def __init__(self, folder: Path):
        self.folder, self.mark = folder, folder / "was_run"
        self.seeds = corpus(folder, self.mark)


class Seed(NamedTuple):
    """A valid file: its kind, its place below the path that is read, contents and how to store."""

    kind: str
    name: str
    content: Any
    store: Callable[[Any], bytes]
    folder: bool = False


def as_json(content: Any) -> bytes:
    return json.dumps(listed(content), default=lambda value: None).encode()


def as_npz(content: Any, write: Callable[..., None] = np.savez) -> bytes:
    entries = content if isinstance(content, dict) else {"content": content}
    file = io.BytesIO()
    write(file, **{key: as_array(value) for key, value in entries.items()})
    return file.getvalue()


def as_packed_npz(content: Any) -> bytes:
    return as_npz(content, np.savez_compressed)


def as_array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # ragged
        array = np.empty((), object)
        array[()] = value
        return array


def as_npy(content: Any) -> bytes:
    rows = content if isinstance(content, list) else [content]
    array = np.empty(len(rows), object)
    for place, row in enumerate(rows):
        array[place] = row
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def with_protocol(protocol: int) -> Callable[[Any], bytes]:
    return lambda content: pickle.dumps(content, protocol)


def as_torch(folder: Path) -> Callable[[Any], bytes]:
    def store(content: Any) -> bytes:
        try:
            return write_gvhmr(folder / "a.pt", content).read_bytes()
        except (TypeError, ValueError, OverflowError, AttributeError):
            return b""  # our writer takes plain data only

    return store


def as_clip(folder: Path, clip: Any) -> dict[str, np.ndarray]:
    save_clip(folder / "a.npz", clip)
    with np.load(folder / "a.npz", allow_pickle=False) as archive:
        return dict(archive)


def small_hands() -> list:
    frame = hamer_frame(1, 0)
    return [None, frame | {"all_pred_mano_params": [{"betas": np.ones(10)}]}]


def corpus(folder: Path, mark: Path) -> dict[str, Seed]:
    frames = [dwpose_frame(2), dwpose_frame(1, seed=1, scores=False)]
    people = openpose_frame(openpose_person(), openpose_person(18))
    hamer = hamer_arrays([None, hamer_frame(1)])
    person, meta = smplerx_person(), smplerx_meta()
    bad = [frames[0] | {f"all_{name}": evil for name, evil in evils(mark).items()}]
    npz, torch = "smplx/00001_0.npz", as_torch(folder)
    return {
        "dwpose 2": Seed("dwpose", "a.pkl", frames, with_protocol(2)),
        "dwpose 5": Seed("dwpose", "a.pkl", frames, with_protocol(5)),
        "dwpose evil": Seed("dwpose", "a.pkl", bad, with_protocol(4)),
        "dwpose json": Seed("dwpose", "a.json", frames[1:], as_json),
        "dwpose folder": Seed("dwpose", "0.json", frames[1], as_json, folder=True),
        "musepose": Seed("musepose", "a.npy", frames, as_npy),
        "musepose evil": Seed("musepose", "a.npy", bad, as_npy),
        "openpose": Seed("openpose", "a.json", [people], as_json),
        "openpose folder": Seed("openpose", "0.json", people, as_json, folder=True),
        "smplerx": Seed("smplerx", npz, person, as_npz, folder=True),
        "smplerx meta": Seed("smplerx", "meta/00001_0.json", meta, as_json, folder=True),
        "gvhmr": Seed("gvhmr", "a.pt", gvhmr_content(2), torch),
        "hamer": Seed("hamer", "h.pkl", small_hands(), with_protocol(4)),
        "hamer evil": Seed("hamer", "h.pkl", [None, *bad], with_protocol(3)),
        "hamer npz": Seed("hamer", "h.npz", hamer, as_npz),
        "hamer packed": Seed("hamer", "h.npz", hamer, as_packed_npz),
        "keypoint clip": Seed("clip", "c.npz", as_clip(folder, keypoints(2, 1)), as_npz),
        "body clip": Seed("clip", "c.npz", as_clip(folder, body(2)), as_npz),
        "hand clip": Seed("clip", "c.npz", as_clip(folder, hands(2, 1)), as_npz),
    }


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    made = Arena(tmp_path_factory.mktemp("fuzz"))
    assert set(made.seeds) == set(NAMES)
    yield made
    assert not made.mark.exists()


NAMES = (
    *("dwpose 2", "dwpose 5", "dwpose evil", "dwpose json", "dwpose folder"),
    *("musepose", "musepose evil", "openpose", "openpose folder", "smplerx", "smplerx meta"),
    *("gvhmr", "hamer", "hamer evil", "hamer npz", "hamer packed"),
    *("keypoint clip", "body clip", "hand clip"),
)


def stored(arena: Arena, name: str, data: bytes) -> Path:
    """The path to read, with `data` at the place of the seed and a whole file beside it."""
    seed, root = arena.seeds[name], arena.folder / name
    target = root / seed.name
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True)
        if seed.kind == "smplerx":
            for other in (arena.seeds["smplerx"], arena.seeds["smplerx meta"]):
                (root / other.name).parent.mkdir(exist_ok=True)
                (root / other.name).write_bytes(other.store(other.content))
    target.write_bytes(data)
    return root if seed.folder else target


def read_or_refuse(path: Path, kind: str) -> bool:
    """Whether it was read; anything but a clip or one printable line fails."""
    tracemalloc.start()
    start, message = time.process_time(), ""
    try:
        guess_kind(path)
        clip = read_poses(path, kind, SIZE)
        assert isinstance(clip, KeypointClip | BodyClip | HandClip)
    except UserError as error:
        message = str(error)
    finally:
        seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert message.isprintable()
    assert seconds < MOST_SECONDS
    assert peak < MOST_MEMORY
    return not message


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds_themselves_are_read_unless_evil(name, arena):
    seed = arena.seeds[name]
    path = stored(arena, name, seed.store(seed.content))
    assert read_or_refuse(path, seed.kind) == ("evil" not in name)
    assert not arena.mark.exists()


PLACE = st.floats(0, 1, exclude_max=True)
EDIT = st.one_of(
    st.tuples(st.just("set"), PLACE, st.integers(0, 255)),
    st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
    st.tuples(st.just("fill"), PLACE, st.sampled_from([0, 0x28, 0x30, 0x7F, 0x80, 0xFF])),
    st.tuples(st.just("cut"), PLACE, PLACE),
    st.tuples(st.just("copy"), PLACE, PLACE),
    st.tuples(st.just("swap"), PLACE, st.integers(0, 9)),
    st.tuples(st.just("end"), PLACE, st.just(0)),
)
SWAPS = (
    (b"(2,", b"(99999999999,"),
    (b"'<f8'", b"'|O8'"),
    (b"'<f4'", b"'<f8'"),
    (b"0.", b"1e999 "),
    (b"[", b"[[["),
    (b"numpy", b"os"),
    (b"builtins", b"numpy"),
    (b"K\x02", b"J\xff\xff\xff\x7f"),
    (b"\x94", b"0"),
    (b"ndarray", b"dtype"),
)


def edited(data: bytes, edits: list[tuple]) -> bytes:
    for how, where, what in edits:
        at = int(where * len(data))
        chunk = slice(at, at + 8)
        if how == "set":
            data = data[:at] + bytes([what]) + data[at + 1 :]
        elif how == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (1 << what)]) + data[at + 1 :]
        elif how == "fill":
            data = data[:at] + bytes([what]) * len(data[chunk]) + data[at + 8 :]
        elif how == "cut":
            data = data[:at] + data[at + 1 + int(what * 64) :]
        elif how == "copy":
            source = int(what * len(data))
            data = data[:at] + data[source : source + 32] + data[at:]
        elif how == "swap":
            old, new = SWAPS[what]
            found = data.find(old, at)
            data = data if found < 0 else data[:found] + new + data[found + len(old) :]
        elif how == "end":
            data = data[:at]
    return data


NUMBERS = st.one_of(
    st.integers(-3, 300), st.integers(), st.floats(), st.sampled_from([2**40, 10**400, -1])
)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
DTYPES = st.sampled_from(["f4", "f8", "f2", ">f4", "i8", "u1", "?", "c8", "U3", "S2", "O", "V4"])
SIZES = st.lists(st.sampled_from([0, 1, 2, 3, 10, 18, 21, 68, 300]), max_size=3)
SHAPES = SIZES.filter(lambda shape: math.prod(shape) < 20_000)
ARRAYS = st.builds(lambda dtype, shape: np.zeros(shape, dtype), DTYPES, SHAPES)
REPEATED = st.builds(
    lambda value, rows: [[[value] * rows] * rows] * rows,
    st.none() | NUMBERS | st.text(max_size=5),
    st.integers(0, 12),
)
CHANGES = st.lists(
    st.tuples(
        st.lists(PLACE, min_size=1, max_size=4),
        st.sampled_from(["put", "drop", "repeat", "reshape", "spoil"]),
        PLAIN | ARRAYS | REPEATED,
        PLACE,
    ),
    min_size=1,
    max_size=3,
)


def changed(value: Any, place: list[float], how: str, new: Any, chance: float) -> Any:
    """`value` with whatever stands at `place` replaced, left out, repeated or spoilt."""
    inner = isinstance(value, dict | list) and value
    if inner and place:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[int(place[0] * len(keys))]
        if how == "drop" and len(place) == 1:
            del value[key]
        else:
            value[key] = changed(value[key], place[1:], how, new, chance)
        return value
    if how == "repeat":
        return [value] * int(1 + 30 * chance)
    if isinstance(value, np.ndarray) and value.size and how == "reshape":
        axis = int(chance * 3)
        return (value[None], value[:-1] if value.ndim else value, value.ravel())[axis]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and how == "spoil":
        value = value.copy()
        value.flat[int(chance * value.size) :] = (np.nan, np.inf, 1e30, -1)[int(chance * 4)]
        return value
    return new


def check_bytes(arena: Arena, name: str, edits: list[tuple]) -> None:
    seed = arena.seeds[name]
    path = stored(arena, name, edited(seed.store(seed.content), edits))
    read_or_refuse(path, seed.kind)
    assert not arena.mark.exists()


def check_structure(arena: Arena, name: str, changes: list[tuple]) -> None:
    seed = arena.seeds[name]
    content = copy.copy(seed.content) if "evil" in name else copy.deepcopy(seed.content)
    for change in changes:
        content = changed(content, *change)
    read_or_refuse(stored(arena, name, seed.store(content)), seed.kind)
    assert not arena.mark.exists()


def fuzz(examples: int) -> settings:
    unhealthy = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[*unhealthy, HealthCheck.function_scoped_fixture],
    )


BYTES = given(name=st.sampled_from(NAMES), edits=st.lists(EDIT, min_size=1, max_size=4))
STRUCTURE = given(name=st.sampled_from(NAMES), changes=CHANGES)


@fuzz(250)
@BYTES
def test_changed_bytes(arena, name, edits):
    check_bytes(arena, name, edits)


@fuzz(250)
@STRUCTURE
def test_changed_structure(arena, name, changes):
    check_structure(arena, name, changes)


@pytest.mark.slow
@fuzz(5000)
@BYTES
def test_changed_bytes_at_length(arena, name, edits):
    check_bytes(arena, name, edits)


@pytest.mark.slow
@fuzz(5000)
@STRUCTURE
def test_changed_structure_at_length(arena, name, changes):
    check_structure(arena, name, changes)
