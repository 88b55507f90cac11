"""Clips check their shapes, and come back from their files bit for bit or not at all."""

import dataclasses
import zipfile

import numpy as np
import pytest

from realisdance_jax.poses.clip_files import load_clip, save_clip
from realisdance_jax.poses.clips import BodyClip, Clip, HandClip, KeypointClip
from realisdance_jax.utils.errors import UserError

RANDOM = np.random.default_rng(0)


def keypoints(frames: int = 4, persons: int = 2, scores: bool = True) -> KeypointClip:
    shapes = {"body": (18,), "hands": (2, 21), "faces": (68,)}
    lead = (frames, persons)
    arrays = {name: RANDOM.uniform(size=(*lead, *at, 2)) for name, at in shapes.items()}
    arrays |= {f"{name}_ok": RANDOM.uniform(size=(*lead, *at)) < 0.5 for name, at in shapes.items()}
    if scores:
        given = {f"{name}_score": RANDOM.uniform(size=(*lead, *at)) for name, at in shapes.items()}
        arrays |= given
    return KeypointClip(**arrays, size=(96, 64), fps=24.0)


def body(frames: int = 4) -> BodyClip:
    shapes = {
        **{"global_orient": (3,), "body_pose": (21, 3), "jaw_pose": (3,), "leye_pose": (3,)},
        **{"left_hand_pose": (15, 3), "right_hand_pose": (15, 3), "reye_pose": (3,)},
        **{"betas": (10,), "expression": (10,), "transl": (3,), "focal": (2,), "princpt": (2,)},
    }
    arrays = {name: RANDOM.uniform(size=(frames, *shape)) for name, shape in shapes.items()}
    return BodyClip(present=np.arange(frames) != 1, **arrays, add_hands_mean=True, size=(9, 7))


def hands(frames: int = 4, slots: int = 2) -> HandClip:
    lead = (frames, slots)
    flags = {name: RANDOM.uniform(size=lead) < 0.5 for name in ("present", "right")}
    mesh = RANDOM.uniform(size=(*lead, 778, 3)).astype(np.float32)
    return HandClip(**flags, vertices=mesh, translation=RANDOM.uniform(size=(*lead, 3)), focal=99.5)


def same(one: Clip, other: Clip) -> None:
    assert type(one) is type(other)
    for name, value in vars(one).items():
        found = getattr(other, name)
        if isinstance(value, np.ndarray):
            assert value.dtype == found.dtype, name
            np.testing.assert_array_equal(value, found, err_msg=name)
        else:
            assert (type(value), value) == (type(found), found), name


CLIPS = {
    "keypoints": keypoints(),
    "without scores": keypoints(scores=False),
    "nobody": keypoints(persons=0),
    "body": body(),
    "hands": hands(),
    "own focal length": dataclasses.replace(hands(), focal=None, fps=29.97),
    "no hands": hands(slots=0),
}


@pytest.mark.parametrize("name", CLIPS)
def test_what_is_saved_is_loaded(name, tmp_path):
    save_clip(tmp_path / "new" / "a.npz", CLIPS[name])
    same(load_clip(tmp_path / "new" / "a.npz"), CLIPS[name])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npz"]
    with np.load(tmp_path / "new" / "a.npz", allow_pickle=False) as archive:
        assert all(archive[entry].dtype.kind in "bfiU" for entry in archive.files)


@pytest.mark.parametrize("clip", [keypoints(), body(), hands()], ids=lambda c: type(c).__name__)
def test_shapes_that_disagree_are_refused(clip):
    arrays = {name: value for name, value in vars(clip).items() if isinstance(value, np.ndarray)}
    for name, value in arrays.items():
        for wrong in (value[:-1], value[..., None], value[0]):
            with pytest.raises(ValueError, match=": expected shape"):
                dataclasses.replace(clip, **{name: wrong})


def rewritten(path, **changes):
    """The same archive with entries changed, or left out where None."""
    with np.load(path, allow_pickle=False) as archive:
        entries = dict(archive)
    np.savez(path, **{k: v for k, v in (entries | changes).items() if v is not None})
    return path


BROKEN = {
    "no kind": {"kind": None},
    "expected one of": {"kind": np.array("TreeClip")},
    "version 1": {"version": np.array(2)},
    "present: expected booleans, found no such entry": {"present": None},
    "present: expected booleans, found others": {"present": np.ones(4)},
    "betas: expected finite numbers": {"betas": np.full((4, 10), np.nan)},
    "betas: expected shape": {"betas": np.ones((4, 9))},
    "transl: expected shape": {"transl": np.ones((3, 3))},
    "transl: expected plain numbers": {"transl": np.array([{}])},
    "focal: expected finite numbers": {"focal": np.array(["a"])},
    "add_hands_mean": {"add_hands_mean": np.array(1)},
    "size: expected two": {"size": np.array([1.5, 2])},
    "H, W": {"size": np.array([0, 2])},
    "fps": {"fps": np.array(-3.0)},
    "jaw_pose": {"jaw_pose": np.ones(())},
}


@pytest.mark.parametrize("expected", BROKEN)
def test_damaged_entries_are_named(expected, tmp_path):
    save_clip(tmp_path / "a.npz", body())
    with pytest.raises(UserError) as caught:
        load_clip(rewritten(tmp_path / "a.npz", **BROKEN[expected]))
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "a.npz"))
    assert expected in message
    assert "\n" not in message


def test_files_that_are_no_clip(tmp_path):
    for content in (b"", b"PK\x03\x04", b"text"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.npz"):
            load_clip(tmp_path / "a.npz")
    save_clip(tmp_path / "a.npz", body())
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated or damaged"):
        load_clip(tmp_path / "a.npz")
    with pytest.raises(UserError, match="no such file"):
        load_clip(tmp_path / "b.npz")
    with pytest.raises(UserError, match=r"ending in \.npz"):
        save_clip(tmp_path / "b.npy", body())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot write"):
        save_clip(tmp_path / "file" / "a.npz", body())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_that_claim_more_than_there_is(compression, tmp_path):
    save_clip(tmp_path / "a.npz", body())
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': %s}"
    claims = (b"(4, 9999999999)", b"(99999999999999999999, 0)", b"(-4, 10)", b"(4,", b"((4,),)")
    for claim in claims:
        text = header % claim
        entry = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(320)
        with (
            zipfile.ZipFile(tmp_path / "a.npz") as archive,
            zipfile.ZipFile(tmp_path / "b.npz", "w", compression) as changed,
        ):
            for name in archive.namelist():
                changed.writestr(name, entry if name == "betas.npy" else archive.read(name))
        with pytest.raises(UserError, match="betas: expected"):
            load_clip(tmp_path / "b.npz")


def test_archives_that_unpack_to_much_more_are_refused(tmp_path):
    save_clip(tmp_path / "a.npz", body())
    with (
        zipfile.ZipFile(tmp_path / "a.npz") as archive,
        zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as changed,
    ):
        for name in archive.namelist():
            if name != "kind.npy":
                changed.writestr(name, archive.read(name))
        with changed.open("kind.npy", "w") as entry:
            entry.write(bytes(1 << 24))
    assert (tmp_path / "b.npz").stat().st_size < 1 << 18
    with pytest.raises(UserError, match=r"at most \d+ bytes"):
        load_clip(tmp_path / "b.npz")
