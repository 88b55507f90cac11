"""L1, PSNR and SSIM against scikit-image's numbers, and what DisCo's scripts made of them."""

import numpy as np
import pytest

from realisdance_jax.metrics.pixels import disco_l1, l1, psnr, psnr_uint8_overflow
from realisdance_jax.metrics.ssim import ssim
from tests.golden_files import GOLDEN


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "metric_pixels.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def pair(golden):
    return golden["generated"], golden["truth"]


def test_psnr_is_scikit_image(golden, pair):
    np.testing.assert_allclose(psnr(*pair), golden["psnr"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("grey", [True, False])
def test_ssim_is_scikit_image(golden, pair, grey):
    expected = golden["ssim_grey" if grey else "ssim_colour"]
    np.testing.assert_allclose(ssim(*pair, grey=grey), expected, rtol=0, atol=1e-5)


def test_masked_ssim_is_the_map_of_scikit_image_inside_the_mask(golden, pair):
    mask = np.zeros((1, 37, 45), bool)
    mask[0, 10:25, 8:30] = True
    expected = golden["map_grey"][mask[0]].mean()
    a, b = (x[2:3] for x in pair)
    np.testing.assert_allclose(ssim(a, b, mask), [expected], rtol=0, atol=1e-5)


def test_masked_metrics_are_those_of_the_part_cut_out(pair):
    mask = np.zeros((6, 37, 45), bool)
    mask[:, 3:20, 5:30] = True
    cut = [x[:, 3:20, 5:30] for x in pair]
    np.testing.assert_allclose(psnr(*pair, mask), psnr(*cut), rtol=1e-12)
    np.testing.assert_allclose(l1(*pair, mask), l1(*cut), rtol=1e-12)


def test_whole_mask_changes_nothing(pair):
    mask = np.ones((6, 37, 45), bool)
    for metric in (l1, psnr, ssim):
        np.testing.assert_allclose(metric(*pair, mask), metric(*pair), rtol=1e-12)


@pytest.mark.parametrize("metric", [l1, psnr, ssim])
def test_a_frame_without_the_region_is_not_measured(pair, metric):
    mask = np.ones((6, 37, 45), bool)
    mask[1] = False
    np.testing.assert_array_equal(np.isnan(metric(*pair, mask)), np.arange(6) == 1)


def test_identical_frames(pair):
    _, truth = pair
    assert np.isposinf(psnr(truth, truth)).all()
    assert (psnr(truth, truth, identical=100.0) == 100).all()
    np.testing.assert_allclose(ssim(truth, truth), 1, atol=1e-12)
    assert (l1(truth, truth) == 0).all()


def test_disco_divides_its_l1_by_the_pixels_once_more():
    a, b = np.full((2, 8, 10, 3), 7, np.uint8), np.full((2, 8, 10, 3), 3, np.uint8)
    np.testing.assert_allclose(l1(a, b), 4)
    np.testing.assert_allclose(disco_l1(a, b), 4 / 80)


def test_overflowing_psnr_is_kept_apart():
    """16 squared is 0 modulo 256, and so is the difference of 200 and 184: no error at all."""
    a, b = np.full((1, 8, 8, 3), 184, np.uint8), np.full((1, 8, 8, 3), 200, np.uint8)
    assert psnr_uint8_overflow(a, b) == [100.0]
    np.testing.assert_allclose(psnr(a, b), 10 * np.log10(255**2 / 256))
    a = np.full((1, 8, 8, 3), 187, np.uint8)  # -13 squared is 169
    np.testing.assert_allclose(psnr_uint8_overflow(a, b), 10 * np.log10(255**2 / 169))


def test_frames_smaller_than_a_window_are_refused():
    small = np.zeros((1, 6, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 7 pixels"):
        ssim(small, small)
