"""What an animation becomes on disk, from made-up arrays."""

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from realisdance_jax.data.images import LABEL_HEIGHT, read_image
from realisdance_jax.data.video_io import probe_video, read_frames, read_metadata
from realisdance_jax.sampling.denoise import Timing
from realisdance_jax.sampling.output import (
    gate_map,
    load_latents,
    panels,
    save_latents,
    write_outputs,
    write_sheet,
)
from realisdance_jax.sampling.sampler import Animation
from realisdance_jax.utils.errors import UserError
from tests.refusals import refusal

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH, FRAMES = 32, 48, 5
SETTINGS = {"seed": 7, "steps": 3, "weights": "abcd"}


def animation(conditions: tuple[str, ...] = ("dwpose", "hamer", "smpl")) -> Animation:
    """Reference grey 10; condition k of frame i grey 40 + 40 k + i; result brightening with i."""
    shape = (FRAMES, HEIGHT, WIDTH)
    grey = 40 + 40 * np.arange(len(conditions)) + np.arange(FRAMES)[:, None]
    pictures = np.broadcast_to(
        np.repeat(grey, 3, axis=1)[:, None, None], (*shape, 3 * grey.shape[1])
    )
    level = np.linspace(0, 1, FRAMES, dtype=np.float32)[:, None, None, None]
    gates = np.zeros((FRAMES, 4, 6, len(conditions)), np.float32)
    gates[..., -1] = 0.999
    latents = np.random.default_rng(0).standard_normal((FRAMES, 4, 6, 4)).astype(np.float32)
    return Animation(
        video=np.broadcast_to(level, (*shape, 3)),
        reference=np.full((HEIGHT, WIDTH, 3), 10, np.uint8),
        pictures=pictures.astype(np.uint8),
        gates=gates,
        initial=latents,
        latents=2 * latents,
        timing=Timing(0.0, 0.0, (0.0,)),
        conditions=conditions,
        settings=SETTINGS,
        fps=7.5,
    )


def grey(pictures: list[np.ndarray]) -> list[int]:
    assert all(picture.shape == (HEIGHT, WIDTH, 3) for picture in pictures)
    assert all(np.ptp(picture) == 0 for picture in pictures)
    return [int(picture[0, 0, 0]) for picture in pictures]


def test_panels_are_reference_conditions_result():
    assert grey(panels(animation(), 0)) == [10, 40, 80, 120, 0]
    assert grey(panels(animation(), 4)) == [10, 44, 84, 124, 255]
    assert grey(panels(animation(("hamer",)), 2)) == [10, 42, 127]  # 127.5, truncated as released


def test_gates_go_from_dark_to_yellow():
    heat = gate_map(animation(), 0)
    assert heat.shape == (LABEL_HEIGHT + HEIGHT, 3 * WIDTH, 3)
    assert heat[:LABEL_HEIGHT].any()
    heat = heat[LABEL_HEIGHT:]
    ends = np.array([[0, 254]], np.uint8)
    dark, yellow = cv2.applyColorMap(ends, cv2.COLORMAP_VIRIDIS)[0, :, ::-1]
    assert (heat[:, : 2 * WIDTH] == dark).all()
    assert (heat[:, 2 * WIDTH :] == yellow).all()
    assert yellow[0] > 200 > 100 > yellow[2]


