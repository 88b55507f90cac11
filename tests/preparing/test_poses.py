"""`prepare poses`: what is said, written and refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.data.images import read_image
from realisdance_jax.data.video_io import VideoWriter, probe_video, read_frames
from realisdance_jax.poses import gl
from realisdance_jax.poses.clip_files import load_clip, save_clip
from realisdance_jax.poses.dwpose_json import write_dwpose
from realisdance_jax.poses.hamer_look import full_frame_camera
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.poses.synthetic_models import write_synthetic_mano
from realisdance_jax.prepare import make_parser
from realisdance_jax.preparing import painting
from realisdance_jax.utils.errors import UserError
from tests.preparing.person import Framed, Person, models, write_case

SIZE = (96, 80)
DRIVER = Framed(SIZE, 36.0, (40.0, 34.0))
REFERENCE = Framed((120, 90), 50.0, (45.0, 40.0))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    return write_case(tmp_path_factory.mktemp("small"), DRIVER, REFERENCE, 3)


def options(files: dict[str, Path], *names: str) -> list[str]:
    return [word for name in names for word in (f"--{name}", str(files[name]))]


def run(out: Path, *arguments: object) -> None:
    words = ["poses", "--out", str(out), "--workers", "1", *map(str, arguments)]
    parsed = make_parser().parse_args(words)
    parsed.run(parsed)


def test_without_a_reference_nothing_moves(files, tmp_path, capsys):
    run(tmp_path, *options(files, "dwpose"), "--draw")
    said = capsys.readouterr().out
    assert "no --ref-dwpose: the driver's framing is kept" in said
    assert "hamer: not given: nothing is written, and sampling takes black frames" in said
    assert "smpl: not given" in said
    assert "no file tells the frame rate: 24 assumed; --fps sets it" in said
    clip, again = read_dwpose(files["dwpose"]), read_dwpose(tmp_path / "dwpose.json")
    for name in ("body", "body_ok", "hands", "hands_ok", "faces_ok"):
        np.testing.assert_allclose(getattr(again, name), getattr(clip, name), atol=1e-12)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["dwpose.json", "dwpose_drawn.mp4"]
    assert probe_video(tmp_path / "dwpose_drawn.mp4").fps == 24.0


def test_frames_without_a_body_or_hand_are_black_and_counted(files, tmp_path, capsys):
    person = Person(DRIVER, 4)
    body, hands = person.body_clip(), person.hand_clip()
    gone = np.array([True, True, False, True])
    arrays = {n: value * gone.reshape(-1, *[1] * (value.ndim - 1)) for n, value in numbers(body)}
    save_clip(tmp_path / "b.npz", replace(body, present=gone, **arrays))
    none = hands.present & gone[::-1, None]
    save_clip(tmp_path / "h.npz", replace(hands, present=none))
    models = options(files, "body-model", "mano", "colours")
    inputs = ("--body", tmp_path / "b.npz", "--hands", tmp_path / "h.npz", "--look", "dit")
    run(tmp_path / "out", *models, *inputs)
    said = capsys.readouterr().out
    assert "smpl: 1 of 4 frames are empty: black" in said
    assert "hamer: 1 of 4 frames are empty: black" in said
    assert "dwpose: not given" in said
    for name, dark in (("smpl", 2), ("hamer", 1)):
        frames = np.stack(list(read_frames(tmp_path / "out" / f"{name}.mp4"))).astype(int)
        assert frames[dark].max() < 12  # what the codec leaves of black
        bright = [frame.max() > 100 for frame in frames]
        assert bright == [frame != dark for frame in range(4)]


def numbers(clip):
    """The arrays of numbers of a clip."""
    return [(n, v) for n, v in vars(clip).items() if getattr(v, "dtype", None) == np.float64]


def test_a_body_alone_can_be_aligned(files, tmp_path):
    """Its own torso is measured, so both ways give nearly the same canvas and place."""
    models = options(files, "body-model", "colours", "ref-dwpose")
    for name, inputs in (("alone", ("body",)), ("both", ("body", "dwpose"))):
        run(tmp_path / name, *models, *options(files, *inputs))
    one, two = (
        np.stack(list(read_frames(tmp_path / name / "smpl.mp4"))).astype(int).max(axis=-1) > 40
        for name in ("alone", "both")
    )
    assert one.sum() > 300
    assert np.count_nonzero(one != two) <= 0.02 * one.sum()


def test_ready_made_videos_move_like_what_is_painted(files, tmp_path):
    person = Person(Framed((192, 256), 90.0, (128.0, 70.0)), 2)
    reference = Person(Framed((240, 200), 100.0, (100.0, 90.0)), 1)
    save_clip(tmp_path / "k.npz", person.keypoint_clip())
    save_clip(tmp_path / "r.npz", reference.keypoint_clip())
    save_clip(tmp_path / "h.npz", person.hand_clip())
    hands = ("--hands", tmp_path / "h.npz", *options(files, "mano"))
    keypoints = ("--dwpose", tmp_path / "k.npz", "--ref-dwpose", tmp_path / "r.npz")
    run(tmp_path / "as_is", *hands)
    run(tmp_path / "painted", *keypoints, *hands)
    video = tmp_path / "as_is" / "hamer.mp4"
    run(tmp_path / "warped", *keypoints, "--warp", f"hamer={video}")
    painted, warped = (list(read_frames(tmp_path / n / "hamer.mp4")) for n in ("painted", "warped"))
    for pictures in zip(painted, warped, strict=True):
        assert pictures[0].shape == pictures[1].shape == (192, 160, 3)
        halves = [np.split(picture.max(axis=-1) > 90, 2, axis=1) for picture in pictures]
        for a, b in zip(*halves, strict=True):
            assert a.sum() > 80
            np.testing.assert_allclose(np.argwhere(a).mean(0), np.argwhere(b).mean(0), atol=0.7)


def test_limbs_take_the_proportions_of_the_reference(files, tmp_path):
    reference = Person(REFERENCE, 1).keypoint_clip()
    body = reference.body.copy()
    body[:, 0, 3] += 0.5 * (body[:, 0, 3] - body[:, 0, 2])  # longer upper arms
    body[:, 0, 6] += 0.5 * (body[:, 0, 6] - body[:, 0, 5])
    write_dwpose(tmp_path / "ref.json", replace(reference, body=body))
    inputs = [*options(files, "dwpose", "hands", "mano"), "--ref-dwpose", tmp_path / "ref.json"]
    lengths, reach = {}, {}
    for mode in ("similarity", "limbs"):
        run(tmp_path / mode, *inputs, "--align", mode)
        clip = read_dwpose(tmp_path / mode / "dwpose.json")
        points = clip.body[:, 0] * np.array(clip.size[::-1])
        lengths[mode] = np.linalg.norm(points[:, 3] - points[:, 2], axis=-1)
        frames = [frame.astype(int) for frame in read_frames(tmp_path / mode / "hamer.mp4")]
        right = [(f.max(-1) > 90) & (f[..., 0] > f[..., 1]) for f in frames]
        reach[mode] = np.array([np.argwhere(m)[:, 1].mean() for m in right]) - points[:, 4, 0]
    arm = 1.5 * 0.25 * REFERENCE.scale * 96 / 120
    np.testing.assert_allclose(lengths["limbs"], arm, rtol=0.02)
    assert np.all(lengths["similarity"] < 0.7 * arm)
    np.testing.assert_allclose(reach["limbs"], reach["similarity"], atol=1.5)  # hands came along


def test_a_much_nearer_reference_is_warned_of(files, tmp_path, capsys):
    close = Person(Framed((120, 90), 160.0, (45.0, 30.0)), 1).keypoint_clip()
    write_dwpose(tmp_path / "ref.json", close)
    inputs = (*options(files, "dwpose"), "--ref-dwpose", tmp_path / "ref.json")
    wanted = (160 / 120) / (36 / 96)  # both keep their heights
    for mode in ("similarity", "none"):
        run(tmp_path / mode, *inputs, "--align", mode)
        (line,) = [w for w in capsys.readouterr().out.splitlines() if w.startswith("warning")]
        assert (
            "times smaller than the reference's, more than 2 times in the model's picture" in line
        )
        ratio = float(line.split("torso is ")[1].split()[0])
        assert ratio == pytest.approx(wanted, rel=0.12)  # it sways
    assert read_image(tmp_path / "similarity" / "alignment.png").shape[1] == 2 * 72


def test_repair_is_written_down_and_reported(files, tmp_path):
    clip = Person(DRIVER, 12).keypoint_clip()
    body, ok = clip.body.copy(), clip.body_ok.copy()
    body[6, 0, 4] += 0.4
    ok[8, 0, 7] = False
    write_dwpose(tmp_path / "in.json", replace(clip, body=body, body_ok=ok))
    report = tmp_path / "page.html"
    inputs = ("--dwpose", tmp_path / "in.json", "--fps", 10)
    run(tmp_path / "out", *inputs, "--repair", "--smooth", "3", "--report", report)
    record = json.loads((tmp_path / "out" / "repair.json").read_text())
    assert record["counts"] == {"dwpose gap": 1, "dwpose outlier": 1, "dwpose smoothed": 1}
    tracks = {(c["kind"], c["track"], c["first"], c["last"]) for c in record["changes"]}
    assert ("outlier", "person 0 right wrist", 6, 6) in tracks
    assert ("gap", "person 0 left wrist", 8, 8) in tracks
    assert record["smooth"] == 3.0
    mended = read_dwpose(tmp_path / "out" / "dwpose.json")
    assert mended.body_ok.all()
    np.testing.assert_allclose(mended.body, clip.body, atol=0.03)
    page = report.read_text("utf-8")
    for word in ("right wrist", "outlier", "<svg", "12 of 12", "person 0 left wrist"):
        assert word in page
    assert "http" not in page.replace("http-equiv", "")


def test_processes_and_one_alone_paint_the_same(files, tmp_path):
    words = options(files, "hands", "mano")
    run(tmp_path / "1", *words)
    command = [sys.executable, "-m", "realisdance_jax.prepare", "poses", *words, "--workers", "2"]
    done = subprocess.run([*command, "--out", str(tmp_path / "2")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = ((tmp_path / n / "hamer.mp4").read_bytes() for n in "12")
    assert one == two


@pytest.mark.parametrize(
    ("cores", "frames", "processes"),
    [(1, 5000, 1), (2, 5000, 1), (3, 383, 1), (3, 384, 2), (16, 600, 3), (16, 5000, 15)],
)
def test_processes_start_only_where_they_pay(monkeypatch, cores, frames, processes):
    started = []

    def record(paint, frames, count, *_):
        started.append(count)
        return iter(())

    monkeypatch.setattr(painting.os, "sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(painting, "paint_frames", record)
    clip, (_, hand) = Person(DRIVER, 1).hand_clip(), models()
    arrays = {"present": clip.present, "right": clip.right, "vertices": clip.vertices}
    arrays |= {"translation": clip.translation}
    long = replace(clip, **{n: np.repeat(array, frames, axis=0) for n, array in arrays.items()})
    for workers in (None, 4):
        job = painting.Job(SIZE, workers=workers)
        painting.hand_pictures(hand, long, full_frame_camera(SIZE), job)
    assert started == [processes, 4]


def test_processes_that_paint_start_light():
    """They import the command's file and the painters; JAX and the data loaders take seconds."""
    code = (
        "import sys, realisdance_jax.prepare, realisdance_jax.preparing.painters as _, "
        "realisdance_jax.poses.frame_pool; print(*sys.modules)"
    )
    free = {name: value for name, value in os.environ.items() if name != "REALISDANCE_TYPECHECK"}
    how = {"capture_output": True, "text": True, "check": True, "env": free}
    found = subprocess.run([sys.executable, "-c", code], **how)
    heavy = {"jax", "flax", "tensorflow_datasets", "grain", "realisdance_jax.preparing.poses"}
    assert not heavy & set(found.stdout.split())


