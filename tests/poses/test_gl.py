"""What can be said of the OpenGL painter without OpenGL; check_gl.py compares pictures by hand."""

import re
import sys
import types

import numpy as np
import pytest

from realisdance_jax.poses import gl, shading
from realisdance_jax.poses.hamer_look import paint_hands
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import paint_smpl_cs
from realisdance_jax.utils.errors import UserError
from tests.poses.solids import board

CAMERA, SIZE = Camera((100.0, 110.0), (31.3, 24.9), near=0.5, far=50.0), (48, 64)


@pytest.fixture(autouse=True)
def fresh_boards():
    gl._board.cache_clear()
    yield
    gl._board.cache_clear()


def paint():
    vertices, faces = board(4.0)
    colours = np.zeros((4, 3), np.uint8)
    return paint_smpl_cs(vertices, faces, colours, CAMERA, SIZE, "sd", gl.fill)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(UserError, match=r"expected the package moderngl \(pip install") as caught:
        paint()
    assert "\n" not in str(caught.value)


def test_without_a_driver_it_says_so(monkeypatch):
    def fail(**_):
        raise RuntimeError("(standalone) eglInitialize\nfailed")

    fake = types.SimpleNamespace(create_context=fail)
    monkeypatch.setitem(sys.modules, "moderngl", fake)
    with pytest.raises(UserError, match="expected an EGL driver for 64 x 48 pixels") as caught:
        paint()
    assert "eglInitialize failed" in str(caught.value)


def test_no_hand_needs_no_driver():
    none = np.zeros((0, 4, 3)), np.zeros(0, bool), np.array([[0, 1, 2]])
    assert not paint_hands(*none, CAMERA, SIZE, gl.fill).any()


def test_corners_are_where_the_rasteriser_rounds_them():
    rng = np.random.default_rng(0)
    vertices = rng.normal(0, 0.5, (60, 3)) + np.array([0, 0, 3])
    vertices[5, 2], vertices[6, 2], vertices[7, 2] = 0.4, 60.0, np.nan
    faces = np.arange(60).reshape(20, 3)
    places, drawn = gl._clip_places(vertices, CAMERA, SIZE, faces)
    assert drawn.tolist() == [k not in (1, 2) for k in range(20)]
    kept = np.setdiff1d(np.arange(60), [5, 6, 7])
    ndc = places[kept, :3] / places[kept, 3:]
    pixels = np.stack([(ndc[:, 0] + 1) / 2 * 64, (ndc[:, 1] + 1) / 2 * 48], axis=-1)
    x, y, z = vertices[kept].T
    exact = np.stack([100 * x / z + 31.3, 110 * y / z + 24.9], axis=-1)
    np.testing.assert_allclose(pixels, np.rint(exact * 256) / 256, atol=1e-9)
    assert np.array_equal(np.argsort(ndc[:, 2]), np.argsort(z))  # nearer is in front
    assert np.all(np.abs(ndc[:, 2]) < 0.91)
    ratio = places[kept, 3] / z  # perspective: w is proportional to depth
    np.testing.assert_allclose(ratio, ratio[0])


def test_the_shader_has_the_numbers_of_the_looks():
    text = gl._fragment_shader()
    assert not re.findall(r"\b[A-Z][A-Z0-9_]*\b(?!_)", text.replace("gl_FragCoord", ""))
    assert text.count("vec3(") >= 5
    for number in (shading.SD_INTENSITY, shading.DIT_SPECULAR, shading.SHADOWING, shading.ALPHA2):
        assert str(number) in text
