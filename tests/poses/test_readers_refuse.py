"""Files that are malicious, incomplete or claim absurd sizes: one line, nothing run."""

import copy
import pickle
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.poses.readers import read_poses
from tests.checkpoints import torch_pickles
from tests.hostile import evils
from tests.poses.pose_files import (
    SIZE,
    dwpose_frame,
    gvhmr_content,
    hamer_arrays,
    hamer_frame,
    openpose_frame,
    openpose_person,
    smplerx_meta,
    smplerx_person,
    write_gvhmr,
    write_json,
    write_musepose,
    write_pickle,
    write_smplerx,
)
from tests.poses.test_clips import body
from tests.refusals import refusal


def refused(path: Path, kind: str) -> str:
    line = refusal(read_poses, path, kind, SIZE)
    assert line.startswith(str(path))
    return line


def with_evil(kind: str, folder: Path, evil: object) -> Path:
    """A file of this kind, whole but for one value."""
    if kind == "dwpose":
        return write_pickle(folder / "a.pkl", [dwpose_frame() | {"note": evil}])
    if kind == "musepose":
        return write_musepose(folder / "a.npy", [dwpose_frame() | {"note": evil}])
    if kind == "hamer pickle":
        return write_pickle(folder / "h.pkl", [hamer_frame(1) | {"all_pred_mano_params": evil}])
    if kind == "hamer npz":
        np.savez(folder / "h.npz", **hamer_arrays([hamer_frame(1)]) | {"all_cam_t": [evil]})
        return folder / "h.npz"
    if kind == "smplerx":
        write_smplerx(folder, "00001_0", smplerx_person() | {"betas": [evil]}, smplerx_meta())
        return folder
    if kind == "clip":
        save_clip(folder / "c.npz", body())
        with np.load(folder / "c.npz") as archive:
            entries = dict(archive)
        np.savez(folder / "c.npz", **entries | {"betas": np.array([evil])})
        return folder / "c.npz"
    assert kind == "gvhmr"
    fragment = torch_pickles.fragment(evil)
    pickled = torch_pickles.document({"smpl_params_incam": fragment, "K_fullimg": fragment})
    return torch_pickles.write(folder / "a.pt", pickled)


@pytest.mark.parametrize(
    "kind", ["dwpose", "musepose", "hamer pickle", "hamer npz", "smplerx", "gvhmr", "clip"]
)
def test_nothing_a_malicious_file_asks_for_is_run(kind, tmp_path):
    mark = tmp_path / "was_run"
    for name, evil in evils(mark).items():
        folder = tmp_path / name
        folder.mkdir()
        line = refused(with_evil(kind, folder, evil), kind.split()[0])
        if "npz" not in kind and kind not in ("smplerx", "clip"):
            assert name.rpartition(".")[2] in line
        assert "refused" in line or "nothing was run" in line or "plain numbers" in line
    assert not mark.exists()


def test_a_bare_malicious_pickle_in_place_of_the_array(tmp_path):
    mark = tmp_path / "was_run"
    np.save(tmp_path / "a.npy", np.array([None]), allow_pickle=True)
    header = (tmp_path / "a.npy").read_bytes()[:128]
    assert b"|O" in header
    (tmp_path / "a.npy").write_bytes(header + pickle.dumps(evils(mark)["posix.system"]))
    assert "refused because it could run code" in refused(tmp_path / "a.npy", "musepose")
    (tmp_path / "a.npy").write_bytes(header + pickle.dumps(3))
    assert "found int" in refused(tmp_path / "a.npy", "musepose")
    assert not mark.exists()


def object_array(shape: tuple, items: object) -> bytes:
    """An array of objects as numpy 2 pickles it, honest or not."""
    array = np.array([None, None])
    state = array.__reduce__()[2]
    forged = (state[0], shape, state[2], state[3], items)

    class Forged:
        def __reduce__(self):
            return (*array.__reduce__()[:2], forged)

    return pickle.dumps(Forged())


