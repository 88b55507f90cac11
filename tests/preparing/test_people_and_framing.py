"""`prepare poses`: whom it follows, how it judges the framing, and what it says it cannot move."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.data.images import read_image
from realisdance_jax.data.video_io import VideoWriter, read_frames
from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.dwpose_json import write_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.prepare import make_parser
from realisdance_jax.sampling import conditions as sampling
from realisdance_jax.sampling.config import SampleConfig
from tests.preparing.person import Framed, Person, write_case

SIZE = (96, 80)
DRIVER = Framed(SIZE, 36.0, (40.0, 34.0))
REFERENCE = Framed((120, 90), 50.0, (45.0, 40.0))


def run(out: Path, *arguments: object) -> None:
    words = ["poses", "--out", str(out), "--workers", "1", *map(str, arguments)]
    parsed = make_parser().parse_args(words)
    parsed.run(parsed)


def together(*clips: KeypointClip) -> KeypointClip:
    """One clip in which the people of all are, in this order."""
    arrays = {
        field.name: np.concatenate([getattr(clip, field.name) for clip in clips], axis=1)
        for field in fields(clips[0])
        if isinstance(getattr(clips[0], field.name), np.ndarray)
    }
    return replace(clips[0], **arrays)


def nobody(clip: KeypointClip) -> KeypointClip:
    """As many frames, nobody seen."""
    arrays = {
        field.name: np.zeros_like(getattr(clip, field.name))
        for field in fields(clip)
        if isinstance(getattr(clip, field.name), np.ndarray)
    }
    return replace(clip, **arrays)


def write_openpose(path: Path, clip: KeypointClip) -> None:
    """With 18 points, without hands."""
    frames = []
    for body, ok in zip(clip.body, clip.body_ok, strict=True):
        pixels = np.concatenate([body * clip.size[::-1], 0.9 * ok[..., None]], axis=-1)
        people = [{"pose_keypoints_2d": person.ravel().tolist()} for person in pixels]
        frames.append({"people": people, "canvas_height": SIZE[0], "canvas_width": SIZE[1]})
    path.write_text(json.dumps(frames))


@pytest.fixture(scope="module")
def clips() -> tuple[KeypointClip, KeypointClip]:
    """A dancer, and a bystander who is three times smaller."""
    dancer = Person(DRIVER, 3).keypoint_clip()
    small = replace(dancer, body=0.02 + 0.33 * dancer.body, hands=0.02 + 0.33 * dancer.hands)
    return dancer, small


@pytest.mark.parametrize("how", ["largest", "track"])
@pytest.mark.parametrize("kind", ["dwpose", "openpose"])
@pytest.mark.parametrize("first", ["bystander", "nobody"])
def test_the_dancer_is_aligned_whoever_comes_first(clips, tmp_path, kind, how, first):
    dancer, small = clips
    other = small if first == "bystander" else nobody(dancer)
    write_dwpose(tmp_path / "ref.json", Person(REFERENCE, 1).keypoint_clip())
    write = write_dwpose if kind == "dwpose" else write_openpose
    write(tmp_path / "two.json", together(other, dancer))
    write(tmp_path / "one.json", dancer)
    for name in ("one", "two"):
        inputs = (f"--{kind}", tmp_path / f"{name}.json", "--ref-dwpose", tmp_path / "ref.json")
        run(tmp_path / name, *inputs, "--person", how)
    one, two = (read_dwpose(tmp_path / name / "dwpose.json") for name in ("one", "two"))
    assert two.persons == 1
    assert one.size == two.size
    for name in ("body", "body_ok", "hands", "hands_ok"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), atol=1e-9)


def test_person_means_the_same_for_files_as_for_films(clips, tmp_path, capsys):
    """One frame in which the bystander is larger than the dancer."""
    dancer, small = clips
    body = small.body.copy()
    body[1] = np.clip(1.9 * dancer.body[1] - 0.4, 0.01, 0.99)
    write_dwpose(tmp_path / "in.json", together(replace(small, body=body), dancer))
    kept = {}
    for how in ("largest", "track"):
        run(tmp_path / how, "--dwpose", tmp_path / "in.json", "--person", how)
        kept[how] = read_dwpose(tmp_path / how / "dwpose.json").body[:, 0]
        assert "dwpose: 3 of 3 frames show several people: " in capsys.readouterr().out
    np.testing.assert_allclose(kept["track"], dancer.body[:, 0], atol=1e-9)
    expected = np.stack([dancer.body[0, 0], body[1, 0], dancer.body[2, 0]])
    np.testing.assert_allclose(kept["largest"], expected, atol=1e-9)


def test_torsos_are_compared_as_the_model_sees_them(tmp_path, capsys):
    """A wide film is cropped at the sides, a tall picture above and below: 2.13, not 1.6 times."""
    driver = Person(Framed((108, 192), 40.0, (96.0, 40.0)), 2).keypoint_clip()
    close = Person(Framed((192, 108), 40.0 * 192 / 108 * 1.6, (54.0, 80.0)), 1).keypoint_clip()
    write_dwpose(tmp_path / "in.json", driver)
    write_dwpose(tmp_path / "ref.json", close)
    for mode in ("similarity", "none"):
        inputs = ("--dwpose", tmp_path / "in.json", "--ref-dwpose", tmp_path / "ref.json")
        run(tmp_path / mode, *inputs, "--align", mode)
        (line,) = [w for w in capsys.readouterr().out.splitlines() if w.startswith("warning")]
        ratio = float(line.split("torso is ")[1].split()[0])
        assert ratio == pytest.approx(1.6 * (192 / 144), rel=0.12)  # it sways


def test_what_cannot_follow_limbs_is_said(tmp_path, capsys):
    files = write_case(tmp_path, DRIVER, REFERENCE, 2)
    person = Person(DRIVER, 2)
    video = tmp_path / "hands.mp4"
    with VideoWriter(video, 10, SIZE) as writer:
        for _ in range(2):
            writer.write(np.zeros((*SIZE, 3), np.uint8))
    keypoints = ("--dwpose", files["dwpose"], "--ref-dwpose", files["ref-dwpose"])
    body = ("--body", files["body"], "--body-model", files["body-model"])
    warp = ("--warp", f"hamer={video}")
    shape = tmp_path / "shape.npz"
    save_clip(shape, person.body_clip())

    def warnings(name: str, *words: object) -> list[str]:
        run(tmp_path / name, *keypoints, *words)
        lines = capsys.readouterr().out.splitlines()
        return [line.split(": ")[1] for line in lines if line.startswith("warning: ")]

    assert warnings("a", *body, *warp, "--align", "limbs") == ["smpl", "hamer"]
    assert warnings("b", *body, "--align", "limbs", "--ref-body", shape) == []
    assert warnings("c", *body, *warp, "--align", "similarity") == []


@pytest.mark.parametrize("source", ["--fps", "--video"])
def test_the_rate_reaches_sampling(clips, tmp_path, source):
    """Keypoints as released tell none, and no video goes with them."""
    write_dwpose(tmp_path / "in.json", replace(clips[0], fps=None))
    value: object = 30
    if source == "--video":
        value = tmp_path / "film.mp4"
        with VideoWriter(value, 30, SIZE) as writer:
            for _ in range(3):
                writer.write(np.zeros((*SIZE, 3), np.uint8))
    run(tmp_path / "out", "--dwpose", tmp_path / "in.json", source, value)
    dwpose = tmp_path / "out" / "dwpose.json"
    driver = sampling.open_driver(dwpose, None, None, SampleConfig(stride=2))
    assert (driver.source_fps, driver.fps) == (30, 15)
    assert not any("frame rate" in line for line in driver.notes(("dwpose",)))


def test_hands_without_a_body_are_not_called_black(clips, tmp_path, capsys):
    body_ok, hands_ok = clips[0].body_ok.copy(), clips[0].hands_ok.copy()
    body_ok[:2] = hands_ok[1] = False
    save_clip(tmp_path / "k.npz", replace(clips[0], body_ok=body_ok, hands_ok=hands_ok))
    run(tmp_path / "out", "--dwpose", tmp_path / "k.npz", "--draw")
    said = capsys.readouterr().out
    assert "dwpose: 1 of 3 frames show no body, hands are still drawn" in said
    assert "dwpose: 1 of 3 frames are empty: black" in said
    pictures = read_frames(tmp_path / "out" / "dwpose_drawn.mp4")
    assert [bool(picture.max() > 60) for picture in pictures] == [True, False, True]


def test_how_it_is_aligned_is_said_and_shown(clips, tmp_path, capsys):
    """The driver jumps in its first frame; the picture is of one where it is most of the time."""
    dancer, _ = clips
    body = dancer.body.copy()
    body[0, 0, :, 0] += 0.3
    save_clip(tmp_path / "k.npz", replace(dancer, body=body))
    write_dwpose(tmp_path / "ref.json", dancer)
    page = tmp_path / "page.html"
    words = ("--dwpose", tmp_path / "k.npz", "--ref-dwpose", tmp_path / "ref.json")
    run(tmp_path / "out", *words, "--report", page)
    said = capsys.readouterr().out
    assert f"{tmp_path}/ref.json: frame 0 of 3 is used" in said
    assert re.search(r"^aligned: scale \d.\d+, shift .*, on a canvas of 96x80$", said, re.MULTILINE)
    assert "nearest the median of the first 12" in page.read_text("utf-8")
    picture = read_image(tmp_path / "out" / "alignment.png")[24:]
    before, after = picture[:, :80], picture[:, 80:]
    moved = read_dwpose(tmp_path / "out" / "dwpose.json")
    for frame in range(3):
        drawn = draw_dwpose(moved, frame)
        on = drawn.any(axis=-1)
        assert np.array_equal(after[on], drawn[on]) == (frame == 2)
    assert not np.array_equal(before, after)
    run(tmp_path / "kept", *words, "--align", "none")
    assert "aligned: " not in capsys.readouterr().out
