"""The embedded example: everything it promises is there, and nothing comes from elsewhere."""

import jax
import numpy as np

from realisdance_jax import demo
from realisdance_jax.data.demo_clip import write_demo_clip
from realisdance_jax.data.images import read_image
from realisdance_jax.data.video_io import probe_video, read_frames
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.sampling.pipeline import load
from tests.commands import run_program
from tests.e2e.conftest import SMALL


def test_demo(monkeypatch, tmp_path, capfd):
    """With smaller weights, fewer steps and fewer devices than by default."""
    monkeypatch.setattr(demo, "TINY", SMALL)
    monkeypatch.setattr(demo, "load", lambda folder: load(folder, devices=jax.devices()[:1]))
    words = ("--out", tmp_path / "out", "--steps", 2, "--frames", 2)
    code, out, _ = run_program(demo.main, words, monkeypatch, capfd)
    assert code == 0
    for name, across in (("demo.mp4", 1), ("demo_side_by_side.mp4", 5), ("demo_gates.mp4", 3)):
        info = probe_video(tmp_path / "out" / name)
        assert (info.frames, info.fps) == (2, 8)
        assert (info.height, info.width) == (128, across * 96)
        assert f"wrote {tmp_path / 'out' / name}" in out
    assert read_image(tmp_path / "out" / "demo.png").shape[1] == 5 * 96
    assert "random" in out.splitlines()[-1]


def test_bad_options(monkeypatch, tmp_path, capfd):
    words = ("--out", tmp_path / "out", "--frames", 0)
    refusal = run_program(demo.main, words, monkeypatch, capfd).refusal
    assert "max frames: expected at least 1, found 0" in refusal
    assert not list(tmp_path.iterdir())


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
