"""`prepare poses`: a folder holds the case of one run; what can be refused early is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realisdance_jax import doctor
from realisdance_jax.data.images import read_image
from realisdance_jax.data.video_io import VideoWriter, probe_video
from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.poses.synthetic_models import write_synthetic_mano
from realisdance_jax.preparing import poses
from realisdance_jax.sampling.cases import Case, find_cases
from tests.poses.pose_files import smplerx_meta, smplerx_person, write_smplerx
from tests.preparing.person import Person, write_case
from tests.preparing.test_poses import DRIVER, REFERENCE, SIZE, options, run
from tests.refusals import refusal


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    return write_case(tmp_path_factory.mktemp("small"), DRIVER, REFERENCE, 3)


def black_film(path: Path, frames: int) -> Path:
    with VideoWriter(path, 10, SIZE) as writer:
        for _ in range(frames):
            writer.write(np.zeros((*SIZE, 3), np.uint8))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_case_is_of_one_run(files, tmp_path, monkeypatch):
    """A failed run leaves the old one whole, a later one removes what it does not write itself."""
    inputs = options(files, "dwpose", "hands")
    rich = ("--ref-dwpose", files["ref-dwpose"], "--draw", "--repair")
    (tmp_path / "notes.txt").write_text("mine")
    run(tmp_path, *inputs, *options(files, "mano"), *rich)
    before = contents(tmp_path)
    names = ["alignment.png", "dwpose.json", "dwpose_drawn.mp4", "hamer.mp4", "notes.txt"]
    assert sorted(before) == [*names, "repair.json"]
    write_synthetic_mano(tmp_path / "other.npz", 300)
    line = refusal(run, tmp_path, *inputs, "--align", "none", "--mano", tmp_path / "other.npz")
    assert "--mano: expected a hand of 778 vertices" in line
    (tmp_path / "other.npz").unlink()
    assert contents(tmp_path) == before

    def fail(*_, **__):
        raise KeyboardInterrupt

    page = tmp_path / "page.html"
    with monkeypatch.context() as patch:
        patch.setattr(poses, "write_report", fail)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, *inputs, *options(files, "mano"), "--report", page)
    assert contents(tmp_path) == before
    run(tmp_path, *inputs, *options(files, "mano"), "--report", page)
    after = contents(tmp_path)
    assert sorted(after) == ["dwpose.json", "hamer.mp4", "notes.txt", "page.html"]
    assert after["notes.txt"] == b"mine"
    assert after["dwpose.json"] != before["dwpose.json"]
    assert not list(tmp_path.glob(".*"))


def test_what_options_tell_is_refused_before_estimators_run(files, tmp_path):
    """So are files that are there already: the command would leave a trace."""
    out, trace = tmp_path / "out", tmp_path / "trace"
    film = black_film(tmp_path / "film.mp4", 3)
    command = ("--hands", f"command:touch {trace} {{out}}", *options(files, "mano"))
    out.mkdir()
    (out / "smpl.mp4").touch()
    (tmp_path / "text.json").write_text("{}")
    save_clip(tmp_path / "short.npz", Person(DRIVER, 2).keypoint_clip())
    dwpose, reference = options(files, "dwpose"), options(files, "ref-dwpose")
    body = options(files, "body-model", "body")
    line = refusal(run, out, *command)
    assert "smpl.mp4: expected no condition but those written now" in line
    (out / "smpl.mp4").unlink()
    (out / "repair.json").mkdir()
    assert "repair.json: expected a file to write, found a folder" in refusal(run, out, *command)
    (out / "repair.json").rmdir()
    for words, reason in (
        ((*dwpose, "--align", "similarity"), "expected --ref-dwpose to align to"),
        ((*dwpose, "--ref", film), "expected --ref-dwpose to align to"),
        (reference, "expected keypoints or --body to align by"),
        ((*body, *reference, "--align", "limbs"), "--align limbs: expected keypoints of driver"),
        ((*dwpose, *reference, "--ref-body", files["body"]), "--ref-body: expected --align limbs"),
        ((*dwpose, "--ref-dwpose", tmp_path / "text.json"), "text.json: frame 0: expected"),
        ((*dwpose, "--canvas", "33x40"), "canvas: expected even sides"),
        ((*dwpose, "--fps", "1e-3"), "expected 0.1 to 1000 frames per second"),
        ((*dwpose, "--warp", f"hamer={film}"), "film.mp4: expected one source of hamer, found two"),
        (("--dwpose", tmp_path / "absent.pkl"), "absent.pkl: expected"),
        (("--warp", f"smpl={tmp_path}/absent.mp4"), "absent.mp4: expected"),
        (("--dwpose", tmp_path / "short.npz", "--video", film), "found 3 of --video, 2 of dwpose"),
        (("--warp", f"dwpose={out}"), "expected a folder to write, found an input"),
    ):
        assert reason in refusal(run, out, *command, *words)
    assert not trace.exists()
    assert not list(out.iterdir())
    assert "touch: expected results in" in refusal(run, out, *command, *dwpose)
    assert trace.exists()


def test_the_film_tells_how_many_frames_there_are(files, tmp_path, capsys):
    """Bodies in frames 1 to 3 of a film of five: two black frames follow, or a refusal."""
    film, bodies = black_film(tmp_path / "film.mp4", 5), tmp_path / "bodies"
    for frame in (1, 2, 3):
        meta = smplerx_meta(*SIZE[::-1])
        write_smplerx(bodies, f"{frame:05d}_0", smplerx_person(), meta)
    inputs = ("--video", film, *options(files, "body-model", "colours"))
    run(tmp_path / "out", *inputs, "--body", bodies)
    assert probe_video(tmp_path / "out" / "smpl.mp4").frames == 5
    assert "smpl: 2 of 5 frames are empty: black" in capsys.readouterr().out
    three = options(files, "body")
    line = refusal(run, tmp_path / "new", *inputs, *three)
    assert "expected equal frame counts, found 5 of --video, 3 of smpl; --trim uses 3" in line
    run(tmp_path / "new", *inputs, *three, "--trim")
    assert probe_video(tmp_path / "new" / "smpl.mp4").frames == 3


@pytest.mark.parametrize("option", ["dwpose", "body", "hands", "ref-dwpose", "video", "mano"])
def test_a_name_that_no_file_can_have_is_one_line(files, tmp_path, option):
    path = tmp_path / f"{'b' * 300}.npz"
    rest = options(files, *({"dwpose", "body", "hands", "body-model", "mano"} - {option}))
    line = refusal(run, tmp_path / "out", *rest, f"--{option}", path)
    assert line.startswith(f"{path}: expected")
    assert line.endswith("(File name too long)")


def transparent(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (120, 90, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_the_reference_is_part_of_the_case(files, tmp_path):
    """So that `sample --root` and the doctor take the folder as it is."""
    out, aligned = tmp_path / "dance", options(files, "dwpose", "ref-dwpose")
    run(out, *aligned, "--ref", transparent(tmp_path / "a.png"))
    assert (out / "ref.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    expected = Case("dance", out / "ref.png", dwpose=out / "dwpose.json")
    assert find_cases(out) == [expected]
    checked = doctor.make_case(doctor.make_parser().parse_args([str(out)]))
    assert (checked.reference, checked.drivers) == (out / "ref.png", {"dwpose": expected.dwpose})
    Image.fromarray(read_image(tmp_path / "a.png")).save(tmp_path / "b.jpg")
    run(out, *aligned, "--ref", tmp_path / "b.jpg")
    np.testing.assert_array_equal(read_image(out / "ref.png"), read_image(tmp_path / "b.jpg"))
    before = contents(out)
    run(out, *aligned, "--ref", out / "ref.png")  # the case's own
    run(out, *aligned)
    assert contents(out)["ref.png"] == before["ref.png"]


def test_two_references_and_none_that_can_be_read_are_refused(files, tmp_path):
    aligned = options(files, "dwpose", "ref-dwpose")
    picture = transparent(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ref.jpg").touch()
    line = refusal(run, tmp_path / "out", *aligned, "--ref", picture)
    assert "ref.jpg: expected no picture but --ref" in line
    kept = (*options(files, "dwpose"), "--align", "none")
    line = refusal(run, tmp_path / "new", *kept, "--ref", files["ref-dwpose"])
    assert "ref.json: expected a picture" in line
    assert not (tmp_path / "new").exists()


def test_refusals_name_the_option_that_helps(files, tmp_path, capsys):
    film = black_film(tmp_path / "film.mp4", 3)
    (tmp_path / "op").mkdir()
    (tmp_path / "op" / "0.json").write_text('{"people": []}')
    (tmp_path / "text.pkl").write_bytes(b"\x80\x04]q.")
    bodies = tmp_path / "bodies"
    for frame in range(1, 5):
        write_smplerx(bodies, f"{frame:05d}_0", smplerx_person(), smplerx_meta(*SIZE[::-1]))
    dwpose, body, mano = (options(files, name) for name in ("dwpose", "body-model", "mano"))
    folder = "expected SMPLer-X's folder, with smplx/ and meta/, found neither"
    for words, reason in (
        (("--openpose", tmp_path / "op"), "expected the frame size beside it (--size or --video)"),
        (("--video", film), "--dwpose-detector with --dwpose-pose finds keypoints of --video"),
        (("--dwpose", film), "film.mp4: expected keypoints, found a video; --warp dwpose=VIDEO"),
        ((*dwpose, *body, "--body", bodies), "found 4; --trim goes by the shortest"),
        ((*body, "--body", bodies / "smplx"), f"smplx: {folder}"),
        ((*body, "--body", tmp_path / "op"), f"op: {folder}"),
        (
            (*options(files, "hands"), "--mano", files["body-model"]),
            "expected a MANO model, found an SMPL-X model (10475 vertices, 55 joints)",
        ),
        (
            (*options(files, "body"), "--body-model", tmp_path / "text.pkl"),
            "found an unreadable file (no .npy or .npz of plain numbers)",
        ),
        (
            (*options(files, "body"), *body, "--colours", film),
            "found an unreadable file (no .npy or .npz of plain numbers)",
        ),
    ):
        assert reason in refusal(run, tmp_path / "out", *words)
    capsys.readouterr()
    short = tmp_path / "short.npz"
    save_clip(short, Person(DRIVER, 2).hand_clip())
    run(tmp_path / "out", *dwpose, *mano, "--hands", short, "--trim")
    said = capsys.readouterr().out
    assert "--trim: the first 2 frames are used, found 3 of dwpose, 2 of hamer" in said
