"""The rasteriser against pictures known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.poses import raster
from realisdance_jax.poses.meshes import border, face_normals, signed_volume, vertex_normals
from realisdance_jax.poses.raster import Camera, interpolate, rasterise, view_directions
from realisdance_jax.utils.errors import UserError
from tests.poses.solids import board, sphere

PLAIN = Camera((1.0, 1.0), (0.0, 0.0))
"""x / z and y / z are pixels."""


def mask_of(fragments, size) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask.flat[fragments.pixels] = True
    return mask


def facing(corners: np.ndarray) -> np.ndarray:
    """Faces of triangles (n 3 2) in the picture, each turned to the camera."""
    faces = np.arange(3 * len(corners)).reshape(-1, 3)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    away = first[:, 0] * second[:, 1] > first[:, 1] * second[:, 0]
    faces[away] = faces[away, ::-1]
    return faces


def inside(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre is strictly inside one triangle (3 2)."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    sides = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        sides.append((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]))
    return np.all(np.array(sides) > 0, axis=0) | np.all(np.array(sides) < 0, axis=0)


@given(
    st.lists(st.tuples(st.floats(-20, 60), st.floats(-20, 60)), min_size=3, max_size=3),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_a_triangle_covers_the_centres_inside(corners):
    corners = np.round(np.array(corners) * 256) / 256 + 1 / 1024  # on no centre, none on an edge
    vertices = np.concatenate([corners, np.ones((3, 1))], axis=1)
    fragments = rasterise(vertices, facing(corners[None]), PLAIN, (40, 40))
    snapped = np.round(corners * 256) / 256
    y, x = np.divmod(fragments.pixels, 40)
    strict = inside(snapped, (40, 40))
    assert np.count_nonzero(strict & ~mask_of(fragments, (40, 40))) == 0
    for a, b in zip(snapped, np.roll(snapped, -1, axis=0), strict=True):
        turn = (b[0] - a[0]) * (y + 0.5 - a[1]) - (b[1] - a[1]) * (x + 0.5 - a[0])
        assert np.all(turn >= 0) or np.all(turn <= 0)


def test_depth_and_weights_are_those_of_the_plane():
    vertices = np.array([[-1.0, -0.8, 2.0], [1.2, -0.5, 3.5], [0.1, 1.1, 5.0]])
    camera = Camera((300.0, 280.0), (101.0, 97.0))
    faces = np.array([[0, 2, 1]])
    fragments = rasterise(vertices, faces, camera, (200, 200))
    normal = face_normals(vertices, faces)[0]
    view = -view_directions(fragments, camera, (200, 200))
    distance = (vertices[0] @ normal) / (view @ normal)
    assert len(fragments.pixels) > 3000
    np.testing.assert_allclose(fragments.depth, distance * view[:, 2], rtol=1e-3)  # 1/256 pixel
    np.testing.assert_allclose(fragments.weights.sum(axis=1), 1)
    points = interpolate(vertices, faces, fragments)
    np.testing.assert_allclose(points, distance[:, None] * view, atol=5e-3)
    np.testing.assert_allclose(points[:, 2], fragments.depth, rtol=1e-9)


@pytest.mark.parametrize("size", [(256, 256), (300, 500)])
def test_a_sphere_covers_its_outline(size):
    vertices, faces = sphere(60)
    camera = Camera((600.0, 600.0), (size[1] / 2 + 0.3, size[0] / 2 - 0.4))
    fragments = rasterise(vertices + np.array([0, 0, 6.0]), faces, camera, size)
    area = np.pi * 600**2 / (6.0**2 - 1)
    assert abs(len(fragments.pixels) / area - 1) < 0.005
    towards = np.einsum(
        "ki,ki->k",
        face_normals(vertices, faces)[fragments.faces],
        view_directions(fragments, camera, size),
    )
    assert towards.min() > 0
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * np.pi, rel=0.005)


def test_faces_seen_from_behind_are_not_drawn():
    vertices, faces = board(2.0)
    camera = Camera((20.0, 20.0), (16.0, 16.0))
    assert len(rasterise(vertices, faces, camera, (32, 32)).pixels) == 20 * 20
    assert len(rasterise(vertices, faces[:, ::-1], camera, (32, 32)).pixels) == 0


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4, 256]))
@settings(derandomize=True, max_examples=25, deadline=None)
def test_neighbours_share_no_pixel_and_leave_none_out(seed, grain):
    """A fan around a point, with corners on and between pixel centres."""
    random = np.random.default_rng(seed)
    hub = random.integers(4 * grain, 12 * grain, 2) / grain
    turns = 2 * np.pi * (np.arange(7) + random.uniform(0, 0.8, 7)) / 7
    rim = 8 + np.round(grain * 14 * np.stack([np.cos(turns), np.sin(turns)], -1)) / grain
    corners = np.stack([np.broadcast_to(hub, rim.shape), rim, np.roll(rim, -1, axis=0)], axis=1)
    counts = np.zeros((16, 16), int)
    for triangle in corners:
        vertices = np.concatenate([triangle, np.ones((3, 1))], axis=1)
        counts += mask_of(rasterise(vertices, facing(triangle[None]), PLAIN, (16, 16)), (16, 16))
    assert counts.max() <= 1
    assert np.all(counts[4:12, 4:12] == 1)


def test_the_nearer_face_wins_and_the_earlier_of_equals():
    far, near = board(3.0, half=3.0), board(2.0, half=0.5)
    vertices = np.concatenate([far[0], near[0]])
    camera = Camera((32.0, 32.0), (32.0, 32.0))
    for order in ((far[1], near[1] + 4), (near[1] + 4, far[1])):
        faces = np.concatenate(order)
        fragments = rasterise(vertices, faces, camera, (64, 64))
        depth = np.zeros((64, 64))
        depth.flat[fragments.pixels] = fragments.depth
        assert np.all(depth[24:40, 24:40] == pytest.approx(2.0))
        assert np.isclose(depth, 3.0).sum() == 64 * 64 - 16 * 16
    twice = np.concatenate([far[1], far[1]])
    assert rasterise(far[0], twice, camera, (64, 64)).faces.max() == 1


def test_crossing_faces_are_cut_where_they_cross():
    vertices = np.array(
        [
            *([-1, -1, 1.5], [1, -1, 2.5], [1, 1, 2.5], [-1, 1, 1.5]),
            *([-1, -1, 2.5], [1, -1, 1.5], [1, 1, 1.5], [-1, 1, 2.5]),
        ]
    )
    faces = np.array([[0, 2, 1], [0, 3, 2], [4, 6, 5], [4, 7, 6]])
    fragments = rasterise(vertices, faces, Camera((40.0, 40.0), (32.0, 32.0)), (64, 64))
    left = fragments.pixels % 64 < 32
    assert set(fragments.faces[left]) == {0, 1}
    assert set(fragments.faces[~left]) == {2, 3}


@pytest.mark.parametrize("bad", [0.01, -1.0, np.nan, np.inf])
def test_what_is_behind_the_camera_or_broken_is_left_out(bad):
    vertices, faces = board(2.0)
    vertices[2, 2] = bad
    fragments = rasterise(vertices, faces, Camera((20.0, 20.0), (16.0, 16.0)), (32, 32))
    assert np.all(np.isfinite(fragments.depth))
    assert len(fragments.pixels) == 0  # both faces have that corner
    beyond = board(200.0, half=90.0)
    assert len(rasterise(*beyond, Camera((20.0, 20.0), (16.0, 16.0)), (32, 32)).pixels) == 0


def test_an_empty_mesh_covers_nothing():
    nothing = rasterise(np.zeros((0, 3)), np.zeros((0, 3), np.int64), PLAIN, (8, 8))
    assert nothing.weights.shape == (0, 3)
    assert len(nothing.pixels) == len(nothing.faces) == len(nothing.depth) == 0


def test_memory_bounds_change_nothing(monkeypatch):
    vertices, faces = sphere(12)
    vertices = vertices + np.array([0.2, 0, 3.0])
    call = (vertices, faces, Camera((60.0, 60.0), (32.0, 32.0)), (64, 64))
    whole = rasterise(*call)
    monkeypatch.setattr(raster, "_CHUNK", 50)
    pieces = rasterise(*call)
    for name in ("pixels", "faces", "weights", "depth"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name))


@pytest.mark.parametrize("weighting", ["angle", "area"])
def test_vertex_normals_of_a_sphere_point_outwards(weighting):
    vertices, faces = sphere(24)
    normals = vertex_normals(vertices, faces, weighting)
    assert np.einsum("vi,vi->v", normals, vertices).min() > 0.99


def test_weightings_differ_as_they_should():
    """A cube's corner: one side cut in two triangles counts once by angle, not by number."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    squares = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in squares for t in ((a, b, c), (a, c, d))])
    outwards = (corners - 0.5) / np.sqrt(0.75)
    assert signed_volume(corners, faces) == pytest.approx(1)
    np.testing.assert_allclose(vertex_normals(corners, faces, "angle"), outwards, atol=1e-9)
    skewed = np.linalg.norm(vertex_normals(corners, faces, "area") - outwards, axis=1)
    assert skewed.max() > 0.1


def test_borders_run_as_a_lid_would():
    vertices, faces = sphere(6)
    assert border(faces) == []
    touching = np.any(faces == 0, axis=1)
    (loop,) = border(faces[~touching])
    assert len(loop) == 12
    lid = np.array([[0, a, b] for a, b in zip(loop, np.roll(loop, -1), strict=True)])
    closed = np.concatenate([faces[~touching], lid])
    assert signed_volume(vertices, closed) == pytest.approx(signed_volume(vertices, faces))
    with pytest.raises(UserError, match="two at one vertex"):
        border(np.array([[0, 1, 2], [0, 3, 4]]))


@pytest.mark.parametrize("bad", [{"near": 0.0}, {"near": 5.0, "far": 1.0}, {"focal": (0.0, 1.0)}])
def test_impossible_cameras_are_refused(bad):
    with pytest.raises(ValueError, match="expected 0 < near < far"):
        Camera(**({"focal": (1.0, 1.0), "centre": (0.0, 0.0)} | bad))
