"""`prepare poses` from a film: DWPose run here, other programs run as commands."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax import prepare
from realisdance_jax.data.images import save_png
from realisdance_jax.data.video_io import VideoWriter, probe_video
from realisdance_jax.poses.clip_files import load_clip, save_clip
from realisdance_jax.poses.clips import HandClip, KeypointClip
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.poses.synthetic_models import write_synthetic_mano
from tests.poses.stand_ins import Figure, detector_file, draw, pose_file
from tests.refusals import refusal

SIZE = (340, 560)
FIGURES = [Figure(0, (330 + 7 * i, 40, 530 + 7 * i, 320)) for i in range(2)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Film of two frames, reference with the person further left and lower, stand-in networks."""
    folder = tmp_path_factory.mktemp("inputs")
    film = folder / "film.mp4"
    with VideoWriter(film, 24, SIZE, crf=1) as writer:
        for figure in FIGURES:
            writer.write(draw([figure], *SIZE))
    save_png(folder / "ref.png", draw([Figure(0, (100, 50, 300, 330))], *SIZE))
    return {
        "video": film,
        "ref": folder / "ref.png",
        "dwpose-detector": detector_file(folder / "yolox.onnx"),
        "dwpose-pose": pose_file(folder / "dw.onnx"),
    }


def run(out: Path, files: dict[str, Path], *names: str, more: tuple = ()) -> None:
    words = [str(word) for name in names for word in (f"--{name}", files[name])]
    words += ["--out", str(out), *map(str, more)]
    options = prepare.make_parser().parse_args(["poses", *words])
    options.run(options)


NETWORKS = ("dwpose-detector", "dwpose-pose")


def test_a_film_becomes_a_condition_where_the_reference_stands(files, tmp_path):
    out = tmp_path / "case"
    run(out, files, "video", "ref", *NETWORKS)
    found = load_clip(out / "estimated" / "dwpose.npz")
    assert isinstance(found, KeypointClip)
    assert (found.size, found.fps, found.frames) == (SIZE, 24, 2)
    assert found.body_score is not None
    nose = found.body[:, 0, 0] * SIZE[::-1]
    np.testing.assert_allclose(nose, [figure.points[0] for figure in FIGURES], atol=1)
    moved = read_dwpose(out / "dwpose.json")
    assert moved.size == SIZE
    shift = (moved.body[0, 0] - found.body[0, 0]) * SIZE[::-1]
    np.testing.assert_allclose(np.median(shift, axis=0), (-230, 10), atol=6)


def test_without_a_reference_the_film_is_kept(files, tmp_path):
    run(tmp_path, files, "video", *NETWORKS, more=("--person", "track"))
    moved = read_dwpose(tmp_path / "dwpose.json")
    nose = moved.body[:, 0, 0] * SIZE[::-1]
    np.testing.assert_allclose(nose, [figure.points[0] for figure in FIGURES], atol=1)


@pytest.fixture(scope="module")
def hands(tmp_path_factory) -> dict[str, str]:
    """Another program's checkout: a script that copies a clip of two hands, and a hand model."""
    folder = tmp_path_factory.mktemp("hamer")
    write_synthetic_mano(folder / "mano.pkl")
    vertices = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 1, 778, 3))
    here = np.ones((2, 1), bool)
    clip = HandClip(here, here, vertices, np.full((2, 1, 3), (0, 0, 30.0)))
    save_clip(folder / "hands.npz", clip)
    script = (
        "import shutil, sys; print('hamer', sys.argv[1]);"
        "shutil.copy(sys.argv[3], sys.argv[2] + '/hands.npz')"
    )
    (folder / "run.py").write_text(script)
    command = f"{sys.executable} {folder}/run.py {{video}} {{out}} {folder}/hands.npz"
    return {"mano": str(folder / "mano.pkl"), "hands": f"command: {command}"}


def command(hands: dict[str, str], text: str | None = None) -> tuple:
    return ("--mano", hands["mano"], "--hands", text or hands["hands"])


def test_a_command_runs_on_the_film_and_is_read_back(files, hands, tmp_path, capsys):
    out = tmp_path / "case"
    for _ in range(2):  # results of a first run give way
        run(out, files, "video", more=command(hands))
    assert (out / "estimated" / "hands.log").read_text() == f"hamer {files['video']}\n"
    assert sorted(p.name for p in (out / "estimated").iterdir()) == ["hands", "hands.log"]
    info = probe_video(out / "hamer.mp4")
    assert (info.height, info.width, info.fps, info.frames) == (*SIZE, 24, 2)
    said = capsys.readouterr().out
    assert f"hands: running {sys.executable} " in said
    assert f" {files['video']} {out}/estimated/hands " in said


def test_a_signal_to_the_command_ends_the_estimator(hands, tmp_path):
    """Also what the estimator has started, as a shell starts programs."""
    beats = tmp_path / "beats"
    loop = f"seq 600 | while read i; do echo x >> {beats}; sleep 0.1; done"
    words = command(hands, f"command:sh -c '(sh -c \"{loop}\"); true' sh {{out}}")
    line = [sys.executable, "-m", "realisdance_jax.prepare", "poses", "--out", tmp_path / "out"]
    with subprocess.Popen([*line, *words], stderr=subprocess.PIPE, text=True) as process:
        while not beats.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[1] == "interrupted\n"
    assert process.returncode == 128 + signal.SIGTERM
    before = beats.stat().st_size
    time.sleep(0.4)
    assert beats.stat().st_size == before


def test_what_does_not_go_together(files, hands, tmp_path):
    def refused(*names: str, more: tuple = ()) -> str:
        return refusal(run, tmp_path / "out", files, *names, more=more)

    assert "--dwpose-detector and --dwpose-pose together" in refused("video", "dwpose-pose")
    assert "expected --video or --ref" in refused(*NETWORKS)
    assert "expected --ref-dwpose to align to" in refused("video", "ref")
    assert "expected at least one of keypoints" in refused("video")
    assert "expected --video for its placeholder" in refused(more=command(hands))
    assert "placeholder {out}" in refused("video", more=command(hands, "command:run {video}"))
    assert "expected --hands and --mano together" in refused("video", more=command(hands)[2:])
    assert not (tmp_path / "out").exists()
    broken = f"command:{sys.executable} -c 'raise SystemExit(7)' {{out}}"
    line = refused("video", more=command(hands, broken))
    assert "exit code 7" in line
    assert str(tmp_path / "out" / "estimated" / "hands.log") in line
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["estimated", "hands.log"]
    aside = f'command:{sys.executable} -c \'import sys; open(sys.argv[1] + "/a.txt", "w")\' {{out}}'
    assert "found none of them" in refused("video", more=command(hands, aside))
    assert (tmp_path / "out" / "estimated" / "hands" / "a.txt").exists()
