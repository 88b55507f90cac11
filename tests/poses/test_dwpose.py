"""DWPose files to clips to pictures: official pixels, and clear refusals of bad files."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.utils.errors import UserError

with np.load(Path(__file__).parents[1] / "golden" / "painter.npz") as archive:
    PAINTER = {name: archive[name] for name in archive.files}
CASES = sorted({name.split(".")[0] for name in PAINTER})


def golden_frame(case: str) -> dict:
    height, width, _ = PAINTER[f"{case}.image"].shape
    return {
        "bodies": {"candidate": PAINTER[f"{case}.candidate"], "subset": PAINTER[f"{case}.subset"]},
        "hands": PAINTER[f"{case}.hands"],
        "faces": PAINTER[f"{case}.faces"],
        "H": height,
        "W": width,
    }


def listed(value):
    """The same frame with lists for arrays, as JSON has it."""
    if isinstance(value, dict):
        return {key: listed(entry) for key, entry in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def stored(path: Path, content) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(listed(content) if isinstance(content, dict) else content))
    else:
        path.write_bytes(pickle.dumps(content))
    return path


def small_frame(persons: int = 1, seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    return {
        "bodies": {
            "candidate": random.uniform(0.2, 0.8, (18 * persons, 2)),
            "subset": np.arange(18.0 * persons).reshape(persons, 18),
        },
        "hands": random.uniform(0.2, 0.8, (2 * persons, 21, 2)),
        "faces": random.uniform(0.2, 0.8, (persons, 68, 2)),
        "H": 96,
        "W": 64,
    }


@pytest.mark.parametrize("suffix", ["pkl", "json"])
@pytest.mark.parametrize("case", CASES)
def test_official_pixels_after_a_file_and_a_clip(case, suffix, tmp_path):
    frame = golden_frame(case)
    clip = read_dwpose(stored(tmp_path / f"a.{suffix}", frame if suffix == "json" else [frame]))
    wanted = PAINTER[f"{case}.image"]
    got = draw_dwpose(clip, 0, face=bool(PAINTER[f"{case}.draw_face"]))
    assert np.any(got != wanted, axis=-1).sum() <= 10
    assert wanted.any()


def test_all_readable_forms_agree(tmp_path):
    frames = [small_frame(1, 0), small_frame(3, 1), small_frame(2, 2)]
    pickled = read_dwpose(stored(tmp_path / "a.pkl", frames))
    as_list = read_dwpose(stored(tmp_path / "a.json", [listed(frame) for frame in frames]))
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in zip((2, 9, 10), frames, strict=True):
        stored(folder / f"frame_{number}.json", frame)
    from_folder = read_dwpose(folder)
    for other in (as_list, from_folder):
        for name in ("body", "body_ok", "hands", "hands_ok", "faces", "faces_ok"):
            np.testing.assert_array_equal(getattr(other, name), getattr(pickled, name))
    assert (pickled.frames, pickled.persons, pickled.size) == (3, 3, (96, 64))
    assert pickled.body_ok.all(axis=-1).tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert not pickled.body[0, 1:].any()
    single = read_dwpose(stored(tmp_path / "b.json", frames[1]))
    np.testing.assert_array_equal(single.hands[0], pickled.hands[1])


def test_hand_order_persons_and_hidden_points(tmp_path):
    frame = small_frame(2)
    frame["bodies"]["subset"][1, 4] = -1
    frame["hands"][2, 7] = -1  # right hand of person 0
    frame["faces"][1, 3] = -1
    clip = read_dwpose(stored(tmp_path / "a.pkl", [frame]))
    np.testing.assert_array_equal(clip.hands[0, 0, 0], frame["hands"][0])
    np.testing.assert_array_equal(clip.hands[0, 1, 0], frame["hands"][1])
    np.testing.assert_array_equal(clip.hands[0, 1, 1], frame["hands"][3])
    assert np.argwhere(~clip.hands_ok).tolist() == [[0, 0, 1, 7]]
    assert np.argwhere(~clip.body_ok).tolist() == [[0, 1, 4]]
    assert np.argwhere(~clip.faces_ok).tolist() == [[0, 1, 3]]
    assert not clip.hands[0, 0, 1, 7].any()
    np.testing.assert_array_equal(clip.body[0, 1, 5], frame["bodies"]["candidate"][23])


def test_rows_without_a_body_are_still_drawn(tmp_path):
    frame, alone = small_frame(2), small_frame(2)
    alone["bodies"] = {"candidate": np.zeros((0, 2)), "subset": []}
    alone["faces"] = None
    clip = read_dwpose(stored(tmp_path / "a.pkl", [alone]))
    assert clip.persons == 2
    assert not clip.body_ok.any()
    hidden = copy.deepcopy(frame)
    hidden["bodies"]["subset"][:] = -1
    reference = read_dwpose(stored(tmp_path / "b.pkl", [hidden]))
    np.testing.assert_array_equal(draw_dwpose(clip, 0), draw_dwpose(reference, 0))
    assert draw_dwpose(clip, 0).any()


def test_empty_frames_are_black(tmp_path):
    nobody = {"bodies": {"candidate": [], "subset": []}, "hands": [], "H": 96, "W": 64}
    clip = read_dwpose(stored(tmp_path / "a.pkl", [nobody, small_frame()]))
    assert not draw_dwpose(clip, 0, face=True).any()
    assert draw_dwpose(clip, 1).any()
    assert read_dwpose(stored(tmp_path / "b.json", [nobody])).persons == 0


def test_drawing_ignores_scores_and_size_is_optional(tmp_path):
    frame = small_frame()
    plain = read_dwpose(stored(tmp_path / "a.pkl", [frame]))
    scored = frame | {"hands_score": np.zeros((2, 21)), "faces_score": None}
    scored["bodies"] = frame["bodies"] | {"score": np.zeros((1, 18))}
    del scored["H"], scored["W"]
    clip = read_dwpose(stored(tmp_path / "b.pkl", [scored]))
    assert clip.size is None
    np.testing.assert_array_equal(draw_dwpose(clip, 0, (96, 64)), draw_dwpose(plain, 0))
    with pytest.raises(ValueError, match="no size"):
        draw_dwpose(clip, 0)


def test_drawing_follows_the_given_size():
    body = np.full((1, 1, 18, 2), 0.5)
    hidden = {
        name: np.zeros((1, 1, *shape), bool)
        for name, shape in {"hands_ok": (2, 21), "faces_ok": (68,)}.items()
    }
    points = {"hands": np.zeros((1, 1, 2, 21, 2)), "faces": np.zeros((1, 1, 68, 2))}
    only = np.zeros((1, 1, 18), bool)
    only[0, 0, 17] = True
    clip = KeypointClip(body=body, body_ok=only, size=(40, 60), **hidden, **points)
    for size in ((40, 60), (100, 30)):
        picture = draw_dwpose(clip, 0, size)
        assert picture.shape == (*size, 3)
        assert picture[size[0] // 2, size[1] // 2].tolist() == [255, 0, 85]
        rows, columns = np.nonzero(picture.any(axis=-1))
        assert (rows.min(), rows.max()) == (size[0] // 2 - 4, size[0] // 2 + 4)
        assert (columns.min(), columns.max()) == (size[1] // 2 - 4, size[1] // 2 + 4)


def test_hand_points_on_the_first_row_or_column_are_not_drawn(tmp_path):
    frame = small_frame()
    frame["bodies"]["subset"][:] = -1
    for x, y, drawn in (
        (0.5 / 64, 0.5, 0),
        (-0.5 / 64, 0.5, 0),
        (0.5, 0.9 / 96, 0),
        (1 / 64, 0.5, 1),
    ):
        frame["hands"][:] = -1
        frame["hands"][0, 3] = x, y
        clip = read_dwpose(stored(tmp_path / "a.pkl", [frame]))
        assert clip.hands_ok.sum() == 1
        assert draw_dwpose(clip, 0).any() == drawn


def test_clips_refuse_shapes_that_disagree():
    shapes = {"body": (18, 2), "hands": (2, 21, 2), "faces": (68, 2)}
    arrays = {name: np.zeros((2, 1, *shape)) for name, shape in shapes.items()}
    ok = {f"{name}_ok": np.zeros((2, 1, *shape[:-1]), bool) for name, shape in shapes.items()}
    KeypointClip(**arrays, **ok)
    with pytest.raises(ValueError, match="hands_ok"):
        KeypointClip(**arrays, **ok | {"hands_ok": np.zeros((2, 2, 2, 21), bool)})


def broken(change) -> list[dict]:
    frames = [small_frame(2), small_frame(2)]
    change(frames[1])
    return frames


BROKEN = {
    "bodies": lambda frame: frame.pop("bodies"),
    "candidate": lambda frame: frame["bodies"].pop("candidate"),
    "subset": lambda frame: frame["bodies"].update(subset=np.zeros((2, 17))),
    "hands": lambda frame: frame.update(hands=np.zeros((4, 20, 2))),
    "hands: expected all left": lambda frame: frame.update(hands=np.zeros((3, 21, 2))),
    "hands: expected numbers": lambda frame: frame.update(hands=[["0.5"]]),
    "hands: expected coordinates": lambda frame: frame["hands"].__setitem__((0, 0, 0), np.nan),
    "faces: expected coordinates": lambda frame: frame["faces"].__setitem__((0, 0, 0), 1e9),
    "faces": lambda frame: frame.update(faces=[[1, 2], [3]]),
    "indices below 36": lambda frame: frame["bodies"]["subset"].__setitem__((0, 0), 36),
    "-1 or indices": lambda frame: frame["bodies"]["subset"].__setitem__((0, 0), 1.5),
    "W": lambda frame: frame.update(W=None),
    "H": lambda frame: frame.update(H=-4),
    "dict": lambda frame: frame.update(bodies=[1]),
    "fps: expected frames per second": lambda frame: frame.update(fps=float("nan")),
    "fps: expected frames per second, found str": lambda frame: frame.update(fps="24"),
}


@pytest.mark.parametrize("key", BROKEN)
def test_bad_fields_are_named_with_their_frame(key, tmp_path):
    path = stored(tmp_path / "clip.pkl", broken(BROKEN[key]))
    with pytest.raises(UserError) as caught:
        read_dwpose(path)
    message = str(caught.value)
    assert "clip.pkl: frame 1" in message
    assert key in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.pkl", b"", "unreadable"),
        ("a.pkl", pickle.dumps([]), "empty list"),
        ("a.pkl", pickle.dumps(3), "found int"),
        ("a.pkl", pickle.dumps([3]), "frame 0: expected a dict"),
        ("a.json", b"{", "unreadable"),
        ("a.json", b"\xff\xfe\x00", "unreadable"),
        ("a.json", b"[" * 100_000, "unreadable"),
        ("a.json", b"1" * 10_000, "unreadable"),
        ("a.json", b'"text"', "found str"),
        ("a.txt", b"", r"\.txt"),
    ],
    ids=range(10),
)
def test_files_that_are_no_pose(name, content, found, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=found):
        read_dwpose(tmp_path / name)


def test_missing_files_empty_folders_and_changing_sizes(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_dwpose(tmp_path / "none.pkl")
    with pytest.raises(UserError, match="found none"):
        read_dwpose(tmp_path)
    frames = [small_frame(), small_frame() | {"H": 97}]
    with pytest.raises(UserError, match=r"one frame size.*\(96, 64\), \(97, 64\)"):
        read_dwpose(stored(tmp_path / "a.pkl", frames))
    frames = [small_frame() | {"fps": rate} for rate in (24, 30)]
    with pytest.raises(UserError, match=r"one frame rate \(fps\), found 24.0, 30.0"):
        read_dwpose(stored(tmp_path / "a.pkl", frames))


def read_or_refuse(path: Path) -> None:
    message = ""
    try:
        clip = read_dwpose(path)
        draw_dwpose(clip, 0, (32, 24), face=True)
    except UserError as error:
        message = str(error)
    assert "\n" not in message


EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4)


@pytest.mark.parametrize("suffix", ["pkl", "json"])
@settings(max_examples=80, derandomize=True, deadline=None)
@given(edits=EDITS, keep=st.floats(0, 1))
def test_damaged_files_raise_only_user_errors(suffix, edits, keep, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    content = [small_frame()] if suffix == "pkl" else [listed(small_frame())]
    data = bytearray(stored(folder / f"a.{suffix}", content).read_bytes())
    for place, byte in edits:
        data[int(place * len(data))] = byte
    path = folder / f"b.{suffix}"
    path.write_bytes(data if edits else data[: int(keep * len(data))])
    read_or_refuse(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(key=st.sampled_from(["bodies", "candidate", "subset", "hands", "faces", "H"]), value=JSON)
def test_any_json_in_any_field_raises_only_user_errors(key, value, tmp_path_factory):
    frame = listed(small_frame())
    (frame["bodies"] if key in frame["bodies"] else frame)[key] = value
    read_or_refuse(stored(tmp_path_factory.mktemp("fuzz") / "a.json", [frame]))
