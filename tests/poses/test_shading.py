"""The three looks on single points: figures measured on the original renderers."""

import numpy as np
import pytest

from realisdance_jax.poses.shading import (
    HAMER_LIGHTS,
    HEADLIGHT,
    dit_light,
    hamer_light,
    sd_light,
    shade,
)

TABLE = {1.0: 1.098, 0.8: 0.911, 0.6: 0.776, 0.4: 0.652, 0.2: 0.530, 0.05: 0.434}
"""Light of the `sd` look by the cosine between the normal and the direction to the camera."""


def tilted(cosine, azimuth=0.3) -> np.ndarray:
    """(1 3) a normal at that cosine from the direction to the camera."""
    sine = np.sqrt(1 - cosine**2)
    return np.array([[sine * np.cos(azimuth), sine * np.sin(azimuth), -cosine]])


CAMERA = np.array([HEADLIGHT])


@pytest.mark.parametrize(("cosine", "expected"), TABLE.items())
@pytest.mark.parametrize("azimuth", [0.0, 2.0])
def test_sd_light_is_the_measured_one(cosine, expected, azimuth):
    assert sd_light(tilted(cosine, azimuth), CAMERA)[0] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("cosine", TABLE)
def test_sd_pixels_are_brightened_by_gamma(cosine):
    colour = np.array([[1.0, 0.5, 0.0]])
    pixel = shade("sd", colour, tilted(cosine), CAMERA)[0]
    expected = 255 * np.minimum(TABLE[cosine] * colour[0], 1) ** (1 / 2.2)
    assert np.abs(pixel - expected).max() <= 1.2
    assert pixel[2] == 0


@pytest.mark.parametrize("cosine", [1.0, 0.5, 0.1, -0.2])
def test_dit_light_is_linear_and_pastel(cosine):
    colour = np.array([[1.0, 0.25, 0.0]])
    pixel = shade("dit", colour, tilted(cosine), CAMERA)[0]
    expected = 255 * (colour[0] * (0.4 + 0.3 * max(cosine, 0)) + 0.2)
    assert np.abs(pixel - np.floor(expected + 1e-6)).max() == 0
    assert pixel[2] == 51
    np.testing.assert_allclose(dit_light(colour, tilted(1.0)), [[0.9, 0.375, 0.2]])


def test_full_brightness_of_the_dit_look():
    assert shade("dit", np.ones((1, 3)), tilted(1.0), CAMERA).tolist() == [[229] * 3]


def test_the_hand_lights_are_one_headlight_and_three_at_thirty_degrees():
    lights = np.array(HAMER_LIGHTS)
    np.testing.assert_allclose(np.linalg.norm(lights, axis=1), 1)
    np.testing.assert_allclose(lights @ HEADLIGHT, [1, *[np.sqrt(0.75)] * 3])
    np.testing.assert_allclose(lights[1:].sum(axis=0)[:2], 0, atol=1e-12)
    np.testing.assert_allclose(lights[1:, 0], [0.5, -0.25, -0.25])
    assert lights[2, 1] < 0 < lights[3, 1]  # y points down; the second light is above


def test_hand_light_is_the_sum_of_its_lights():
    normal = tilted(0.7, 1.1)
    headlight = (sd_light(normal, CAMERA)[0] - 0.4) / 3
    assert hamer_light(normal, CAMERA)[0] > 0.3 + headlight
    facing = hamer_light(tilted(1.0), CAMERA)[0]
    around = [hamer_light(tilted(0.7, azimuth), CAMERA)[0] for azimuth in (0.0, 2.1, 4.2)]
    assert facing > max(around)
    np.testing.assert_allclose(around, around[0], rtol=0.002)  # three-fold symmetry


def test_hand_colours_keep_their_ratio_below_saturation():
    colour = np.array([[1.0, 0.5, 0.5]])
    for cosine in (0.7, 0.5, 0.2):
        pixel = shade("hamer", colour, tilted(cosine), CAMERA)[0].astype(float)
        assert pixel[0] < 255
        assert pixel[1] / pixel[0] == pytest.approx(0.73, abs=0.005)
