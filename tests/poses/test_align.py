"""Alignment finds the similarity that there is, and moves everything alike."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.poses.align import (
    FIRST_FRAMES,
    Similarity,
    Torso,
    body_torso,
    compared,
    match_torsos,
    move_body,
    move_camera,
    move_keypoints,
    too_different,
    whole_frame,
)
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.limbs import LIMBS, follow_wrists, limb_ratios, retarget
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.warp import warp_picture
from realisdance_jax.utils.errors import UserError

SIZE = (400, 600)
TORSO = np.array([[300.0, 100], [260, 105], [340, 105], [270, 210], [330, 210]])
# fmt: off
POSE = np.array([[300, 70], [300, 100], [260, 105], [230, 150], [225, 200], [340, 105], [370, 150],
                 [375, 200], [270, 210], [268, 280], [265, 350], [330, 210], [332, 280], [335, 350],
                 [292, 62], [308, 62], [284, 66], [316, 66.0]])
# fmt: on


def clip_of(poses: np.ndarray, size=SIZE) -> KeypointClip:
    """Persons of one slot, all visible; hands fan out below the wrists, faces around the nose."""
    f = len(poses)
    fan = np.stack([np.linspace(-8, 8, 21), np.linspace(0, 16, 21)], axis=-1)
    hands = np.stack([poses[:, 7, None] + fan, poses[:, 4, None] + fan], axis=1)
    faces = poses[:, 0, None] + np.stack([np.linspace(-6, 6, 68), np.zeros(68)], axis=-1)
    unit = np.array(size[::-1])
    return KeypointClip(
        body=(poses / unit)[:, None],
        body_ok=np.ones((f, 1, 18), bool),
        hands=(hands / unit)[:, None],
        hands_ok=np.ones((f, 1, 2, 21), bool),
        faces=(faces / unit)[:, None],
        faces_ok=np.ones((f, 1, 68), bool),
        size=size,
    )


def moving(points: np.ndarray, frames: int, seed: int = 0) -> np.ndarray:
    """Points that stay about where they are, then walk away."""
    walk = np.maximum(np.arange(frames) - FIRST_FRAMES, 0)[:, None, None] * np.array([30.0, 5])
    return points + np.random.default_rng(seed).normal(0, 0.4, (frames, *points.shape)) + walk


SCALES = st.floats(0.2, 5)
SHIFTS = st.tuples(st.floats(-500, 500), st.floats(-500, 500))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SCALES, SHIFTS, st.sets(st.integers(0, 4), max_size=3), st.integers(0, 4), st.booleans())
def test_the_similarity_is_found_again(scale, shift, hidden, wrong, early):
    """With joints hidden in the reference, and in some frames a joint far off or nothing seen."""
    true = Similarity(scale, shift)
    driver, ok = moving(TORSO, 20), np.ones((20, 5), bool)
    driver[1:4, wrong] += 200
    if early:
        ok[:5] = False
        driver[:5] = 0
    target_ok = np.array([joint not in hidden for joint in range(5)])
    found = match_torsos(
        Torso(driver, ok), Torso(true.apply(TORSO)[None], target_ok[None].astype(bool))
    )
    assert found.scale == pytest.approx(scale, rel=0.03)
    centre = TORSO.mean(axis=0)
    if not early:
        np.testing.assert_allclose(found.apply(centre), true.apply(centre), atol=4 * scale)


def test_what_shares_no_two_joints_is_refused():
    one = np.zeros((1, 5), bool)
    one[0, :2] = True
    other = ~one
    for a, b in ((one, other), (np.zeros((1, 5), bool), other), (one[:, ::-1], one)):
        with pytest.raises(UserError, match=r"^driver: expected neck, shoulders or hips") as caught:
            match_torsos(Torso(TORSO[None], a), Torso(TORSO[None], b))
        assert "\n" not in str(caught.value)
    same = np.tile(TORSO[:1], (1, 5, 1)).reshape(1, 5, 2)
    with pytest.raises(UserError, match="found none to align by"):  # no length to measure
        match_torsos(Torso(same, np.ones((1, 5), bool)), Torso(TORSO[None], np.ones((1, 5), bool)))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SCALES, SHIFTS, SCALES, SHIFTS)
def test_similarities_follow_each_other(s1, t1, s2, t2):
    first, second = Similarity(s1, t1), Similarity(s2, t2)
    expected = second.apply(first.apply(TORSO))
    np.testing.assert_allclose(first.then(second).apply(TORSO), expected, atol=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SCALES, SHIFTS, st.integers(0, 99))
def test_keypoints_and_both_cameras_move_alike(scale, shift, seed):
    """Points in space, seen by the moved camera, are where their moved pixels are."""
    similarity, canvas = Similarity(scale, shift), (480, 360)
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 0.3, (18, 3)) + np.array([0, 0, 3])
    focal, centre = np.array([500.0, 510.0]), np.array([290.0, 205.0])
    pixels = focal * points[:, :2] / points[:, 2:] + centre
    wanted = similarity.apply(pixels)
    moved = move_keypoints(clip_of(pixels[None]), similarity, SIZE, canvas)
    seen = moved.body_ok[0, 0]
    np.testing.assert_allclose((moved.body[0, 0] * canvas[::-1])[seen], wanted[seen], atol=1e-6)
    assert np.array_equal(seen, np.all(np.abs(wanted) <= 15.0 * np.array(canvas[::-1]), axis=-1))
    camera = move_camera(Camera((500.0, 510.0), (290.0, 205.0)), similarity)
    again = np.array(camera.focal) * points[:, :2] / points[:, 2:] + np.array(camera.centre)
    np.testing.assert_allclose(again, wanted, atol=1e-6)
    body = move_body(body_clip(focal, centre), similarity, canvas)
    again = body.focal[0] * points[:, :2] / points[:, 2:] + body.princpt[0]
    np.testing.assert_allclose(again, wanted, atol=1e-6)
    assert not body.focal[1].any()  # an absent frame stays zero
    assert body.size == moved.size == canvas


def body_clip(focal: np.ndarray, centre: np.ndarray) -> BodyClip:
    """A body in frame 0, none in frame 1."""
    shapes = {"body_pose": (21, 3), "left_hand_pose": (15, 3), "right_hand_pose": (15, 3)}
    shapes |= {"betas": (10,), "expression": (10,)}
    names = ("global_orient", "jaw_pose", "leye_pose", "reye_pose", "transl")
    arrays = {name: np.zeros((2, 3)) for name in names}
    arrays |= {name: np.zeros((2, *shape)) for name, shape in shapes.items()}
    here = np.array([True, False])
    return BodyClip(
        present=here, focal=focal * here[:, None], princpt=centre * here[:, None],
        add_hands_mean=True, **arrays,
    )  # fmt: skip


def test_hidden_points_stay_hidden_and_zero():
    clip = clip_of(POSE[None])
    ok = clip.hands_ok.copy()
    ok[..., 3:9] = False
    moved = move_keypoints(replace(clip, hands_ok=ok), Similarity(2.0, (9.0, 9.0)), SIZE, SIZE)
    assert np.array_equal(moved.hands_ok, ok)
    assert not moved.hands[~ok].any()


def test_whole_frames_fit_in_the_middle():
    assert whole_frame(SIZE, SIZE) == Similarity(1.0, (0.0, 0.0))
    fit = whole_frame((100, 200), (400, 300))
    corners = fit.apply(np.array([[0.0, 0], [200, 100]]))
    np.testing.assert_allclose(corners, [[0, 125], [300, 275]])


def test_a_body_shows_its_torso():
    joints = np.tile([0.0, 0.0, 2.0], (2, 55, 1))
    joints[:, 16, 0], joints[:, 17, 0], joints[1, 12, 2] = 0.2, -0.2, -1.0
    torso = body_torso(
        joints, np.array([True, True]), np.full((2, 2), 100.0), np.tile([50.0, 40], (2, 1))
    )
    np.testing.assert_allclose(torso.points[0], [[50, 40], [40, 40], [60, 40], [50, 40], [50, 40]])
    assert torso.ok.tolist() == [[True] * 5, [False, True, True, True, True]]


def test_torsos_are_compared_in_words():
    assert "torso is 3.00 times smaller than the reference's" in compared(3.0)
    assert "4.00 times larger" in compared(0.25)
    assert [too_different(ratio) for ratio in (0.49, 0.51, 1.9, 2.1)] == [True, False, False, True]


def test_limbs_take_the_lengths_of_the_reference():
    """Arms longer by half and legs shorter, whatever the similarity is."""
    target = POSE.copy()
    target[[3, 6]] = POSE[[2, 5]] + 1.5 * (POSE[[3, 6]] - POSE[[2, 5]])
    target[[4, 7]] = target[[3, 6]] + (POSE[[4, 7]] - POSE[[3, 6]])
    target[[9, 12]] = POSE[[8, 11]] + 0.8 * (POSE[[9, 12]] - POSE[[8, 11]])
    target[[10, 13]] = target[[9, 12]] + (POSE[[10, 13]] - POSE[[9, 12]])
    scaled = Similarity(0.5, (20.0, 30.0))
    driver, reference = clip_of(np.stack([POSE] * 3)), clip_of(scaled.apply(target)[None], SIZE)
    ratios = limb_ratios(driver, reference, (SIZE, SIZE), 0.5)
    expected = {name: 1.0 for name in (*LIMBS, "hands")}
    expected |= {"upper arms": 1.5, "upper legs": 0.8, "hands": 2.0}  # the fan was not scaled
    assert ratios == pytest.approx(expected)
    moved = move_keypoints(driver, scaled, SIZE, SIZE)
    result = retarget(moved, ratios, SIZE)
    pixels = result.body[0, 0] * np.array(SIZE[::-1])
    wanted = scaled.apply(target)
    np.testing.assert_allclose(pixels, wanted, atol=1e-6)
    hands = result.hands[0, 0] * np.array(SIZE[::-1])
    np.testing.assert_allclose(hands[1, 10], pixels[4] + [0, 8.0], atol=1e-6)  # hung on the wrist
    spread = np.ptp(hands[0], axis=0)
    np.testing.assert_allclose(spread, [16, 16], atol=1e-6)  # half by scale, twice by ratio


def test_hidden_joints_carry_what_hangs_on_them():
    clip = clip_of(POSE[None])
    ok = clip.body_ok.copy()
    ok[0, 0, 3] = False  # right elbow
    hidden = replace(clip, body_ok=ok, body=np.where(ok[..., None], clip.body, 0.0))
    ratios = dict.fromkeys((*LIMBS, "hands"), 1.0) | {"shoulders": 1.5}
    result = retarget(hidden, ratios, SIZE)
    moved = (result.body - clip.body)[0, 0] * np.array(SIZE[::-1])
    np.testing.assert_allclose(moved[4], 0.5 * (POSE[2] - POSE[1]), atol=1e-9)
    np.testing.assert_allclose(moved[[1, 8, 10]], 0, atol=1e-9)
    shown = np.where(np.arange(18) == 1, False, clip.body_ok)
    no_neck = replace(clip, body_ok=shown, body=np.where(shown[..., None], clip.body, 0.0))
    np.testing.assert_allclose(retarget(no_neck, ratios, SIZE).body, no_neck.body, atol=1e-12)


def test_hidden_or_foreshortened_limbs_keep_their_length():
    clip = clip_of(POSE[None])
    none = replace(clip, body_ok=np.zeros_like(clip.body_ok), hands_ok=np.zeros_like(clip.hands_ok))
    assert set(limb_ratios(clip, none, (SIZE, SIZE), 1.0).values()) == {1.0}
    far = clip_of(POSE[None])
    near = far.body.copy()
    near[:, :, [3, 6]] = near[:, :, [2, 5]] + 0.01  # arms towards the camera
    assert limb_ratios(far, replace(far, body=near), (SIZE, SIZE), 1.0)["upper arms"] == 0.5


def test_hands_follow_their_wrists():
    before = clip_of(np.stack([POSE] * 2))
    body = before.body.copy()
    body[:, 0, 4] += np.array([0.05, -0.1])
    after = replace(before, body=body)
    camera = Camera((9000.0, 9000.0), (300.0, 200.0))
    wrists = POSE[[7, 4]]
    depth = 90.0
    place = np.concatenate([(wrists - 300 + [[0, 100]]) * depth / 9000, np.full((2, 1), depth)], 1)
    hands = HandClip(
        present=np.array([[True, True], [True, False]]),
        right=np.array([[False, True], [False, False]]),
        vertices=np.zeros((2, 2, 4, 3)),
        translation=np.stack([place, place * [[1], [0]]]),
    )
    moved = follow_wrists(hands, camera, before, after, SIZE, 1.25)
    pixels = 9000 * moved.translation[..., :2] / moved.translation[..., 2:].clip(1e-9) + [300, 200]
    np.testing.assert_allclose(pixels[0, 0], wrists[0], atol=1e-6)
    np.testing.assert_allclose(pixels[0, 1], wrists[1] + [30, -40], atol=1e-6)
    np.testing.assert_allclose(moved.translation[0, :, 2], depth / 1.25)
    assert not moved.translation[1, 1].any()


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_pictures_move_with_the_similarity(scale):
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[30:50, 40:70] = 200
    similarity = Similarity(scale, (11.25, -3.5))
    moved = warp_picture(picture, similarity, (260, 320)).astype(float)[..., 0]
    rows, columns = np.mgrid[:260, :320] + 0.5
    centre = np.array([(columns * moved).sum(), (rows * moved).sum()]) / moved.sum()
    np.testing.assert_allclose(centre, similarity.apply(np.array([55.0, 40.0])), atol=0.15)
    assert moved.sum() == pytest.approx(200 * 600 * scale**2, rel=0.02)
    if scale == 1:
        same = warp_picture(picture, Similarity(1.0, (3.0, 5.0)), (90, 120))
        np.testing.assert_array_equal(same[5:, 3:], picture[:-5, :-3])
