"""The official layouts, what is missing from them, and the check of every clip."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.data.catalogue import open_source
from realisdance_jax.data.config import CONDITIONS, DataConfig
from realisdance_jax.data.images import save_png
from realisdance_jax.data.layout import read_image_list, read_video_folder
from realisdance_jax.data.validation import Limits, validate
from realisdance_jax.data.video_io import read_frames
from realisdance_jax.models.config import CONDITIONS as MODEL_CONDITIONS
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from tests.data.folders import (
    FRAMES,
    SIZE,
    copy_clip,
    keypoint_frames,
    truncate,
    write_clip,
    write_folder,
    write_video,
)
from tests.refusals import refusal

CONFIG = DataConfig(size=(48, 64))
LIMITS = Limits((48, 64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "train", 3)


def test_conditions_come_in_the_models_order():
    assert CONDITIONS == MODEL_CONDITIONS


def test_a_folder_is_read_as_it_is(folder):
    for place in (folder, folder.parent):  # with and without the split
        source = open_source(str(place), CONFIG)
        assert [source.name(number) for number in range(len(source))] == ["000", "001", "002"]
    clip = source.clip(1)
    assert clip.length() == FRAMES
    frames = list(clip.film([2, 5]))
    for got, wanted in zip(frames, read_frames(folder / "video/001.mp4", [2, 5]), strict=True):
        np.testing.assert_array_equal(got, wanted)
    smpl = next(clip.condition("smpl", [4], {}))
    np.testing.assert_array_equal(smpl, next(read_frames(folder / "smpl/001.mp4", [4])))
    drawn = next(clip.condition("dwpose", [4], {4: (96, 80)}))
    keypoints = read_dwpose(folder / "dwpose/001.pkl")
    np.testing.assert_array_equal(drawn, draw_dwpose(keypoints, 4, (96, 80)))


def test_clips_are_in_the_order_of_the_full_names(tmp_path):
    for name in ("b", "a", "a-1", "a.1", "B"):
        (tmp_path / "video").mkdir(exist_ok=True)
        (tmp_path / "video" / f"{name}.mp4").touch()
    (tmp_path / "video" / ".hidden.mp4").touch()
    (tmp_path / "smpl").mkdir()
    clips = read_video_folder(tmp_path, ["smpl"])
    assert [clip.name for clip in clips] == ["B", "a-1", "a.1", "a", "b"]
    assert clips[2].rendered == {"smpl": tmp_path / "smpl" / "a.1.mp4"}


def test_two_entries_of_one_name_are_refused(tmp_path):
    (tmp_path / "video").mkdir()
    for name in ("a.mov", "a.mp4"):
        (tmp_path / "video" / name).touch()
    text = refusal(read_video_folder, tmp_path, [])
    assert text == f"{tmp_path / 'video'}: expected one entry per clip, found a.mov and a.mp4"


def test_a_missing_modality_is_one_line(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "train")
    shutil.rmtree(tmp_path / "train" / "hamer")
    text = refusal(lambda: open_source(str(tmp_path), CONFIG))
    assert text == f"{tmp_path}/train/hamer: expected hamer of 3 clips, found no such folder"
    without = DataConfig(size=(48, 64), conditions=("dwpose", "smpl"))
    assert len(open_source(str(tmp_path), without)) == 3


def test_what_is_no_data_set_is_refused(tmp_path):
    assert "found none of them" in refusal(lambda: open_source(str(tmp_path), CONFIG))
    assert "absent" in refusal(lambda: open_source(str(tmp_path / "absent"), CONFIG))
    (tmp_path / "video").mkdir()
    assert "video: expected videos, found none" in refusal(
        lambda: open_source(str(tmp_path), CONFIG)
    )


def judged(folder: Path, conditions=CONDITIONS, limits=LIMITS) -> dict[str, str]:
    config = DataConfig(size=(48, 64), conditions=conditions)
    verdicts = validate(open_source(str(folder), config), conditions, limits, workers=2)
    return {verdict.name: verdict.reason for verdict in verdicts}


def test_the_check_says_what_is_wrong_with_each_clip(tmp_path):
    write_clip(tmp_path, "good")
    for name in ("cut", "short_hamer", "no_smpl", "nobody", "tall_smpl", "dark"):
        copy_clip(tmp_path, "good", name)
    truncate(tmp_path / "video" / "cut.mp4")
    (tmp_path / "smpl" / "no_smpl.mp4").unlink()
    frames = list(read_frames(tmp_path / "hamer/good.mp4"))
    write_video(tmp_path / "hamer" / "short_hamer.mp4", frames[:-1])
    (tmp_path / "dwpose" / "nobody.pkl").unlink()
    empty = json.dumps(
        [
            {"bodies": {"candidate": [], "subset": []}, "hands": [], "H": 48, "W": 64}
            if number < 5
            else json.loads(json.dumps(frame, default=np.ndarray.tolist))
            for number, frame in enumerate(keypoint_frames(FRAMES))
        ]
    )
    (tmp_path / "dwpose" / "nobody.json").write_text(empty)
    write_video(tmp_path / "smpl" / "tall_smpl.mp4", [np.full((64, 48, 3), 99, np.uint8)] * FRAMES)
    write_video(tmp_path / "hamer" / "dark.mp4", [np.zeros((*SIZE, 3), np.uint8)] * FRAMES)
    reasons = judged(tmp_path)
    assert reasons.pop("good") == ""
    assert reasons.pop("dark") == ""  # hands may be out of sight
    assert "cut.mp4: expected" in reasons.pop("cut")
    wanted = "expected equal frame counts, found 9 in video, 9 in dwpose, 8 in hamer"
    assert reasons.pop("short_hamer").startswith(wanted)
    assert "no_smpl.mp4: expected a video file, found no such file" in reasons.pop("no_smpl")
    assert reasons.pop("nobody").endswith("50% of the frames without a pose, found 5 of 9")
    assert reasons.pop("tall_smpl").endswith("the shape of the film (48x64), found 64x48")
    assert not reasons


def test_the_check_knows_limits(folder):
    small = judged(folder, limits=Limits((96, 128), max_upscale=1.9))
    assert "found 48x64" in small["000"]
    assert not any(judged(folder, limits=Limits((96, 128), max_upscale=2.0)).values())
    assert "at least 10 frames, found 9" in judged(folder, limits=Limits((48, 64), 1, 2, 10))["002"]
    assert not any(judged(folder, limits=Limits((48, 64), max_empty=1.0)).values())


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, np.full((*SIZE, 3), value, np.uint8))


@pytest.fixture
def image_list(tmp_path) -> Path:
    """Two lines; HaMeR beside the pictures, SMPL under a root of its own."""
    for person, names in (("a b", ("1.png", "2.png", "10.png")), ("c", ("x.png", "y.png"))):
        for number, name in enumerate(names):
            picture(tmp_path / "set/img" / person / name, 10 + number)
            picture(tmp_path / "set/hamer_img" / person / name, 50 + number)
            picture(tmp_path / "smpl" / person.replace(" ", "") / name, 90 + number)
            file = tmp_path / "set/dwpose_json" / person / name.replace("png", "json")
            file.parent.mkdir(parents=True, exist_ok=True)
            frame = keypoint_frames(1 + number)[number]
            file.write_text(json.dumps(frame, default=np.ndarray.tolist))
    path = tmp_path / "list.txt"
    path.write_text("set/img/a b,1.png,2.png,10.png\n\nset/img/c,x.png,y.png\n")
    return path


def test_image_lists_are_read_as_they_are(image_list):
    config = DataConfig(size=(48, 64), frames=1, smpl_root=str(image_list.parent / "smpl"))
    source = open_source(str(image_list), config)
    assert source.images
    assert [source.frames(number) for number in range(len(source))] == [3, 2]
    clip = source.clip(0)
    assert [frame[0, 0, 0] for frame in clip.film([0, 2])] == [10, 12]
    assert [frame[0, 0, 0] for frame in clip.condition("hamer", [1, 2], {})] == [51, 52]
    assert [frame[0, 0, 0] for frame in clip.condition("smpl", [0, 1], {})] == [90, 91]
    drawn = next(clip.condition("dwpose", [2], {2: SIZE}))
    file = image_list.parent / "set/dwpose_json/a b/10.json"
    np.testing.assert_array_equal(drawn, draw_dwpose(read_dwpose(file), 0, SIZE))
    limits = Limits((48, 64))
    assert [v.reason for v in validate(source, CONDITIONS, limits)] == ["", ""]


def test_hamer_of_an_image_list_may_have_a_root_too(image_list):
    clips = read_image_list(image_list, ["hamer"], hamer_root="/elsewhere")
    assert clips[0].rendered["hamer"][1] == Path("/elsewhere/ab/2.png")


def test_bad_image_lists_are_one_line(image_list, tmp_path):
    assert "expected smpl_root" in refusal(lambda: read_image_list(image_list, ["smpl"]))
    bad = tmp_path / "bad.txt"
    for text, reason in (
        ("\n", "expected lines dir,frame1"),
        ("set/img/c\n", "line 1: expected dir,frame1"),
        ("set/pictures/c,x.png,y.png\n", "expected a path with /img/"),
    ):
        bad.write_text(text)
        assert reason in refusal(lambda: read_image_list(bad, ["hamer"]))


def fingerprint(source: Path, **options) -> str:
    return open_source(str(source), DataConfig(size=(48, 64), **options)).fingerprint()


def test_the_fingerprint_of_an_image_list_knows_no_place(image_list, tmp_path, monkeypatch):
    """Neither where the data lie nor from where they are read; but the order of pictures."""

    def of(path: Path) -> str:
        return fingerprint(path, frames=1, smpl_root=str(path.parent / "smpl"))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for part in ("set", "smpl", "list.txt"):
        (shutil.copytree if part != "list.txt" else shutil.copy)(tmp_path / part, elsewhere / part)
    first = of(image_list)
    assert of(elsewhere / "list.txt") == first
    monkeypatch.chdir(tmp_path)
    assert of(image_list) == first
    absolute = elsewhere / "absolute.txt"
    absolute.write_text(image_list.read_text().replace("set/img", f"{elsewhere}/set/img"))
    assert of(absolute) == first
    source = open_source(str(absolute), DataConfig(size=(48, 64), frames=1, smpl_root="smpl"))
    assert [source.name(n) for n in range(2)] == ["line 1: 1.png", "line 3: x.png"]
    image_list.write_text(image_list.read_text().replace("1.png,2.png", "2.png,1.png"))
    assert of(image_list) != first


def test_the_fingerprint_knows_each_picture_of_a_folder(tmp_path):
    """Whose sizes together stay the same when they are renamed or change places."""
    film, smpl = (tmp_path / kind / "a" for kind in ("video", "smpl"))
    for folder in (film, smpl):
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.png").write_bytes(b"x" * (number + 1))

    def of() -> str:
        return fingerprint(tmp_path, conditions=("smpl",))

    first = of()
    (film / ".hidden").touch()
    assert of() == first
    (film / "2.png").rename(film / "3.png")
    renamed = of()
    assert renamed != first
    for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
        (film / f"{old}.png").rename(film / f"{new}.png")
    assert of() not in (first, renamed)
