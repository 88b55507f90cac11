"""Bad input: one line on stderr, exit code 2, nothing written, no weights read."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax import sample
from realisdance_jax.data.images import save_png
from realisdance_jax.data.video_io import VideoWriter, read_frames
from realisdance_jax.sampling.pipeline import load
from tests.refusals import refusal


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def bad(tmp_path, clip) -> Path:
    """A folder of files that are not what they seem."""
    folder = tmp_path / "bad"
    folder.mkdir()
    whole = clip.smpl.read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 4 // 5])
    (folder / "text.mp4").write_text("not a video")
    (folder / "text.png").write_text("not a picture")
    (folder / "evil.pkl").write_bytes(pickle.dumps(Touch(folder / "ran")))
    (folder / "empty.json").write_text("[]")
    (folder / "no_frames").mkdir()
    np.save(folder / "evil.npy", np.array([Touch(folder / "ran")], object), allow_pickle=True)
    with VideoWriter(folder / "short.mp4", 24, (64, 48)) as writer:
        writer.write(np.zeros((64, 48, 3), np.uint8))
    return folder


@pytest.fixture
def refused(command, monkeypatch, clip, bad, tmp_path):
    """The line that answers these words after good ones; reading weights is an error."""

    def refused(*words, out: Path | None = None) -> str:
        out = out or tmp_path / "videos" / "out.mp4"
        before = sorted(tmp_path.rglob("*"))
        good = ["--weights", "weights", "--ref", clip.reference, "--out", out]
        line = command(*good, *(str(word).format(bad=bad) for word in words)).refusal
        assert sorted(tmp_path.rglob("*")) == before
        return line

    monkeypatch.setattr(sample, "load", unread)
    return refused


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["at least one of --dwpose, --hamer, --smpl", "none"]),
        (["--hamer", "{bad}/gone.mp4"], ["gone.mp4", "no such file"]),
        (["--dwpose", "{bad}/gone.pkl"], ["gone.pkl", "no such file"]),
        (["--ref", "{bad}/gone.png", "--hamer", "{clip.hamer}"], ["gone.png", "no such file"]),
        (["--smpl", "{bad}/cut.mp4"], ["cut.mp4", "expected"]),
        (["--smpl", "{bad}/text.mp4"], ["text.mp4: expected a video"]),
        (["--smpl", "{bad}/no_frames"], ["no_frames", "found none"]),
        (["--dwpose", "{bad}/empty.json"], ["empty.json", "empty list"]),
        (["--dwpose", "{bad}/evil.pkl"], ["evil.pkl"]),
        (["--ref", "{bad}/text.png", "--hamer", "{clip.hamer}"], ["text.png: expected a picture"]),
        (["--hamer", "{clip.hamer}", "--smpl", "{bad}/short.mp4"], ["6 in", "1 in", "--trim"]),
        (["--hamer", "{clip.hamer}", "--init-latents", "{bad}/evil.npy"], ["evil.npy", ".npy of"]),
        (["--hamer", "{clip.hamer}", "--init-latents", "{bad}/z.npy"], ["z.npy", "No such file"]),
        (["--hamer", "{clip.hamer}", "--dump-latents", "{bad}/z.txt"], ["z.txt", ".npy"]),
        (["--size", "100x64"], ["size", "multiples of 8", "100x64"]),
        (["--size", "24x64"], ["size", "at least 32", "24x64"]),
        (["--size", "64"], ["size", "HEIGHTxWIDTH", "'64'"]),
        (["--size", "64x-8"], ["size", "HEIGHTxWIDTH", "'64x-8'"]),
        (["--steps", "0"], ["steps: expected 1 to 1000", "0"]),
        (["--steps", "2000"], ["steps: expected 1 to 1000", "2000"]),
        (["--steps", "many"], ["--steps", "'many'"]),
        (["--guidance", "nan"], ["guidance: expected 0.0 to 100.0", "nan"]),
        (["--guidance", "-3"], ["guidance: expected 0.0 to 100.0", "-3"]),
        (["--solver", "euler"], ["--solver", "'euler'", "'ddim', 'dpm++', 'unipc'"]),
        (["--guidence", "3"], ["'--guidence'", "did you mean '--guidance'?"]),
        (["--root", "{bad}"], ["--root without --ref"]),
        (["stray"], ["unexpected argument 'stray'"]),
        (["--out", "{bad}/out.avi", "--hamer", "{clip.hamer}"], ["out.avi", "ending in .mp4"]),
        (["--out", "{bad}/text.png/out.mp4", "--hamer", "{clip.hamer}"], ["found the file"]),
        (["--out", "{clip.hamer}", "--hamer", "{clip.hamer}"], ["hamer.mp4", "found an input"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_files_and_options(refused, clip, words, parts):
    line = refused(*(word.replace("{clip.hamer}", str(clip.hamer)) for word in words))
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["--weight", "w", "--ref", "r", "--out", "o.mp4"], "did you mean '--weights'?"),
        (["--ref", "r", "--out", "o.mp4"], "required: --weights"),
        (["--weights", "w", "--out", "o.mp4"], "--ref PICTURE or --root FOLDER"),
        (["--weights", "w", "--root", "nowhere", "--out", "o"], "nowhere: expected a folder of"),
    ],
)
def test_what_must_be_there(command, given, missing):
    assert missing in command(*given).refusal


def tampered(weights: Path, target: Path, change) -> Path:
    shutil.copytree(weights, target)
    data = json.loads((target / "config.json").read_text())
    change(data)
    (target / "config.json").write_text(json.dumps(data))
    return target


def wider(data: dict) -> None:
    data["model"]["unet"]["widths"] = [8, 32]


def misspelt(data: dict) -> None:
    data["model"]["unet"]["width"] = data["model"]["unet"].pop("widths")


def without_vae(data: dict) -> None:
    del data["components"]["vae"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (wider, ["unet", "config.json", "expected", "32", "found", "16"]),
        (misspelt, ["config.json", "unknown key 'width'", "did you mean 'widths'?"]),
        (without_vae, ["expected the component vae", "--vae or --base"]),
    ],
)
def test_weights(command, weights, clip, tmp_path, change, parts):
    folder = tampered(weights, tmp_path / "weights", change)
    words = ("--ref", clip.reference, "--hamer", clip.hamer, "--out", tmp_path / "out.mp4")
    line = command("--weights", folder, *words).refusal
    for part in parts:
        assert part in line
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    gone = tmp_path / "gone"
    assert f"{gone}: expected a weights folder" in command("--weights", gone, *words).refusal


def test_latents_of_another_shape(command, monkeypatch, pipelines, weights, clip, tmp_path):
    monkeypatch.setattr(sample, "load", pipelines)
    np.save(tmp_path / "z.npy", np.zeros((1, 4, 3, 5, 8), np.float32))
    files = ("--weights", weights, "--ref", clip.reference, "--hamer", clip.hamer)
    given = ("--out", tmp_path / "out.mp4", "--init-latents", tmp_path / "z.npy")
    options = ("--size", "40x56", "--stride", 2)
    ended = command(*files, *given, *options)
    assert "expected shape (1, 4, 3, 5, 7), found (1, 4, 3, 5, 8)" in ended.refusal
    assert [path.name for path in tmp_path.iterdir()] == ["z.npy"]


def unread(folder, dtype):
    raise AssertionError("weights were read")


def test_windows_beyond_the_position_tables(command, monkeypatch, weights, clip, tmp_path):
    """The tiny model's motion modules know six positions; its config.json says so."""
    monkeypatch.setattr(sample, "load", unread)
    frames = tmp_path / "driver.mp4"
    with VideoWriter(frames, 24, (64, 48)) as writer:
        for _ in range(7):
            writer.write(np.zeros((64, 48, 3), np.uint8))
    files = ("--weights", weights, "--ref", clip.reference, "--hamer", frames)
    options = ("--out", tmp_path / "out.mp4", "--size", "40x56", "--stride", 1)
    line = command(*files, *options).refusal
    assert "window size: expected at most 6 frames" in line
    assert [path.name for path in tmp_path.iterdir()] == ["driver.mp4"]