@pytest.mark.parametrize(
    ("shape", "items"),
    [
        ((3,), [None, None]),
        ((1 << 40,), [None]),
        ((), [None]),
        ((1, 2), [None, None]),
        ((2,), (None, None)),
        ((2,), b"ab"),
        ([2], [None, None]),
        (2, [None, None]),
    ],
)
def test_arrays_of_objects_that_lie_about_their_length(shape, items, tmp_path):
    np.save(tmp_path / "a.npy", np.array([None]), allow_pickle=True)
    header = (tmp_path / "a.npy").read_bytes()[:128]
    (tmp_path / "a.npy").write_bytes(header + object_array(shape, items))
    assert "unsafe pickle" in refused(tmp_path / "a.npy", "musepose")
    (tmp_path / "a.pkl").write_bytes(object_array((2,), [None, None]))  # only MusePose has these
    assert "unsafe pickle" in refused(tmp_path / "a.pkl", "dwpose")


OPENPOSE = {
    "'people'": lambda f: f.pop("people"),
    "people: expected a list": lambda f: f.update(people={}),
    "person 0: expected a dict": lambda f: f.update(people=[3]),
    "expected 75 or 54": lambda f: f["people"][0]["pose_keypoints_2d"].pop(),
    "hand_left_keypoints_2d: expected 63": lambda f: f["people"][0].update(
        hand_left_keypoints_2d=[1.0, 2.0, 3.0]
    ),
    "pixels near the frame": lambda f: f["people"][0]["pose_keypoints_2d"].__setitem__(0, 1e9),
    "scores": lambda f: f["people"][0]["pose_keypoints_2d"].__setitem__(2, float("nan")),
    "face_keypoints_2d: expected numbers": lambda f: f["people"][0].update(
        face_keypoints_2d=["1"] * 210
    ),
    "one too large": lambda f: f["people"][0]["pose_keypoints_2d"].__setitem__(0, 10**400),
}


@pytest.mark.parametrize("expected", OPENPOSE)
def test_openpose_fields(expected, tmp_path):
    frame = openpose_frame(openpose_person())
    OPENPOSE[expected](frame)
    assert expected in refused(write_json(tmp_path / "a.json", [frame]), "openpose")


SCORES = {
    "score: expected numbers": lambda f: f["bodies"].update(score=np.ones((1, 17))),
    "score: expected 1 rows": lambda f: f["bodies"].update(score=np.ones((2, 18))),
    "hands_score: expected scores": lambda f: f["hands_score"].__setitem__((0, 0), np.inf),
    "faces_score: expected numbers": lambda f: f.update(faces_score="all"),
}


@pytest.mark.parametrize("expected", SCORES)
def test_dwpose_scores(expected, tmp_path):
    frame = dwpose_frame()
    SCORES[expected](frame)
    line = refused(write_pickle(tmp_path / "a.pkl", [dwpose_frame(), frame]), "dwpose")
    assert "frame 1" in line
    assert expected in line


SMPLERX = {
    "betas.npz": ({"betas": None}, {}, "'betas'"),
    "body shape": ({"body_pose": np.ones((1, 63))}, {}, "body_pose: expected numbers of shape"),
    "not finite": ({"transl": np.full((1, 3), np.nan)}, {}, "transl: expected plausible"),
    "complex": ({"transl": np.ones((1, 3), complex)}, {}, "transl: expected plain numbers"),
    "no focal": ({}, {"focal": None}, "'focal'"),
    "focal count": ({}, {"focal": [1.0]}, "focal: expected 2 numbers, found 1"),
    "focal sign": ({}, {"focal": [1.0, -1]}, "focal: expected lengths above zero"),
    "princpt": ({}, {"princpt": "ab"}, "princpt: expected numbers"),
    "boxes": ({}, {"bbox": None, "bbox_mmdet": None}, "'bbox'"),
}


@pytest.mark.parametrize("case", SMPLERX)
def test_smplerx_fields(case, tmp_path):
    person, meta, expected = SMPLERX[case]
    parameters = {k: v for k, v in (smplerx_person() | person).items() if v is not None}
    about = {k: v for k, v in (smplerx_meta() | meta).items() if v is not None}
    write_smplerx(tmp_path, "00001_0", parameters, about)
    assert expected in refused(tmp_path, "smplerx")


