"""One draw for all pictures of an example: in register to the pixel."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.data.augment import Augmentation, apply_augmentation, draw_augmentation
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.samples import Streams, make_sample
from realisdance_jax.data.transforms import crop_resize
from tests.data.folders import RampClip

SOURCE, TARGET = (96, 128), (40, 32)
RANDOM = DataConfig(
    frames=3, stride=1, size=TARGET, crop_scale=(0.2, 0.9), crop_ratio=(0.6, 1.2), flip=0.5
)
SAME = {"dwpose": 1, "hamer": 1, "smpl": 1}


def sample(config: DataConfig, position: int, scales=SAME) -> dict:
    return make_sample(RampClip(SOURCE, 5, scales), config, Streams(0, position))


@pytest.mark.parametrize("position", range(12))
def test_poses_and_reference_are_cropped_exactly_as_the_film(position):
    config = dataclasses.replace(RANDOM, start=0, reference="first")
    got = sample(config, position)
    film = (got["video"] + 1) / 2
    np.testing.assert_allclose(got["conditions"], np.concatenate([film] * 3, -1), atol=2e-7)
    np.testing.assert_array_equal(got["reference"], got["video"][0])


def test_draws_differ_between_positions_and_repeat_for_one():
    boxes = {sample(RANDOM, position)["draw_hash"].item() for position in range(20)}
    assert len(boxes) == 20
    again = sample(RANDOM, 7)
    for key, value in sample(RANDOM, 7).items():
        np.testing.assert_array_equal(value, again[key])


@pytest.mark.parametrize("position", range(8))
def test_half_size_poses_stay_in_register_to_rounding(position):
    got = sample(RANDOM, position, {"dwpose": 1, "hamer": 2, "smpl": 4})
    inside = 255 * got["conditions"][:, 4:-4, 4:-4]
    exact, half, quarter = (inside[..., 3 * k : 3 * k + 2] for k in range(3))
    # Values are source columns and rows, rounded. An edge of the box is off by half a small
    # pixel at most.
    assert np.abs(half - exact).max() <= 1 + 0.6
    assert np.abs(quarter - exact).max() <= 2 + 0.6


def test_pixels_are_those_of_the_box():
    picture = next(RampClip(SOURCE, 1, SAME).film([0]))
    drawn = Augmentation(area=0.25, ratio=0.75, top=0.5, left=1.0, flip=False)
    top, left, height, width = drawn.box(*SOURCE)
    assert (height, width) == (64, 48)
    assert (top, left) == (16, 80)
    part = picture[16:80, 80:128]
    whole = apply_augmentation(picture, drawn, (64, 48))
    np.testing.assert_array_equal(whole, part.astype(np.float32) / np.float32(255))
    mirrored = apply_augmentation(picture, dataclasses.replace(drawn, flip=True), (64, 48))
    np.testing.assert_array_equal(mirrored, whole[:, ::-1])


def test_the_default_is_the_official_crop():
    config = DataConfig(size=TARGET)
    drawn = draw_augmentation(config, np.random.default_rng(0), *SOURCE)
    assert drawn == Augmentation()
    picture = next(RampClip(SOURCE, 1, SAME).film([0]))
    np.testing.assert_array_equal(
        apply_augmentation(picture, drawn, TARGET), crop_resize(picture, TARGET)
    )


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted),
    st.integers(0, 1000),
)
def test_boxes_lie_inside_and_have_the_share_asked_for(size, scale, seed):
    config = DataConfig(size=TARGET, crop_scale=tuple(scale), crop_ratio=(0.5, 2.0))
    drawn = draw_augmentation(config, np.random.default_rng(seed), *size)
    if drawn.area is None:  # no box fitted
        return
    top, left, height, width = drawn.box(*size)
    assert top >= 0
    assert left >= 0
    assert top + height <= size[0]
    assert left + width <= size[1]
    assert scale[0] <= drawn.area <= scale[1]
    assert abs((height * width) ** 0.5 - (drawn.area * size[0] * size[1]) ** 0.5) <= 1.5
    assert 0.5 <= drawn.ratio <= 2.0


def test_flips_come_as_often_as_asked():
    config = DataConfig(size=TARGET, flip=0.25)
    rng = np.random.default_rng(0)
    flips = sum(draw_augmentation(config, rng, *SOURCE).flip for _ in range(2000))
    assert 430 <= flips <= 570