def test_no_output_takes_the_place_of_an_input(refused, clip, tmp_path):
    """The folder of frames beside dance.mp4 is the driver itself; final latents go to an input."""
    driver = tmp_path / "dance_frames"
    driver.mkdir()
    for i, frame in enumerate(read_frames(clip.hamer)):
        save_png(driver / f"{i:06d}.png", frame)
    words = ("--hamer", driver, "--save-frames")
    assert "dance_frames: expected a folder to write, found an input" in refused(
        *words, out=tmp_path / "dance.mp4"
    )
    assert len(list(driver.iterdir())) == 6
    latents = tmp_path / "z_final.npy"
    np.save(latents, np.zeros((1, 4, 3, 5, 7), np.float32))
    given = ("--init-latents", latents, "--dump-latents", tmp_path / "z.npy")
    assert "z_final.npy: expected a file to write" in refused("--hamer", clip.hamer, *given)
    (tmp_path / "other_frames").mkdir()
    (tmp_path / "other_frames" / "thesis.tex").touch()
    words = ("--hamer", clip.hamer, "--save-frames")
    assert "found thesis.tex" in refused(*words, out=tmp_path / "other.mp4")


def test_as_a_program(clip, bad, tmp_path):
    """A malicious pickle in a process of its own: exit code 2, one line, nothing run."""
    words = ["--weights", "none", "--ref", clip.reference, "--dwpose", bad / "evil.pkl"]
    words += ["--out", tmp_path / "out.mp4"]
    ended = subprocess.run(
        [sys.executable, "-m", "realisdance_jax.sample", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert "evil.pkl" in ended.stderr
    assert not (bad / "ran").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_devices_that_cannot_be_shared_out(weights):
    assert "make 8 devices" in refusal(load, weights, devices_per_window=3)
    assert "expected at least 1" in refusal(load, weights, devices_per_window=0)