def test_everything_that_can_be_written(tmp_path):
    out = tmp_path / "new" / "a.b.mp4"
    paths = write_outputs(out, animation(), gates=True, frames=True)
    names = ["a.b.mp4", "a.b_side_by_side.mp4", "a.b_gates.mp4", "a.b_frames"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(names)
    for path, panels_across in zip(paths[:3], (1, 5, 3), strict=True):
        info = probe_video(path)
        height = HEIGHT + LABEL_HEIGHT * (path == paths[2])
        assert (info.height, info.width, info.frames) == (height, panels_across * WIDTH, FRAMES)
        assert info.fps == 7.5
        tags = read_metadata(path)
        assert (tags["realisdance_seed"], tags["realisdance_weights"]) == ("7", "abcd")
        assert json.loads(tags["realisdance_config"]) == SETTINGS
    levels = [0, 63, 127, 191, 255]
    frames = [read_image(paths[3] / f"{i:06d}.png") for i in range(FRAMES)]
    assert grey(frames) == levels
    assert len(list(paths[3].iterdir())) == FRAMES
    for frame, level in zip(read_frames(paths[1]), levels, strict=True):
        across = frame.reshape(HEIGHT, 5, WIDTH, 3).mean(axis=(0, 2, 3))
        np.testing.assert_allclose(across, [10, 40, 80, 120, level], atol=6)


def test_frames_replace_frames_only(tmp_path):
    folder = tmp_path / "a_frames"
    for _ in range(2):
        write_outputs(tmp_path / "a.mp4", animation(), side_by_side=False, frames=True)
        assert len(list(folder.iterdir())) == FRAMES
    (folder / "kept.png").touch()
    with pytest.raises(UserError, match=r"a_frames: expected .* found kept\.png"):
        write_outputs(tmp_path / "a.mp4", animation(), side_by_side=False, frames=True)
    assert len(list(folder.iterdir())) == FRAMES + 1


KILLED = """
import sys, time
from pathlib import Path
from realisdance_jax.sampling.output import write_outputs
from realisdance_jax.sampling.sampler import Animation
from realisdance_jax.utils.errors import exit_on_user_error
from tests.sampling.test_output import animation

picture, out = Animation.frame, Path(sys.argv[1])

def frame(self, i):
    if i == 3:
        print("writing", flush=True)
        time.sleep(60)
    return picture(self, i)

Animation.frame = frame
exit_on_user_error(lambda: write_outputs(out, animation()))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_writer_leaves_the_old_video(tmp_path, number):
    """Killed at the fourth frame; the next run leaves nothing else beside its outputs."""
    out = tmp_path / "a.mp4"
    write_outputs(out, animation(), side_by_side=False)
    before = out.read_bytes()
    line = [sys.executable, "-c", KILLED, str(out)]
    with subprocess.Popen(line, stdout=-1, stderr=-1, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "writing\n"
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(number)
        process.communicate(timeout=60)
    killed = number == signal.SIGKILL
    assert process.returncode == (-number if killed else 128 + number)
    assert len(list(tmp_path.iterdir())) == 1 + killed
    assert out.read_bytes() == before
    paths = write_outputs(out, animation(), frames=True)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert probe_video(out).frames == FRAMES


def test_only_what_was_asked_for(tmp_path):
    assert write_outputs(tmp_path / "a.mp4", animation(), side_by_side=False) == [
        tmp_path / "a.mp4"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_nothing_is_left_of_a_video_that_fails(tmp_path, monkeypatch):
    whole = animation()
    write_outputs(tmp_path / "a.mp4", whole, side_by_side=False)
    before = (tmp_path / "a.mp4").read_bytes()

    def fail(self, i):
        if i == 3:
            raise UserError("out of luck")
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    monkeypatch.setattr(Animation, "frame", fail)
    for kind in ({}, {"frames": True}):
        with pytest.raises(UserError, match="out of luck"):
            write_outputs(tmp_path / "a.mp4", whole, **kind)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before


@pytest.mark.parametrize(("rows", "shown"), [(1, [0]), (3, [0, 2, 4]), (50, [0, 1, 2, 3, 4])])
def test_contact_sheet(tmp_path, rows, shown):
    write_sheet(tmp_path / "sheet.png", animation(), rows)
    sheet = read_image(tmp_path / "sheet.png")
    assert sheet.shape == (LABEL_HEIGHT + HEIGHT * len(shown), 5 * WIDTH, 3)
    assert sheet[:LABEL_HEIGHT].max() > 200
    grid = sheet[LABEL_HEIGHT:].reshape(len(shown), HEIGHT, 5, WIDTH, 3)
    assert grid[:, 0, 1, 0, 0].tolist() == [40 + i for i in shown]


def test_latents_there_and_back_in_the_official_layout(tmp_path):
    given = animation()
    first, last = save_latents(tmp_path / "z.npy", given)
    assert last == tmp_path / "z_final.npy"
    official = np.load(first)
    assert official.shape == (1, 4, FRAMES, 4, 6)
    np.testing.assert_array_equal(official[0, 2, 1], given.initial[1, :, :, 2])
    np.testing.assert_array_equal(load_latents(first), given.initial)
    np.testing.assert_array_equal(load_latents(last), given.latents)


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_latents_that_are_none(tmp_path):
    path, trap = tmp_path / "z.npy", tmp_path / "trap"
    assert "z.npy: expected a .npy of numbers, found No such file" in refusal(load_latents, path)
    for content in (b"", b"text", pickle.dumps(Touch(trap)), b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        assert "z.npy: expected a .npy of numbers" in refusal(load_latents, path)
    np.save(path, np.array([Touch(trap)], object), allow_pickle=True)
    assert "expected a .npy of numbers" in refusal(load_latents, path)
    assert not trap.exists()
    np.savez(tmp_path / "z.npz", a=np.zeros(3))
    assert "expected a .npy of numbers" in refusal(load_latents, tmp_path / "z.npz")
    np.save(path, np.zeros((1, 4, 100, 8, 8), np.float32))
    path.write_bytes(path.read_bytes()[:-8])
    assert "expected a .npy of numbers" in refusal(load_latents, path)
    for array, found in (
        (np.zeros((4, 5, 8, 8)), "(4, 5, 8, 8)"),
        (np.zeros((2, 4, 5, 8, 8)), "(2, 4, 5, 8, 8)"),
        (np.zeros((1, 4, 0, 8, 8)), "(1, 4, 0, 8, 8)"),
        (np.zeros((1, 4, 2, 8, 8), np.int32), "int32"),
        (np.full((1, 4, 2, 8, 8), np.nan), "non-finite"),
        (np.full((1, 4, 2, 8, 8), 1e300), "non-finite"),
        (np.full((1, 4, 2, 8, 8), "1"), "<U1"),
    ):
        np.save(path, array)
        assert found in refusal(load_latents, path)


def test_a_shape_beyond_memory(tmp_path):
    path = tmp_path / "z.npy"
    np.save(path, np.zeros((1, 4, 10, 8, 8), np.float32))
    content = path.read_bytes()
    sizes = b"10, 8, 8), }"
    assert sizes + b" " * 12 in content
    huge = b"1" + b"0" * 12 + sizes[2:]
    path.write_bytes(content.replace(sizes + b" " * (len(huge) - len(sizes)), huge))
    assert path.stat().st_size == len(content)
    assert "z.npy: expected a .npy of numbers" in refusal(load_latents, path)