def test_smplerx_folders(tmp_path):
    assert "expected a folder" in refused(tmp_path / "none", "smplerx")
    (tmp_path / "smplx").mkdir()
    assert "found none" in refused(tmp_path, "smplerx")
    (tmp_path / "smplx" / "00001_0.npz").write_bytes(b"PK")
    assert "00001_0.json: expected" in refused(tmp_path, "smplerx")
    write_json(tmp_path / "meta" / "00001_0.json", smplerx_meta())
    assert "truncated or damaged zip" in refused(tmp_path, "smplerx")
    write_smplerx(tmp_path, "999999999_0", smplerx_person(), smplerx_meta())
    assert "found 999999999" in refused(tmp_path, "smplerx")


GVHMR = {
    "'smpl_params_incam'": lambda c: c.pop("smpl_params_incam"),
    "'K_fullimg'": lambda c: c.pop("K_fullimg"),
    "smpl_params_incam: expected a dict": lambda c: c.update(smpl_params_incam=[1]),
    "'betas'": lambda c: c["smpl_params_incam"].pop("betas"),
    "betas: expected numbers of shape (3, 10), found shape": lambda c: c[
        "smpl_params_incam"
    ].update(betas=np.ones((2, 10))),
    "transl: expected numbers of shape (3, 3), found list": lambda c: c["smpl_params_incam"].update(
        transl=[[1.0]]
    ),
    "values of type bool": lambda c: c["smpl_params_incam"].update(transl=np.ones((3, 3), bool)),
    "body_pose: expected plausible": lambda c: c["smpl_params_incam"]["body_pose"].fill(np.inf),
    "K_fullimg: expected frames": lambda c: c.update(K_fullimg=np.ones((0, 3, 3))),
    "above zero": lambda c: c.update(K_fullimg=-c["K_fullimg"]),
}


@pytest.mark.parametrize("expected", GVHMR)
def test_gvhmr_fields(expected, tmp_path):
    content = copy.deepcopy(gvhmr_content())
    GVHMR[expected](content)
    assert expected in refused(write_gvhmr(tmp_path / "a.pt", content), "gvhmr")


HAMER = {
    "frame 1: expected the key 'all_cam_t'": lambda f: f.pop("all_cam_t"),
    "all_verts: expected numbers": lambda f: f.update(all_verts=[np.ones((777, 3))] * 2),
    "all_verts 1, all_cam_t 2": lambda f: f["all_verts"].pop(),
    "all_right: expected 0 or 1": lambda f: f.update(all_right=[0, 2]),
    "vertices in metres": lambda f: f["all_verts"][0].fill(1e4),
    "a translation in metres": lambda f: f["all_cam_t"][1].fill(np.nan),
    "frame 1: expected a dict": lambda f: None,
}


@pytest.mark.parametrize("expected", HAMER)
def test_hamer_fields(expected, tmp_path):
    frame = hamer_frame(0, 1)
    HAMER[expected](frame)
    bad = 3 if expected.endswith("a dict") else frame
    line = refused(write_pickle(tmp_path / "a.pkl", [None, bad]), "hamer")
    assert expected in line


def test_hamer_pickles_that_hold_no_frames(tmp_path):
    assert "found an empty one" in refused(write_pickle(tmp_path / "a.pkl", []), "hamer")
    for content in (np.zeros(()), np.zeros((0, 3)), {}, 3):
        assert "a list of frames" in refused(write_pickle(tmp_path / "a.pkl", content), "hamer")


HAMER_NPZ = {
    "'frame'": {"frame": None},
    "frame: expected 2 frame numbers": {"frame": np.array([0.5, 1])},
    "frame: expected 2 frame numbers from": {"frame": np.array([-1, 1])},
    "all_right: expected 0 or 1": {"all_right": np.array([7, 1])},
    "frames 0 to 1, found 2": {"frames": np.array(2)},
    "frames: expected a number above zero": {"frames": np.array(0)},
    "focal: expected a number above zero": {"focal": np.array([1, 2])},
    "H, W": {"size": np.array([5, 0])},
    "at most 262144 frames": {"frame": np.array([0, 1 << 40])},
}


