"""The body and hand conditions, painted from synthetic models."""

import numpy as np
import pytest

from realisdance_jax.poses.body_models import mano_model, smplx_model
from realisdance_jax.poses.hamer_look import (
    close_wrist,
    full_frame_camera,
    full_frame_translation,
    mirrored,
    paint_hands,
)
from realisdance_jax.poses.harmonic import harmonic
from realisdance_jax.poses.landmarks import LANDMARKS, SCALE, landmark_vertices
from realisdance_jax.poses.lbs import make_skin, skin
from realisdance_jax.poses.meshes import border, signed_volume, vertex_normals
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.shading import shade
from realisdance_jax.poses.smpl_cs import (
    harmonic_colours,
    jet,
    paint_smpl_cs,
    read_vertex_colours,
)
from realisdance_jax.poses.synthetic_models import synthetic_mano, synthetic_smplx
from realisdance_jax.utils.errors import UserError
from tests.poses.solids import board, sphere

SIZE = (96, 80)
COUNT = 2500
BODY = smplx_model(synthetic_smplx(COUNT))
COLOURS = harmonic_colours(BODY.template, BODY.faces, landmark_vertices(COUNT))
STANDING = BODY.template * np.float32([1, -1, -1]) + np.float32([0, -0.45, 3])
CAMERA = Camera((130.0, 130.0), (40.0, 48.0))
HAND = mano_model(synthetic_mano())
LID = close_wrist(HAND.faces)