def test_pictures_are_painted_when_they_are_wanted(monkeypatch):
    """So that memory does not grow with the video."""
    painted = []
    paint = painting.paint_hand_frame

    def counting(frame, **how):
        painted.append(len(frame.vertices))
        return paint(frame, **how)

    monkeypatch.setattr(painting, "paint_hand_frame", counting)
    clip, (_, hand) = Person(DRIVER, 5).hand_clip(), models()
    pictures = painting.hand_pictures(hand, clip, full_frame_camera(SIZE), painting.Job(SIZE))
    assert painted == []
    assert next(pictures).any()
    assert painted == [2]
    assert len(list(pictures)) == 4


def test_mano_is_converted_by_the_command(tmp_path, capsys):
    write_synthetic_mano(tmp_path / "MANO_RIGHT.pkl", 300)
    words = ["convert-mano", str(tmp_path / "MANO_RIGHT.pkl"), "--out", str(tmp_path / "m.npz")]
    parsed = make_parser().parse_args(words)
    parsed.run(parsed)
    assert f"wrote {tmp_path}/m.npz" in capsys.readouterr().out
    with np.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        assert arrays["v_template"].shape == (300, 3)


def test_bad_input_is_refused_in_one_line_and_leaves_nothing(files, tmp_path):
    short = tmp_path / "short.npz"
    save_clip(short, Person(DRIVER, 2).hand_clip())
    other = tmp_path / "other.npz"
    save_clip(other, replace(Person(DRIVER, 3).hand_clip(), size=(50, 60)))
    bare = tmp_path / "bare.json"
    write_dwpose(bare, replace(Person(DRIVER, 1).keypoint_clip(), size=None))
    nobody = tmp_path / "nobody.json"
    hidden = Person(REFERENCE, 1).keypoint_clip()
    write_dwpose(nobody, replace(hidden, body_ok=np.zeros_like(hidden.body_ok)))
    dwpose, mano = options(files, "dwpose"), options(files, "mano")
    for words, reason in (
        ((), "expected at least one of keypoints"),
        (options(files, "body"), "expected --body and --body-model together"),
        (mano, "expected --hands and --mano together"),
        (("--dwpose", tmp_path / "no.pkl"), "no such file"),
        (("--dwpose", files["body"]), "expected keypoints, found a BodyClip"),
        (("--dwpose", bare), "expected --size HxW"),
        ((*dwpose, *mano, "--hands", short), "expected equal frame counts, found 3 of dwpose, 2"),
        ((*dwpose, *mano, "--hands", other), "expected one frame size, found 96x80 of dwpose, 50"),
        ((*dwpose, "--align", "similarity"), "expected --ref-dwpose"),
        ((*dwpose, "--ref-dwpose", nobody), "expected a person in frame 0"),
        ((*dwpose, "--ref-dwpose", files["ref-dwpose"], "--ref-body", files["body"]), "ref-body"),
        ((*dwpose, "--report", "page.pdf"), "expected a name ending in .html"),
        ((*dwpose, "--canvas", "33x40"), "canvas: expected even sides up to 8192, found 33x40"),
        ((*dwpose, "--fps", "1e-3"), "expected 0.1 to 1000 frames per second"),
        ((*dwpose, "--align", "limbs"), "expected --ref-dwpose"),
        ((*dwpose, "--warp", f"dwpose={short}"), "expected one source of dwpose"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            run(tmp_path / "out", *words)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
    run(tmp_path / "out", *dwpose, *mano, "--hands", short, "--trim")
    assert read_dwpose(tmp_path / "out" / "dwpose.json").frames == 2


def test_the_gl_renderer_needs_its_extra(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    gl._board.cache_clear()
    with pytest.raises(UserError, match=r"renderer gl: expected the package moderngl"):
        run(tmp_path / "out", *options(files, "hands", "mano"), "--renderer", "gl")
    assert not (tmp_path / "out").exists()


def test_conditions_of_another_run_are_not_mixed_in(files, tmp_path):
    (tmp_path / "hamer.mp4").write_bytes(b"old")
    (tmp_path / "ref.png").write_bytes(b"picture")
    with pytest.raises(UserError, match=r"hamer.mp4: expected no condition but those written now"):
        run(tmp_path, *options(files, "dwpose"))
    (tmp_path / "hamer.mp4").unlink()
    run(tmp_path, *options(files, "dwpose"))
    run(tmp_path, *options(files, "dwpose"))  # again, over its own files
    with pytest.raises(UserError, match="expected a file to write or remove, found an input"):
        run(tmp_path, "--dwpose", tmp_path / "dwpose.json")
    assert (tmp_path / "ref.png").read_bytes() == b"picture"
    video = tmp_path / "drawn.mp4"
    with VideoWriter(video, 10, SIZE) as writer:
        writer.write(np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(UserError, match=r"dwpose.json: expected no condition but"):
        run(tmp_path, "--warp", f"dwpose={video}")


def test_a_damaged_video_leaves_no_half_output(files, tmp_path):
    video = tmp_path / "hands.mp4"
    rng = np.random.default_rng(0)
    with VideoWriter(video, 10, SIZE) as writer:
        for _ in range(3):
            writer.write(rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8))
    video.write_bytes(video.read_bytes()[:-3000])
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"hands.mp4: expected"):
        run(out, *options(files, "dwpose"), "--warp", f"hamer={video}")
    assert not (out / "hamer.mp4").exists()
    assert not [path for path in out.glob(".*")]


def test_errors_of_the_command_line(tmp_path):
    command = [sys.executable, "-m", "realisdance_jax.prepare", "poses", "--out", str(tmp_path)]
    absent = [*command, "--dwpose", str(tmp_path / "absent.pkl")]
    done = subprocess.run(absent, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/absent.pkl: expected")
    assert done.stderr.count("\n") == 1


def test_values_of_options_are_checked(capsys):
    for words, reason in (
        (["--warp", "smpl"], "expected NAME=VIDEO"),
        (["--workers", "0"], "a whole number from 1 on"),
        (["--smooth", "nan"], "a number above 0"),
        (["--size", "0x4"], "expected HEIGHTxWIDTH"),
        (["--dwpose", "a", "--openpose", "b"], "not allowed with"),
    ):
        with pytest.raises(SystemExit) as caught:
            make_parser().parse_args(["poses", "--out", "x", *words])
        assert caught.value.code == 2
        line = capsys.readouterr().err
        assert reason in line
        assert line.count("\n") == 1


def test_saved_clips_are_inputs(files, tmp_path):
    clip = Person(DRIVER, 2).keypoint_clip()
    save_clip(tmp_path / "k.npz", clip)
    assert load_clip(tmp_path / "k.npz").fps == 10.0
    run(tmp_path / "out", "--dwpose", tmp_path / "k.npz", "--canvas", "48x40", "--draw")
    info = probe_video(tmp_path / "out" / "dwpose_drawn.mp4")
    assert (info.height, info.width, info.fps, info.frames) == (48, 40, 10.0, 2)
    again = read_dwpose(tmp_path / "out" / "dwpose.json")
    np.testing.assert_allclose(again.body, clip.body, atol=1e-9)  # half the size, same shape