@pytest.mark.parametrize("expected", HAMER_NPZ)
def test_hamer_npz_entries(expected, tmp_path):
    arrays = hamer_arrays([hamer_frame(1), None, hamer_frame(0)])
    arrays.pop("frames") if "262144" in expected else None
    changed = {k: v for k, v in (arrays | HAMER_NPZ[expected]).items() if v is not None}
    np.savez(tmp_path / "a.npz", **changed)
    assert expected.removesuffix(" from") in refused(tmp_path / "a.npz", "hamer")


def repeated_pickle(rows: int, depth: int) -> object:
    """Lists that hold each other many times: small in a file, huge when counted out."""
    value: object = 0.5
    for _ in range(depth):
        value = [value] * rows
    return value


def absurd_files(folder: Path) -> dict[str, tuple[Path, str]]:
    crowd = {"candidate": [[0.5, 0.5]], "subset": [[-1] * 18] * 5000}
    nobody = {"bodies": {"candidate": [], "subset": []}, "hands": []}
    many = {"bodies": {"candidate": [[0.5, 0.5]], "subset": [[-1] * 18] * 200}, "hands": []}
    long_text = [0.5] * 100_000 + ["x" * 100_000]
    nested = dwpose_frame(scores=False) | {"hands": repeated_pickle(1000, 4)}
    hand = hamer_frame(*[1] * 200)
    deflated = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(folder / "z.npz", "w", deflated, compresslevel=1) as archive:
        archive.writestr("all_verts.npy", bytes((1 << 28) + 1))
    big = torch_pickles.tensor("FloatStorage", "0", 1 << 24, 0, (1 << 24,), (1,))
    torch_pickles.write(
        folder / "z.pt",
        torch_pickles.document({"K_fullimg": big}),
        {"0": bytes(1 << 26), "1": b"one more"},
        compression=deflated,
    )
    return {
        "crowd": (write_json(folder / "a.json", {"bodies": crowd, "hands": []}), "dwpose"),
        "padding": (write_pickle(folder / "b.pkl", [nobody] * 2000 + [many]), "dwpose"),
        "text": (write_json(folder / "c.json", nobody | {"hands": long_text}), "dwpose"),
        "nested": (write_pickle(folder / "d.pkl", [nested]), "dwpose"),
        "hands": (write_pickle(folder / "e.pkl", [hand] + [None] * 9999), "hamer"),
        "frames": (write_pickle(folder / "f.pkl", [None] * 300_000), "hamer"),
        "zip": (folder / "z.npz", "hamer"),
        "torch": (folder / "z.pt", "gvhmr"),
        "depth": (folder / "g.json", "openpose"),
    }


def test_small_files_that_claim_to_be_huge_cost_nothing(tmp_path):
    files = absurd_files(tmp_path)
    (tmp_path / "g.json").write_text("[" * 200_000)
    for name, (path, kind) in files.items():
        assert path.stat().st_size < 1 << 22, name
        start = time.process_time()
        tracemalloc.start()
        refused(path, kind)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 27, name
        assert time.process_time() - start < 5, name


def test_cut_files_are_refused_wherever_they_are_cut(tmp_path):
    frames = [dwpose_frame()]
    np.savez(tmp_path / "h.npz", **hamer_arrays([hamer_frame(1)]))
    paths = {
        write_pickle(tmp_path / "a.pkl", frames): "dwpose",
        write_json(tmp_path / "a.json", frames): "dwpose",
        write_musepose(tmp_path / "a.npy", frames): "musepose",
        write_gvhmr(tmp_path / "a.pt", gvhmr_content()): "gvhmr",
        write_pickle(tmp_path / "h.pkl", [hamer_frame(1)]): "hamer",
        tmp_path / "h.npz": "hamer",
    }
    for path, kind in paths.items():
        whole = path.read_bytes()
        for part in np.linspace(0, len(whole) - 1, 12).astype(int):
            path.write_bytes(whole[:part])
            refused(path, kind)
