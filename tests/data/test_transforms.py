"""The official crop box and resize, to the pixel and to 3e-6."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from realisdance_jax.data.transforms import (
    crop_box,
    crop_resize,
    dino_size,
    imagenet_normalise,
    to_signed,
)

with np.load(Path(__file__).parents[1] / "golden" / "preprocess.npz") as archive:
    OFFICIAL = {name: archive[name] for name in archive.files}
SHAPES = sorted({name.split(".")[0] for name in OFFICIAL})
SIDES = st.integers(1, 3000)


@pytest.mark.parametrize("kind", ["sample", "clip"])
@pytest.mark.parametrize("shape", SHAPES)
def test_official_box_and_resize(shape, kind):
    picture = OFFICIAL[f"{shape}.input"]
    wanted = OFFICIAL[f"{shape}.{kind}.out"].transpose(1, 2, 0)
    size = wanted.shape[:2]
    box = crop_box(*picture.shape[:2], size[1] / size[0])
    assert box == tuple(OFFICIAL[f"{shape}.{kind}.box"])
    for image in (picture, picture.astype(np.float32) / np.float32(255)):
        got = crop_resize(image, size)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-6)


def test_crop_of_known_frames():
    assert crop_box(1080, 1920, 0.75) == (0, 555, 1080, 810)
    assert crop_box(1920, 1080, 0.75) == (240, 0, 1440, 1080)
    assert crop_box(768, 576, 0.75) == (0, 0, 768, 576)
    assert crop_box(769, 576, 0.75) == (0, 0, 769, 576)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(height=SIDES, width=SIDES, ratio=st.sampled_from([0.75, 1.0, 9 / 16, 16 / 9, 4 / 3]))
def test_box_is_inside_centred_as_large_as_possible_and_of_the_ratio(height, width, ratio):
    top, left, box_height, box_width = crop_box(height, width, ratio)
    assert top >= 0
    assert left >= 0
    assert min(box_height, box_width) >= 1
    assert 0 <= height - box_height - 2 * top <= 1
    assert 0 <= width - box_width - 2 * left <= 1
    assert box_height == height or box_width == width
    # Within about a pixel of the ratio, along whichever side was cut or left whole.
    off = min(abs(box_width - box_height * ratio), abs(box_height - box_width / ratio))
    assert off <= 1.5
    if (box_height, box_width) == (height, width):
        assert (top, left) == (0, 0)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 99),
)
def test_resize_agrees_with_pillow_at_any_size(shape, size, seed):
    picture = np.random.default_rng(seed).random(shape, np.float32)
    got = crop_resize(picture, size)
    assert got.shape == (*size, shape[2])
    top, left, height, width = crop_box(*shape[:2], size[1] / size[0])
    for channel in range(shape[2]):
        plane = Image.fromarray(picture[top : top + height, left : left + width, channel].copy())
        wanted = plane.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(got[..., channel], np.asarray(wanted), rtol=0, atol=1e-6)


def test_uint8_is_divided_exactly_and_bounds_hold():
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    wanted = picture.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(crop_resize(picture, (16, 16)), wanted)
    white = crop_resize(np.full((1080, 1920, 3), 255, np.uint8), (768, 576))
    assert abs(white - 1).max() < 1e-6
    assert white.flags.c_contiguous


def test_a_given_ratio_overrides_that_of_the_size():
    picture = np.zeros((30, 30, 1), np.float32)
    picture[:, :15] = 1
    whole = crop_resize(picture, (30, 10), ratio=1.0)
    assert (whole[:, 0], whole[:, -1]) == (pytest.approx(1), pytest.approx(0))


def test_normalisers():
    image = np.array([[[0.0, 0.5, 1.0]]], np.float32)
    assert to_signed(image).tolist() == [[[-1, 0, 1]]]
    assert to_signed(image).dtype == np.float32
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = [(v - m) / s for v, m, s in zip((0, 0.5, 1), mean, deviation, strict=True)]
    got = imagenet_normalise(image)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0, 0], wanted, rtol=1e-6)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(height=st.integers(64, 2048), width=st.integers(64, 2048))
def test_dino_size_keeps_area_and_ratio(height, width):
    got = dino_size((height, width))
    assert abs(got[0] - math.sqrt(76800 * height / width)) <= 0.5
    assert abs(got[1] - math.sqrt(76800 * width / height)) <= 0.5


def test_dino_size_of_four_to_three_is_official():
    for height, width in ((768, 576), (512, 384), (1024, 768), (64, 48), (4, 3)):
        assert dino_size((height, width)) == (320, 240)
    assert dino_size((512, 512)) == (277, 277)
