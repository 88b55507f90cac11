"""The three conditions of one person, made by the command line, show the same place and pose."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.data.video_io import probe_video, read_frames, read_metadata
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.sampling.conditions import open_driver
from realisdance_jax.sampling.config import SampleConfig
from tests.preparing.person import HEAD, Framed, write_case

FRAMES = 12
DRIVER = Framed((384, 512), 170.0, (240.0, 150.0))
REFERENCE = Framed((400, 300), 140.0, (140.0, 130.0))
CANVAS = (384, 288)
TOLERANCE = 1.5  # pixels


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[Path, str]:
    """The folder that the command wrote, and what it said."""
    folder = tmp_path_factory.mktemp("case")
    files = write_case(folder / "in", DRIVER, REFERENCE, FRAMES)
    out = folder / "out"
    command = [sys.executable, "-m", "realisdance_jax.prepare", "poses", "--out", str(out)]
    command += ["--align", "similarity", "--report", str(out / "report.html")]
    for option, path in files.items():
        command += [f"--{option}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def centre(mask: np.ndarray) -> np.ndarray:
    """Column and row of the middle of a mask, in coordinates where pixels end at whole numbers."""
    rows, columns = np.nonzero(mask)
    assert len(rows) > 100
    return np.array([columns.mean(), rows.mean()]) + 0.5


def drawn(clip, frame: int, part: str) -> np.ndarray:
    """Pixels that the painter of keypoints gives to one part alone."""
    body, hands = np.zeros_like(clip.body_ok), np.zeros_like(clip.hands_ok)
    if part == "head":
        body[..., HEAD] = True
    else:
        hands[:, :, ("left", "right").index(part)] = True
    return draw_dwpose(replace(clip, body_ok=body, hands_ok=hands), frame).any(axis=-1)


CHANNEL = {"right": 0, "left": 1, "head": 2}


@pytest.mark.parametrize("part", ["left", "right", "head"])
def test_hands_and_head_are_at_one_place_in_all_conditions(case, part):
    out, _ = case
    clip = read_dwpose(out / "dwpose.json")
    bodies, hands = list(read_frames(out / "smpl.mp4")), list(read_frames(out / "hamer.mp4"))
    assert len(bodies) == len(hands) == clip.frames == FRAMES
    for frame in range(FRAMES):
        body, hand = bodies[frame].astype(int), hands[frame].astype(int)
        channel = CHANNEL[part]
        places = [centre(body[..., channel] > 128), centre(drawn(clip, frame, part))]
        if part != "head":
            mine = hand[..., channel] > hand[..., 1 - channel]
            places.append(centre(mine & (hand.max(axis=-1) > 90)))
        spread = np.ptp(np.array(places), axis=0)
        assert np.all(spread <= TOLERANCE), (frame, places)


def test_the_driver_starts_where_the_reference_stands(case):
    out, _ = case
    clip = read_dwpose(out / "dwpose.json")
    assert clip.size == CANVAS  # the shape of the reference at the scale of the driver
    zoom = CANVAS[0] / REFERENCE.size[0]
    pixels = clip.body[:12, 0] * np.array(CANVAS[::-1])
    target = np.array(REFERENCE.neck) * zoom
    np.testing.assert_allclose(np.median(pixels[:, 1], axis=0), target, atol=TOLERANCE)
    torso = np.linalg.norm(pixels[:, 1] - pixels[:, [8, 11]].mean(axis=1), axis=-1)
    assert 38 < torso.min() < torso.max() < 62  # it sways
    span = np.linalg.norm(pixels[:, 2] - pixels[:, 5], axis=-1)
    shoulders = 2 * 0.17 * REFERENCE.scale * zoom
    np.testing.assert_allclose(np.median(span), shoulders, rtol=0.03)


def test_sampling_takes_the_case_as_it_is(case):
    out, said = case
    driver = open_driver(
        out / "dwpose.json", out / "hamer.mp4", out / "smpl.mp4", SampleConfig(stride=1)
    )
    assert driver.present == ("dwpose", "hamer", "smpl")
    assert driver.size == CANVAS
    assert driver.fps == 10.0
    for name in ("hamer", "smpl"):
        info = probe_video(out / f"{name}.mp4")
        assert (info.height, info.width, info.fps, info.frames) == (*CANVAS, 10.0, FRAMES)
    assert read_metadata(out / "smpl.mp4")["realisdance_look"] == "sd"
    for name in ("dwpose.json", "hamer.mp4", "smpl.mp4", "alignment.png", "report.html"):
        assert f"wrote {out / name}" in said
    assert sorted(path.name for path in out.iterdir()) == [
        "alignment.png",
        "dwpose.json",
        "hamer.mp4",
        "report.html",
        "smpl.mp4",
    ]
