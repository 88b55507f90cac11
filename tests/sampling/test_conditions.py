"""Driver files: what is used, at which rate and size, and what is refused."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.data.demo_clip import DemoFiles, write_demo_clip
from realisdance_jax.data.images import save_png
from realisdance_jax.data.transforms import crop_resize
from realisdance_jax.data.video_io import VideoWriter, read_frames
from realisdance_jax.models.config import CONDITIONS
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.readers import read_dwpose
from realisdance_jax.sampling.conditions import open_driver, stacked_conditions
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.utils.errors import UserError
from tests.refusals import refusal

EACH = SampleConfig(stride=1)
SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(CONDITIONS, n)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> DemoFiles:
    """Nine frames of 64 x 48 pixels at 12 fps."""
    return write_demo_clip(tmp_path_factory.mktemp("clip"), 9, 64, 48, fps=12)


def video(path: Path, frames: int, size=(32, 64), fps: float = 30) -> Path:
    """Frame k is grey level 20 k."""
    with VideoWriter(path, fps, size) as writer:
        for k in range(frames):
            writer.write(np.full((*size, 3), 20 * k, np.uint8))
    return path


def stack(driver, names=CONDITIONS, size=(32, 24)) -> np.ndarray:
    return np.stack(list(stacked_conditions(driver, names, size)))


@pytest.mark.parametrize("chosen", SUBSETS, ids="+".join)
def test_any_subset(clip, chosen):
    """Each condition keeps its place; an absent one is black and is told."""
    files = {name: getattr(clip, name) if name in chosen else None for name in CONDITIONS}
    driver = open_driver(**files, config=EACH)
    assert driver.present == chosen
    stacked = stack(driver)
    assert stacked.shape == (9, 32, 24, 9)
    assert stacked.dtype == np.float32
    assert 0 <= stacked.min() <= stacked.max() <= 1
    notes = " ".join(driver.notes(CONDITIONS))
    for k, name in enumerate(CONDITIONS):
        part = stacked[..., 3 * k : 3 * k + 3]
        assert bool(part.any()) == (name in chosen)
        assert (f"{name}: not given, black frames instead" in notes) == (name not in chosen)


def test_pictures_are_those_of_the_files(clip):
    driver = open_driver(clip.dwpose, clip.hamer, clip.smpl, SampleConfig(stride=4))
    assert driver.indices == (0, 4, 8)
    keypoints = read_dwpose(clip.dwpose)
    sources = [
        [draw_dwpose(keypoints, i, (64, 48)) for i in driver.indices],
        list(read_frames(clip.hamer, driver.indices)),
        list(read_frames(clip.smpl, driver.indices)),
    ]
    wanted = [
        np.concatenate([crop_resize(picture, (48, 48)) for picture in pictures], axis=-1)
        for pictures in zip(*sources, strict=True)
    ]
    np.testing.assert_array_equal(stack(driver, size=(48, 48)), np.stack(wanted))


def test_a_model_with_other_conditions(clip):
    driver = open_driver(None, clip.hamer, None, EACH)
    assert stack(driver, ("hamer",)).shape[-1] == 3
    np.testing.assert_array_equal(stack(driver, ("smpl", "hamer"))[..., :3], 0)
    with pytest.raises(UserError, match=r"hamer: expected conditions .* know \(dwpose, smpl\)"):
        stacked_conditions(driver, ("dwpose", "smpl"), (32, 24))


@pytest.mark.parametrize(
    ("stride", "most", "indices"),
    [(1, 80, range(9)), (4, 80, (0, 4, 8)), (4, 2, (0, 4)), (9, 80, (0,)), (100, 80, (0,))],
)
def test_stride_and_maximum(clip, stride, most, indices):
    config = SampleConfig(stride=stride, max_frames=most)
    assert open_driver(clip.dwpose, None, None, config).indices == tuple(indices)


def test_rate_is_that_of_the_driver_by_the_stride(clip, tmp_path):
    three = SampleConfig(stride=3)
    assert open_driver(clip.dwpose, clip.hamer, None, three).fps == 4
    assert open_driver(None, None, clip.smpl, SampleConfig(stride=3, fps=7.5)).fps == 7.5
    driver = open_driver(clip.dwpose, None, None, three)
    assert driver.fps == 8
    assert any("frame rate: 8 fps" in line for line in driver.notes(CONDITIONS))
    pictures = tmp_path / "pictures"
    for k in range(9):
        save_png(pictures / f"{k}.png", np.zeros((32, 32, 3), np.uint8))
    assert open_driver(pictures, clip.hamer, None, three).fps == 4
    slow = video(tmp_path / "slow.mp4", 3, fps=1)
    message = refusal(open_driver, None, slow, None, SampleConfig(stride=1000))
    assert "found 0.001" in message
    assert "--fps" in message
    assert open_driver(None, slow, None, SampleConfig(stride=1000, fps=8.0)).fps == 8


def test_keypoints_are_drawn_at_the_size_of_the_hamer_video(clip, tmp_path):
    hamer, smpl = video(tmp_path / "h.mp4", 9, (80, 40)), video(tmp_path / "s.mp4", 9, (90, 60))
    assert open_driver(clip.dwpose, hamer, smpl, EACH).size == (80, 40)
    assert open_driver(clip.dwpose, None, smpl, EACH).size == (90, 60)
    driver = open_driver(clip.dwpose, None, None, EACH)
    assert driver.size == (64, 48)
    assert next(driver.frames("dwpose")).shape == (64, 48, 3)
    drawn = open_driver(smpl, None, None, EACH)
    assert drawn.size == (90, 60)
    assert next(drawn.frames("dwpose")).shape == (90, 60, 3)


def test_keypoints_without_any_size(clip, tmp_path):
    frames = json.loads(clip.dwpose.read_text())
    bare = [{key: frame[key] for key in ("bodies", "hands")} for frame in frames]
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(bare))
    assert "bare.json: expected H and W" in refusal(open_driver, path, None, None, EACH)
    assert open_driver(path, clip.hamer, None, EACH).size == (64, 48)


def test_unequal_counts_name_the_files_unless_trimmed(clip, tmp_path):
    short = video(tmp_path / "short.mp4", 4)
    message = refusal(open_driver, clip.dwpose, short, clip.smpl, EACH)
    for part in ("9 in ", "dwpose.json", "4 in ", "short.mp4", "smpl.mp4", "--trim", "first 4"):
        assert part in message
    driver = open_driver(clip.dwpose, short, clip.smpl, EACH, trim=True)
    assert driver.indices == (0, 1, 2, 3)
    grey = stack(driver)[..., 3:6].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(grey, np.arange(4) * 20 / 255, atol=0.01)


def test_folder_of_json_files(clip, tmp_path):
    for k, frame in enumerate(json.loads(clip.dwpose.read_text())):
        (tmp_path / f"{k}.json").write_text(json.dumps(frame))
    folder, file = (open_driver(path, None, None, EACH) for path in (tmp_path, clip.dwpose))
    np.testing.assert_array_equal(stack(folder), stack(file))


def test_bad_files(tmp_path, clip):
    assert "at least one of --dwpose, --hamer, --smpl" in refusal(
        open_driver, None, None, None, EACH
    )
    assert "gone.mp4: expected a video file" in refusal(
        open_driver, None, tmp_path / "gone.mp4", None, EACH
    )
    assert "gone.pkl" in refusal(open_driver, tmp_path / "gone.pkl", clip.hamer, None, EACH)
    (tmp_path / "empty.json").write_text("[]")
    assert "empty.json: expected DWPose frames" in refusal(
        open_driver, tmp_path / "empty.json", None, None, EACH
    )
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    assert "text.mp4: expected a video" in refusal(open_driver, None, None, text, EACH)
    whole = clip.smpl.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 4 // 5])
    assert "cut.mp4" in refusal(open_driver, None, None, cut, EACH)
