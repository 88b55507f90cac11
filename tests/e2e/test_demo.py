"""The embedded example: all it promises is there, nothing comes from elsewhere, and it dances."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from realisdance_jax import demo
from realisdance_jax.checkpoints.packed import pack_weights, unpack_weights
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.data.demo_clip import write_demo_clip
from realisdance_jax.data.images import LABEL_HEIGHT, read_image, save_png
from realisdance_jax.data.video_io import probe_video, read_frames
from realisdance_jax.models.config import PoseGuiderConfig
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.sampling.pipeline import load
from tests.commands import run_program
from tests.e2e.conftest import SMALL

HEIGHT, WIDTH = (demo.ENLARGED * side for side in demo.SIZE)


@pytest.fixture(scope="module")
def packed(weights, tmp_path_factory) -> dict[str, Path]:
    """Small models with random weights in the place of the embedded ones."""
    folder = tmp_path_factory.mktemp("packed")
    pose = replace(SMALL.pose, kind="embedding", conditions=("dwpose",))
    write_random_weights(folder / "anyone", replace(SMALL, pose=pose))
    files = {"ours": folder / "ours.npz", "baseline": folder / "base.npz"}
    for source, file in zip((weights, folder / "anyone"), files.values(), strict=True):
        pack_weights(source, file)
    return files


@pytest.fixture
def run(packed, monkeypatch, capfd):
    """The demo on one device, briefly."""
    monkeypatch.setattr(demo, "MODELS", packed)
    monkeypatch.setattr(demo, "load", lambda folder: load(folder, devices=jax.devices()[:1]))
    few = ("--steps", 2, "--frames", 2)
    return lambda *words: run_program(demo.main, (*few, *words), monkeypatch, capfd)


def test_demo(run, tmp_path):
    out = tmp_path / "out"
    ended = run("--out", out)
    assert ended.code == 0, ended
    labelled = HEIGHT + LABEL_HEIGHT
    sizes = {
        "demo.mp4": (HEIGHT, WIDTH),
        "demo_gates.mp4": (labelled, 3 * WIDTH),
        "demo_side_by_side.mp4": (labelled, 6 * WIDTH),
        "demo_wrong_dwpose.mp4": (labelled, 4 * WIDTH),
    }
    for name, size in sizes.items():
        info = probe_video(out / name)
        assert (info.frames, info.fps, (info.height, info.width)) == (2, demo.FPS, size), name
        assert f"wrote {out / name}" in ended.out
    pictures = {"demo.png", "demo_wrong_dwpose.png"}
    assert {path.name for path in out.iterdir()} == {*sizes, *pictures}
    assert read_image(out / "demo.png").shape[:2] == (2 * HEIGHT + LABEL_HEIGHT, 6 * WIDTH)
    assert read_image(out / "demo_wrong_dwpose.png").shape[1] == 4 * WIDTH


@pytest.mark.parametrize(
    ("size", "word"),
    [((128, 96), ""), ((640, 480), ""), ((64, 48), "enlarged"), ((96, 128), "cut off")],
)
def test_what_of_a_reference_will_be_otherwise(size, word):
    note = demo.misfit(np.zeros((*size, 3), np.uint8))
    assert word in note
    assert bool(note) == bool(word)


def test_wrong_frames_are_marked():
    panel = np.full((2, 20, 16, 3), 9, np.uint8)
    found = demo.framed(panel, np.array([True, False]))
    np.testing.assert_array_equal(found[1], panel[1])
    assert (found[0, 0] == demo.RED).all()
    assert (found[0, :, -demo.EDGE :] == demo.RED).all()
    inside = slice(demo.EDGE, -demo.EDGE)
    np.testing.assert_array_equal(found[0, inside, inside], panel[0, inside, inside])


def test_a_picture_of_ones_own(run, tmp_path):
    """Another dancer at any size: the same poses, another result, no truth to show."""
    save_png(tmp_path / "red.png", np.full((300, 300, 3), (200, 30, 30), np.uint8))
    words = ("--out", tmp_path / "out", "--ref", tmp_path / "red.png")
    ended = run(*words)
    assert ended.code == 0, ended
    assert "red.png: expected 96x128 of a dancer, or a multiple, found 300x300" in ended.out
    sheet = read_image(tmp_path / "out" / "demo.png")
    assert sheet.shape[1] == 5 * WIDTH
    below = sheet[LABEL_HEIGHT:, :WIDTH]
    assert np.abs(below.astype(int) - (200, 30, 30)).max() <= 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--frames", 0), "max frames: expected at least 1, found 0"),
        (("--dance", -1), "dancer: expected a number from 0 to 999999, found -1"),
        (("--ref", "none.png"), "none.png: expected a picture"),
        (("--frames", 10**8), "dancer: expected 1 to 100000 frames"),
    ],
)
def test_bad_options(words, reason, run, tmp_path):
    assert reason in run("--out", tmp_path / "out", *words).refusal
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["demo.png", "demo_gates.mp4", "demo_wrong_dwpose.png"])
def test_a_folder_in_the_place_of_an_output_is_seen_first(name, run, tmp_path):
    (tmp_path / name).mkdir()
    assert "expected a file to write, found a folder" in run("--out", tmp_path).refusal
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_the_embedded_weights(run, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "MODELS", {})
    assert "expected the embedded weights" in run("--out", tmp_path / "out").refusal


def test_the_embedded_weights(tmp_path):
    """A whole model of the video stage in at most 12 MB."""
    file = demo.MODELS["ours"]
    assert file.stat().st_size <= 12_000_000
    manifest = unpack_weights(file, tmp_path / "weights")
    assert manifest.model.pose == PoseGuiderConfig(
        encoder_widths=(8, 16, 24, 32), gate_width=12, kind="gated", motion=True
    )
    assert manifest.model.motion is not None
    assert {*COMPONENTS, "image_encoder", "vae"} <= set(manifest.components)


def test_drawn_clip(tmp_path):
    """Four files of one size and length, in which everything moves."""
    files = write_demo_clip(tmp_path, 4, 96, 64, fps=10)
    keypoints = read_dwpose(files.dwpose)
    assert (keypoints.frames, keypoints.size) == (4, (96, 64))
    assert keypoints.body_ok.all()
    assert keypoints.hands_ok.all()
    assert read_image(files.reference).shape == (96, 64, 3)
    drawn = [draw_dwpose(keypoints, i) for i in range(4)]
    for pictures in (drawn, list(read_frames(files.hamer)), list(read_frames(files.smpl))):
        assert len(pictures) == 4
        assert all(picture.shape == (96, 64, 3) and picture.max() > 150 for picture in pictures)
        assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 0.5