def at(picture: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The pixel on which a point in camera axes falls."""
    x, y = CAMERA.focal[0] * point[:2] / point[2] + CAMERA.centre
    return picture[int(y), int(x)].astype(int)


def hand_in_view(turn, place) -> np.ndarray:
    """A relaxed right hand, turned, at `place` in camera axes."""
    pose = HAND.pose_mean.copy()
    pose[0] = turn
    vertices, _ = skin(
        make_skin(HAND), np.zeros((1, 10), np.float32), pose[None], np.float32([place])
    )
    return np.asarray(vertices[0], np.float64)


@pytest.mark.parametrize("look", ["sd", "dit"])
def test_the_person_is_drawn_in_colours_that_tell_sides_apart(look):
    picture = paint_smpl_cs(STANDING, BODY.faces, COLOURS, CAMERA, SIZE, look)
    joints = (BODY.joint_regressor @ BODY.template) * [1, -1, -1] + [0, -0.45, 3]
    covered = np.any(picture > 0, axis=-1)
    assert 0.05 < covered.mean() < 0.3
    right_ankle, left_ankle = at(picture, joints[8]), at(picture, joints[7])
    right_wrist, left_wrist = at(picture, joints[21]), at(picture, joints[20])
    assert right_wrist[0] > right_wrist[2] + 50  # red
    assert left_wrist[1] > left_wrist[0]  # green
    assert left_ankle[2] > left_ankle[0] + 50  # blue
    assert right_ankle[1] > left_ankle[1] + 50  # light blue


def test_the_looks_differ_as_measured():
    bright = paint_smpl_cs(STANDING, BODY.faces, COLOURS, CAMERA, SIZE, "sd")
    pastel = paint_smpl_cs(STANDING, BODY.faces, COLOURS, CAMERA, SIZE, "dit")
    covered = np.any(pastel > 0, axis=-1)
    np.testing.assert_array_equal(covered, np.any(bright > 0, axis=-1))
    assert pastel[covered].min() == 51
    assert pastel.max() <= 229
    assert bright.max() == 255
    assert bright[covered].min() == 0
    assert np.all(pastel[~covered] == 0)


def test_a_board_that_faces_the_camera_has_the_computed_colour():
    vertices, faces = board(40.0, half=10.0)  # far off: seen frontally everywhere
    colours = np.tile(np.uint8([255, 128, 0]), (4, 1))
    camera = Camera((160.0, 160.0), (40.0, 48.0))
    sd = paint_smpl_cs(vertices, faces, colours, camera, SIZE, "sd")[48, 40]
    dit = paint_smpl_cs(vertices, faces, colours, camera, SIZE, "dit")[48, 40]
    assert sd.tolist() == [255, round(255 * (1.0984 * 128 / 255) ** (1 / 2.2)), 0]
    assert dit.tolist() == [229, int(255 * (0.7 * 128 / 255 + 0.2)), 51]


def test_flat_and_smooth_shading():
    vertices, faces = sphere(8)
    grey = np.full((len(vertices), 3), 100, np.uint8)
    camera = Camera((150.0, 150.0), (40.0, 48.0))
    vertices = vertices + np.array([0, 0, 5.0])
    flat = paint_smpl_cs(vertices, faces, grey, camera, SIZE, "sd")
    smooth = paint_smpl_cs(vertices, faces, grey, camera, SIZE, "dit")
    assert len(np.unique(smooth)) > 2 * len(np.unique(flat)) / 1.5
    steps = np.abs(np.diff(smooth[48, 15:65, 0].astype(int)))
    assert steps.max() <= 4
    assert np.abs(np.diff(flat[48, 15:65, 0].astype(int))).max() >= 8


def test_hands_weight_normals_by_angle_and_the_dit_look_by_area():
    """A tip towards the camera between four sides of equal angle, two of them longer."""
    rim = 0.3 * np.array([[3.0, 0, 3], [0, 1, 1], [-1, 0, 1], [0, -1, 1]])
    vertices = np.concatenate([[[0, 0, 0]], rim]) + np.array([0.0, 0, 40])
    faces = np.array([[0, 1 + (k + 1) % 4, 1 + k] for k in range(4)])
    camera = Camera((4000.0, 4000.0), (40.5, 48.5), far=1e3)
    white = np.full((5, 3), 255, np.uint8)
    dit = paint_smpl_cs(vertices, faces, white, camera, SIZE, "dit")[48, 40, 0]
    hand = paint_hands(vertices[None], np.array([True]), faces, camera, SIZE)[48, 40, 1]
    by_angle = vertex_normals(vertices, faces, "angle")[0]
    by_area = vertex_normals(vertices, faces, "area")[0]
    frontal = np.array([[0, 0, -1.0]])
    np.testing.assert_allclose(by_angle, frontal[0], atol=1e-9)
    assert dit == int(255 * (0.4 + 0.3 * -by_area[2] + 0.2))
    assert dit < 225
    assert hand == shade("hamer", np.full((1, 3), 0.5), frontal, frontal)[0, 0]
    assert hand > shade("hamer", np.full((1, 3), 0.5), by_area[None], frontal)[0, 0] + 3


def test_landmarks_have_the_official_values_and_the_rest_lies_between():
    numbers = landmark_vertices(COUNT)
    official = jet(SCALE.astype(np.uint8))
    np.testing.assert_array_equal(COLOURS[numbers], official)
    values = harmonic(BODY.template, BODY.faces, numbers, SCALE)
    assert values.min() == SCALE.min()
    assert values.max() == SCALE.max()
    neighbours = [set() for _ in range(COUNT)]
    for a, b, c in BODY.faces.tolist():
        neighbours[a] |= {b, c}
        neighbours[b] |= {a, c}
        neighbours[c] |= {a, b}
    free = sorted(set(range(COUNT)) - set(numbers.tolist()))
    means = [values[sorted(neighbours[vertex])].mean() for vertex in free]
    np.testing.assert_allclose(values[free], means, atol=1e-3)


def test_parts_without_landmarks_take_the_nearest_value():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [6, 0, 0], [5, 1, 0.0]])
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    values = harmonic(vertices, faces, np.array([0, 1]), np.array([10.0, 30.0]))
    np.testing.assert_allclose(values, [10, 30, 20, 30, 30, 30], atol=1e-6)


def test_a_mesh_without_the_landmarks_is_refused():
    with pytest.raises(
        UserError, match="expected 19 landmarks below 2500 vertices, found 19 up to"
    ):
        harmonic_colours(BODY.template, BODY.faces)


def test_jet_is_rgb_from_blue_to_red():
    ends = jet(np.uint8([0, 128, 255])).astype(int)
    assert ends[0].tolist() == [0, 0, 128]
    assert ends[2].tolist() == [128, 0, 0]
    assert ends[1].argmax() == 1


def test_colour_files_in_every_form(tmp_path):
    np.save(tmp_path / "a.npy", COLOURS)
    np.savez(tmp_path / "a.npz", colours=COLOURS.astype(np.int64))
    (tmp_path / "a.pt").write_bytes(b"PK")
    for path in (tmp_path / "a.npy", tmp_path / "a.npz"):
        np.testing.assert_array_equal(read_vertex_colours(path, COUNT), COLOURS)
    asked = []
    read = lambda path: (asked.append(path), COLOURS)[1]  # noqa: E731
    np.testing.assert_array_equal(read_vertex_colours(tmp_path / "a.pt", COUNT, read), COLOURS)
    assert asked == [tmp_path / "a.pt"]


BAD_COLOURS = {
    "count": COLOURS[:-1],
    "range": COLOURS.astype(np.int64) + 200,
    "float": COLOURS / 255,
    "objects": np.array([{}], dtype=object),
}


@pytest.mark.parametrize("colours", BAD_COLOURS.values(), ids=BAD_COLOURS)
def test_bad_colours_are_refused(tmp_path, colours):
    np.save(tmp_path / "bad.npy", colours)
    with pytest.raises(UserError, match=r"bad.npy: expected colours, 2500 x 3 whole numbers"):
        read_vertex_colours(tmp_path / "bad.npy", COUNT)


def test_colour_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"nonsense")
    np.savez(tmp_path / "two.npz", a=COLOURS, b=COLOURS)
    for name in ("a.pt", "two.npz"):
        with pytest.raises(UserError, match=f"{name}: expected colours"):
            read_vertex_colours(tmp_path / name, COUNT)
    with pytest.raises(UserError, match=r"expected colours, .*found dict"):
        read_vertex_colours(tmp_path / "a.pt", COUNT, lambda path: {})


def test_hands_have_the_measured_ratio_of_channels():
    ratios = []
    for turn in ([1.2, 0.2, 0.1], [0.3, 0.9, 0.2], [2.2, -0.5, 0.4]):
        right = hand_in_view(turn, [0.13, 0, 10])
        left = mirrored(hand_in_view(turn, [0.13, 0, 10]))
        picture = paint_hands(
            np.stack([left, right]),
            np.array([False, True]),
            LID,
            full_frame_camera((256, 256)),
            (256, 256),
        ).astype(float)
        covered = picture[picture.max(axis=-1) > 0]
        assert len(covered) > 1000
        main = covered.max(axis=1)
        other = (covered.sum(axis=1) - main) / 2
        ratios.append(np.median(other / main))
        assert 140 < main.min() < main.max() <= 255
        np.testing.assert_array_equal(covered.min(axis=1), other)  # the two others are equal
        sides = picture[:, :128], picture[:, 128:]
        assert sides[0][..., 1].sum() > sides[0][..., 0].sum() > 0  # left: green
        assert sides[1][..., 0].sum() > sides[1][..., 1].sum() > 0
    np.testing.assert_allclose(ratios, 0.73, atol=0.01)


def test_a_mirrored_hand_is_the_mirrored_picture():
    turn, camera = [1.2, 0.2, 0.1], full_frame_camera((128, 128))
    right = hand_in_view(turn, [0, 0, 10])
    assert signed_volume(right, LID) > 0
    assert signed_volume(mirrored(right), LID) < 0
    assert signed_volume(mirrored(right), LID[:, ::-1]) > 0
    one = paint_hands(right[None], np.array([True]), LID, camera, (128, 128))
    other = paint_hands(mirrored(right)[None], np.array([False]), LID, camera, (128, 128))
    mask, twin = one[..., 0] > 0, other[:, ::-1, 1] > 0
    assert np.count_nonzero(mask != twin) <= 0.01 * np.count_nonzero(mask)  # edges on centres
    # the ring of lights is symmetric up and down, not left and right: values differ a little
    assert np.abs(one[..., 0].astype(int) - other[:, ::-1, 1])[mask & twin].mean() < 4


def test_the_nearer_hand_hides_the_farther():
    turn, camera = [1.2, 0.2, 0.1], full_frame_camera((128, 128))
    near, far = hand_in_view(turn, [0, 0, 9]), hand_in_view(turn, [0, 0, 10])
    for order in ([near, far], [far, near]):
        right = np.array([order[0] is near, order[1] is near])
        picture = paint_hands(np.stack(order), right, LID, camera, (128, 128)).astype(int)
        covered = picture.max(axis=-1) > 0
        assert np.mean(picture[covered][:, 0] > picture[covered][:, 1]) > 0.9


def test_no_hand_is_black():
    none = np.zeros((0, 778, 3))
    picture = paint_hands(none, np.zeros(0, bool), LID, full_frame_camera(SIZE), SIZE)
    assert picture.shape == (*SIZE, 3)
    assert not picture.any()


def test_the_lid_on_the_wrist_closes_the_hand():
    assert len(border(HAND.faces)) == 1
    assert border(LID) == []
    (loop,) = border(HAND.faces)
    assert len(LID) == len(HAND.faces) + len(loop) - 2
    with pytest.raises(UserError, match="expected one hole, at the wrist, found 0"):
        close_wrist(LID)


OFFICIAL_LID = (
    *((92, 38, 234), (234, 38, 239), (38, 122, 239), (239, 122, 279), (122, 118, 279)),
    *((279, 118, 215), (118, 117, 215), (215, 117, 214), (117, 119, 214), (214, 119, 121)),
    *((119, 120, 121), (121, 120, 78), (120, 108, 78), (78, 108, 79)),
)


def test_the_lid_of_the_licensed_hand_is_the_official_one():
    """A cone over the official lid's rim stands for the licensed mesh."""
    lid = np.array(OFFICIAL_LID)
    (rim,) = border(lid)  # a mesh around the lid has its edges the other way
    cone = np.array([[777, b, a] for a, b in zip(rim, np.roll(rim, -1), strict=True)])
    cone = cone[:, [0, 2, 1]]
    closed = close_wrist(cone)
    assert [tuple(face) for face in closed[len(cone) :].tolist()] == list(OFFICIAL_LID)


def test_hands_are_put_back_where_their_boxes_are():
    size, focal = (480, 640), full_frame_camera((480, 640)).focal[0]
    assert focal == 5000 / 256 * 640
    assert full_frame_camera((1080, 1920)).focal[0] == 37500
    crop = np.array([[0.9, 0.0, 0.0], [1.1, 0.02, -0.01]])
    centre, boxes = np.array([[100.0, 300.0], [500.0, 90.0]]), np.array([120.0, 80.0])
    camera = full_frame_camera(size)
    places = full_frame_translation(crop, centre, boxes, size, focal)
    pixels = focal * places[:, :2] / places[:, 2:] + camera.centre
    shift = crop[:, 1:] * (boxes * crop[:, 0] / 2)[:, None]
    np.testing.assert_allclose(pixels, centre + shift, atol=1e-5)
    np.testing.assert_allclose(focal / places[:, 2], boxes * crop[:, 0] / 2, rtol=1e-6)


def test_names_of_landmarks_are_in_place():
    places = dict(zip(LANDMARKS, BODY.template[landmark_vertices(COUNT)], strict=True))
    for name, place in places.items():
        if name != "nose":
            assert (place[0] > 0.05) == name.startswith("left")
            assert (place[0] < -0.05) == name.startswith("right")
        assert (place[1] < -1.2) == name.endswith(("toe", "heel"))
    assert places["nose"][2] > 0.1
    assert np.ptp([places[f"left_{finger}"][0] for finger in ("index", "thumb")]) > 0.05
