"""Model files: what is read of them, and what is refused in one line."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.poses.body_models import (
    convert_mano,
    mano_model,
    read_mano,
    read_smplx,
    smplx_model,
    smplx_pose,
)
from realisdance_jax.poses.synthetic_models import (
    synthetic_mano,
    synthetic_smplx,
    write_synthetic_mano,
    write_synthetic_smplx,
)
from realisdance_jax.utils.errors import UserError

BODY = synthetic_smplx(1000)
HAND = synthetic_mano(300)


def saved(path, arrays):
    np.savez(path, **arrays)
    return path


def pickled(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.fixture
def foreign(monkeypatch):
    """Classes that pickle as chumpy's and SciPy's do, without either."""
    made = {}
    for module, name in (
        ("chumpy.ch", "Ch"),
        ("chumpy.reordering", "Select"),
        ("scipy.sparse.csc", "csc_matrix"),
    ):
        for part in (module.split(".")[0], module.rpartition(".")[0], module):
            monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
        made[name] = type(name, (), {"__module__": module, "__qualname__": name})
        setattr(sys.modules[module], name, made[name])
    return made


def instance(cls, **state):
    made = cls()
    made.__dict__.update(state)
    return made


def licensed(foreign) -> dict:
    """The hand as the licensed pickle has it: a selection by chumpy, a sparse regressor."""
    rows, columns = np.nonzero(HAND["J_regressor"].T)
    source = np.concatenate([HAND["shapedirs"], -HAND["shapedirs"]], axis=-1)
    chosen = np.arange(source.size).reshape(source.shape)[..., :10]
    return HAND | {
        "shapedirs": instance(
            foreign["Select"],
            a=instance(foreign["Ch"], x=source, _dirty_vars=set(), _itr=None),
            idxs=chosen.ravel(),
            preferred_shape=chosen.shape,
            _dirty_vars={"a", "idxs"},
        ),
        "v_template": instance(foreign["Ch"], x=HAND["v_template"]),
        "J_regressor": instance(
            foreign["csc_matrix"],
            _shape=HAND["J_regressor"].shape,
            format="csc",
            data=HAND["J_regressor"].T[rows, columns],
            indices=columns.astype(np.int32),
            indptr=np.searchsorted(rows, np.arange(301)).astype(np.int32),
        ),
        "bs_style": "lbs",
    }


def assert_same(one, other):
    for name in vars(one):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_a_body_file_is_read_without_its_pickled_entry(tmp_path):
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    write_synthetic_smplx(path, 1000)
    with np.load(path) as archive, pytest.raises(ValueError, match="allow_pickle"):
        archive["joint2num"]
    model = read_smplx(path)
    assert_same(model, smplx_model(BODY))
    assert model.template.shape == (1000, 3)
    assert model.parents[:4] == (-1, 0, 0, 0)
    assert model.shape.shape[-1] == model.expression.shape[-1] == 10
    assert np.all(model.pose_mean[:25] == 0)
    assert np.all(np.abs(model.pose_mean[25:]).max(axis=1) > 0)


def test_all_components_are_split_after_three_hundred():
    directions = np.arange(1000 * 3 * 400, dtype=np.float32).reshape(1000, 3, 400)
    model = smplx_model(BODY | {"shapedirs": directions})
    np.testing.assert_array_equal(model.shape, directions[..., :300])
    np.testing.assert_array_equal(model.expression, directions[..., 300:])


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_the_licensed_hand_pickle_is_read_and_converted(tmp_path, foreign, protocol):
    path = pickled(tmp_path / "MANO_RIGHT.pkl", licensed(foreign), protocol)
    model = read_mano(path)
    assert_same(model, mano_model(HAND))
    convert_mano(path, tmp_path / "mano.npz")
    assert_same(read_mano(tmp_path / "mano.npz"), model)
    with np.load(tmp_path / "mano.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["shapedirs"], HAND["shapedirs"])


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_synthetic_hands_are_files_like_any_other(tmp_path, suffix):
    path = tmp_path / f"MANO_RIGHT{suffix}"
    write_synthetic_mano(path, 300)
    assert_same(read_mano(path), mano_model(HAND))


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("ran",)


class CallsSet:
    def __reduce__(self):
        return set, ([1],), {"x": 1}


@pytest.mark.parametrize("where", ["top", "entry", "inside"])
def test_code_in_a_pickle_is_refused_unrun(tmp_path, monkeypatch, foreign, where):
    monkeypatch.chdir(tmp_path)
    content = {
        "top": Malicious(),
        "entry": HAND | {"posedirs": Malicious()},
        "inside": HAND | {"shapedirs": instance(foreign["Ch"], x=Malicious())},
    }[where]
    with pytest.raises(UserError, match=r"MANO_RIGHT.pkl: expected a MANO pickle, .*mkdir"):
        read_mano(pickled(tmp_path / "MANO_RIGHT.pkl", content))
    assert not (tmp_path / "ran").exists()


def test_a_pickle_cannot_change_the_stand_ins(tmp_path, foreign):
    """BUILD on the class itself, and a second state with attributes."""
    select = b"cchumpy.ch\nCh\n"
    for attack in (
        b"\x80\x02" + select + b"N}X\x01\x00\x00\x00xK\x01s\x86b.",
        b"\x80\x02" + select + b")\x81N}X\x05\x00\x00\x00stateK\x01s\x86b.",
        b"\x80\x02" + select + b")\x81K\x05b.",
    ):
        path = tmp_path / "MANO_RIGHT.pkl"
        path.write_bytes(attack)
        with pytest.raises(UserError, match="expected"):
            read_mano(path)
    assert_same(read_mano(pickled(tmp_path / "a.pkl", licensed(foreign))), mano_model(HAND))


BAD_STATES = {
    "no x": ("Ch", {}),
    "text": ("Ch", {"x": "text"}),
    "objects": ("Ch", {"x": [1, 2]}),
    "a missing": ("Select", {"idxs": np.zeros(3, np.int64)}),
    "out of range": ("Select", {"a": np.zeros(3), "idxs": np.array([7])}),
    "bad shape": ("Select", {"a": np.zeros(3), "idxs": np.array([1]), "preferred_shape": (9, 9)}),
    "shape text": ("Select", {"a": np.zeros(3), "idxs": np.array([1]), "preferred_shape": "xx"}),
    "no shape": ("csc_matrix", {"data": np.ones(1)}),
    "huge": (
        "csc_matrix",
        {"_shape": (10**9, 10**9)}
        | dict.fromkeys(("data", "indices"), np.ones(0))
        | {"indptr": np.zeros(1)},
    ),
    "starts": (
        "csc_matrix",
        {
            "_shape": (2, 2),
            "data": np.ones(1),
            "indices": np.zeros(1, int),
            "indptr": np.array([0, 5, 1]),
        },
    ),
    "rows": (
        "csc_matrix",
        {
            "_shape": (2, 1),
            "data": np.ones(1),
            "indices": np.array([5]),
            "indptr": np.array([0, 1]),
        },
    ),
    "negative": (
        "csc_matrix",
        {
            "_shape": (2, 1),
            "data": np.ones(1),
            "indices": np.array([-1]),
            "indptr": np.array([0, 1]),
        },
    ),
}


@pytest.mark.parametrize(("kind", "state"), BAD_STATES.values(), ids=BAD_STATES)
def test_damaged_foreign_objects_are_refused(tmp_path, foreign, kind, state):
    content = HAND | {"shapedirs": instance(foreign[kind], **state)}
    with pytest.raises(UserError, match=r"shapedirs: expected an array, found|without its values"):
        read_mano(pickled(tmp_path / "MANO_RIGHT.pkl", content))


@pytest.mark.parametrize("key", ["v_template", "kintree_table", "posedirs", "hands_meanl"])
def test_a_missing_entry_is_named(tmp_path, key):
    path = saved(tmp_path / "body.npz", {k: v for k, v in BODY.items() if k != key})
    with pytest.raises(UserError) as caught:
        read_smplx(path)
    assert str(caught.value) == f"{path}: expected the entry {key!r}, found none"


BAD_ENTRIES = {
    "shape": ({"weights": BODY["weights"][:, :54]}, r"weights: expected shape \(1000, 55\)"),
    "axes": ({"shapedirs": BODY["v_template"]}, r"shapedirs: expected shape \(1000, 3, s\)"),
    "other count": ({"posedirs": BODY["posedirs"][:9]}, r"posedirs: .*\(1000, 3, 486\), found \(9"),
    "not finite": ({"weights": BODY["weights"] * np.nan}, "weights: expected finite numbers"),
    "text": ({"hands_meanl": np.array(["a"] * 45)}, "hands_meanl: expected finite numbers"),
    "faces": ({"f": BODY["f"] + 1}, "f: expected vertices below 1000, found 1000"),
    "tree": ({"kintree_table": BODY["kintree_table"][:, ::-1]}, "parents before children"),
    "objects": ({"f": np.array([{}], dtype=object)}, "unreadable file"),
}


@pytest.mark.parametrize(("change", "message"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_a_bad_entry_is_named(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as caught:
        read_smplx(saved(tmp_path / "body.npz", BODY | change))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "body.npz") in str(caught.value)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "mano.npz"
    np.savez_compressed(path, **HAND)
    return path, path.read_bytes()


@given(st.data())
@settings(derandomize=True, max_examples=40, deadline=None)
def test_damaged_archives_are_refused_in_one_line(archive, data):
    path, whole = archive
    raw = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw) - 1))
        raw[start : start + 40] = data.draw(st.binary(min_size=1, max_size=40))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(UserError) as caught:
        read_mano(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["MANO_RIGHT.txt", "MANO_RIGHT.pkl", "MANO_RIGHT.npz"])
def test_what_is_no_model_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="found no such file"):
        read_mano(tmp_path / name)
    (tmp_path / name).write_text("nonsense")
    with pytest.raises(UserError, match="expected a MANO"):
        read_mano(tmp_path / name)
    with pytest.raises(UserError, match=r"expected a dict of arrays|expected a MANO"):
        read_mano(pickled(tmp_path / "MANO_RIGHT.pkl", [1, 2]))


def test_conversion_writes_only_archives_of_hands(tmp_path):
    hand = pickled(tmp_path / "MANO_RIGHT.pkl", HAND)
    with pytest.raises(UserError, match="expected a name ending in"):
        convert_mano(hand, tmp_path / "mano.pkl")
    body = pickled(tmp_path / "SMPLX.pkl", BODY)
    with pytest.raises(UserError, match=r"expected a MANO model, found an SMPL-X model"):
        convert_mano(body, tmp_path / "mano.npz")
    assert not (tmp_path / "mano.npz").exists()


def test_poses_are_put_together_in_the_order_of_the_model():
    model = smplx_model(BODY)
    parts = {
        "global_orient": np.full((2, 3), 1.0, np.float32),
        "body_pose": np.full((2, 63), 2.0, np.float32),
        "right_hand_pose": np.full((2, 15, 3), 3.0, np.float32),
    }
    pose = smplx_pose(model, parts)
    values = pose[:, :, 0] - model.pose_mean[:, 0]
    np.testing.assert_allclose(values[0], [1.0] + 21 * [2.0] + 18 * [0.0] + 15 * [3.0], atol=1e-6)
    flat = smplx_pose(model, parts, add_hand_mean=False)
    np.testing.assert_array_equal(flat[:, 25:40], 0)
    with pytest.raises(UserError, match="found 'left_hand'"):
        smplx_pose(model, {"left_hand": np.zeros((2, 45), np.float32)})
    with pytest.raises(UserError, match=r"body_pose: expected shape \(2, 21, 3\), found \(1, 63\)"):
        smplx_pose(model, parts | {"body_pose": np.zeros((1, 63), np.float32)})
