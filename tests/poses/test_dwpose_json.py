"""Keypoints written as the official JSON are read back as they were."""

import json
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.dwpose_json import write_dwpose
from realisdance_jax.poses.readers import read_dwpose


def random_clip(seed: int, frames: int, persons: int, scores: bool) -> KeypointClip:
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in (("body", (18,)), ("hands", (2, 21)), ("faces", (68,))):
        ok = rng.random((frames, persons, *shape)) > 0.3
        ok[rng.random((frames, persons)) < 0.3] = False
        values[f"{name}_ok"] = ok
        values[name] = np.where(ok[..., None], rng.uniform(-0.5, 1.5, (*ok.shape, 2)), 0.0)
        if scores:
            values[f"{name}_score"] = rng.random(ok.shape)
    return KeypointClip(**values, size=(48, 64))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_there_and_back(tmp_path_factory, seed, frames, persons, scores):
    clip = random_clip(seed, frames, persons, scores)
    path = tmp_path_factory.mktemp("json") / "clip.json"
    write_dwpose(path, clip)
    again = read_dwpose(path)
    assert again.size == clip.size
    assert again.frames == frames
    kept = again.persons
    assert kept <= persons
    for name in ("body", "hands", "faces"):
        ok = getattr(clip, f"{name}_ok")
        assert not ok[:, kept:].any()
        np.testing.assert_array_equal(getattr(again, f"{name}_ok"), ok[:, :kept])
        np.testing.assert_array_equal(getattr(again, name), getattr(clip, name)[:, :kept])
    for frame in range(frames):
        np.testing.assert_array_equal(draw_dwpose(again, frame), draw_dwpose(clip, frame))


def test_the_frame_rate_goes_along(tmp_path):
    clip = random_clip(3, 2, 1, scores=False)
    write_dwpose(tmp_path / "clip.json", replace(clip, fps=29.97))
    assert read_dwpose(tmp_path / "clip.json").fps == 29.97
    assert read_dwpose(tmp_path / "clip.json", fps=12.0).fps == 29.97
    assert isinstance(json.loads((tmp_path / "clip.json").read_text()), list)
    write_dwpose(tmp_path / "clip.json", clip)
    assert read_dwpose(tmp_path / "clip.json").fps is None
    assert read_dwpose(tmp_path / "clip.json", fps=12.0).fps == 12


def test_the_layout_is_the_official_one(tmp_path):
    clip = random_clip(3, 1, 2, scores=True)
    write_dwpose(tmp_path / "clip.json", clip)
    (frame,) = json.loads((tmp_path / "clip.json").read_text())
    assert set(frame) == {"bodies", "hands", "faces", "hands_score", "faces_score", "H", "W"}
    count = len(frame["bodies"]["subset"])
    assert np.shape(frame["bodies"]["candidate"]) == (18 * count, 2)
    assert np.shape(frame["hands"]) == (2 * count, 21, 2)
    hidden = ~clip.hands_ok[0, :count].swapaxes(0, 1).reshape(2 * count, 21)
    assert np.all(np.array(frame["hands"])[hidden] == -1)
