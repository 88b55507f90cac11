"""The dancer world: film and conditions of one skeleton, in register, any frame on its own."""

import cv2
import numpy as np
import pytest

from realisdance_jax.data.dancer_clips import HELD_OUT, DancerClip, split_seeds
from realisdance_jax.data.dancer_look import make_background
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.utils.errors import UserError

SIZE = (128, 96)
CONDITIONS = ("dwpose", "hamer", "smpl")


@pytest.fixture(scope="module")
def clips() -> list[DancerClip]:
    return [DancerClip(*split_seeds("train", number), 48, SIZE) for number in range(6)]


def picture(clip: DancerClip, name: str, index: int) -> np.ndarray:
    stream = clip.film([index]) if name == "film" else clip.condition(name, [index], {})
    return next(stream)


def grown(mask: np.ndarray, pixels: int = 1) -> np.ndarray:
    side = 2 * pixels + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0


def share_within(inner: np.ndarray, outer: np.ndarray) -> float:
    return float((inner & outer).sum() / inner.sum())


def shifted(mask: np.ndarray, columns: int, rows: int) -> np.ndarray:
    return np.roll(mask, (rows, columns), (0, 1))


@pytest.mark.parametrize("name", ["film", *CONDITIONS])
def test_a_frame_alone_is_the_frame_in_passing(name):
    clip = DancerClip(3, 3, 12, SIZE)
    every = list(clip.film(range(12)) if name == "film" else clip.condition(name, range(12), {}))
    np.testing.assert_array_equal(picture(DancerClip(3, 3, 12, SIZE), name, 7), every[7])
    assert every[0].shape == (*SIZE, 3)
    assert every[0].dtype == np.uint8
    assert len({frame.tobytes() for frame in every}) == 12


def test_people_and_dances_are_independent():
    same_person, same_dance = DancerClip(3, 4, 12, SIZE), DancerClip(5, 3, 12, SIZE)
    clip = DancerClip(3, 3, 12, SIZE)
    np.testing.assert_array_equal(same_person.who.skin, clip.who.skin)
    assert not np.array_equal(same_person.bodies.body_pose, clip.bodies.body_pose)
    np.testing.assert_array_equal(same_dance.bodies.left_hand_pose, clip.bodies.left_hand_pose)
    assert not np.array_equal(picture(same_dance, "film", 0), picture(clip, "film", 0))
    looks = {picture(DancerClip(number, 0, 2, SIZE), "film", 0).tobytes() for number in range(8)}
    assert len(looks) == 8


def test_film_shows_a_person_before_a_room_that_stands_still(clips):
    for clip in clips[:2]:
        room = make_background(clip.identity, clip.drawn)
        room = cv2.resize(room, SIZE[::-1], interpolation=cv2.INTER_AREA)
        for frame, masks in zip(clip.film([0, 20]), clip.masks([0, 20]), strict=True):
            outside = ~grown(masks["person"], 2)
            assert outside.mean() > 0.2
            np.testing.assert_array_equal(frame[outside], room[outside])
            different = np.any(frame != room, axis=-1)
            assert share_within(masks["person"], different) > 0.99
            assert masks["face"].sum() > 100
            assert not np.any(masks["hands"] & masks["face"])


def test_body_condition_is_in_register_with_the_film(clips):
    """Hair and clothes stick out of the body; nothing of the body sticks out of them."""
    for clip in clips:
        for index in (4, 30):
            person = next(clip.masks([index]))["person"]
            body = picture(clip, "smpl", index).max(axis=-1) > 100
            assert share_within(body, grown(person)) > 0.995
            assert 0.6 < body.sum() / person.sum() < 1.02
            for columns in (4, -4):
                assert share_within(shifted(body, columns, 0), grown(person)) < 0.99


def test_hand_condition_is_in_register_with_the_film(clips):
    for clip in clips:
        for index in (4, 30):
            hands = picture(clip, "hamer", index).max(axis=-1) > 100
            seen = next(clip.masks([index]))["hands"]
            assert share_within(seen, grown(hands)) > 0.98
            overlap = (seen & hands).sum() / (seen | hands).sum()
            assert overlap > 0.7  # less where a hand hides behind the other arm
            for columns, rows in ((2, 0), (-2, 0), (0, 2), (0, -2)):
                moved = shifted(hands, columns, rows)
                assert (seen & moved).sum() / (seen | moved).sum() < overlap - 0.05


def test_hands_are_coloured_by_side(clips):
    left_hands, right_hands = (
        np.median(points, axis=1) for points in np.moveaxis(clips[0].keypoints.hands[:, 0], 1, 0)
    )
    for index in (4, 30):
        hands = picture(clips[0], "hamer", index).astype(int)
        rows, columns = np.nonzero(hands[..., 1] > hands[..., 0] + 30)
        green = np.array([columns.mean(), rows.mean()]) / SIZE[::-1]
        assert np.linalg.norm(green - left_hands[index]) < 0.05
        assert np.linalg.norm(green - right_hands[index]) > 0.05


def test_keypoints_lie_on_the_hands_and_are_drawn_there(clips):
    for clip in clips:
        found = clip.keypoints
        for index in (4, 30):
            hands = grown(picture(clip, "hamer", index).max(axis=-1) > 60, 1)
            points = found.hands[index, 0][found.hands_ok[index, 0]]
            columns, rows = (points * SIZE[::-1]).astype(int).T
            assert hands[rows, columns].mean() > 0.97
            # The painter leaves out what is in its first row or column.
            columns, rows = (points[(points > 2e-3).all(axis=1)] * SIZE[::-1]).astype(int).T
            drawn = picture(clip, "dwpose", index).max(axis=-1) > 0
            assert grown(drawn)[rows, columns].all()


def test_keypoints_follow_the_conventions(clips):
    """Left is on the right of the picture; what is beyond the frame is not found."""
    found: KeypointClip = clips[0].keypoints
    body, ok = found.body[:, 0], found.body_ok[:, 0]
    assert ok[:, :8].mean() > 0.9
    assert not ok[:, [9, 10, 12, 13]].any()  # knees and feet
    assert np.all(body[:, 5, 0] > body[:, 2, 0])
    assert np.all(body[:, 0, 1] < body[:, 1, 1])
    for side, wrist in ((0, 7), (1, 4)):
        np.testing.assert_allclose(found.hands[:, 0, side, 0], body[:, wrist], atol=1e-9)
    fingers = np.linalg.norm(np.diff(found.hands[:, 0, :, 5:9], axis=2), axis=-1)
    assert np.all(fingers < 0.2)


def test_hands_are_large(clips):
    """An open hand always spans 24 pixels, and most hands do as they are."""
    for clip in clips:
        rest = clip.body.mesh.vertices[clip.body.left_hand]
        length = np.ptp(rest[:, 0])
        depth = clip.hands.translation[..., 2]
        scale = clip.hands.focal / 2  # drawn at twice the size
        assert np.min(length * scale / depth) >= 24
        points = clip.keypoints.hands[:, 0] * SIZE[::-1]
        span = np.linalg.norm(points[:, :, :, None] - points[:, :, None], axis=-1).max((2, 3))
        assert np.median(span) >= 24


def test_motion_is_smooth_and_stays_in_the_frame(clips):
    for clip in clips:
        points = clip.keypoints.hands[:, 0] * SIZE[::-1]
        speed = np.linalg.norm(np.diff(points, axis=0), axis=-1)
        assert speed.max() < 20
        assert speed.max() > 1
        assert clip.keypoints.hands_ok.mean() > 0.8


def test_held_out_seeds_are_never_trained_on():
    numbers = (0, 7, HELD_OUT - 1)
    seeds = {
        split: np.array([split_seeds(split, number) for number in numbers])
        for split in ("train", "test", "test_identity", "test_motion")
    }
    assert (seeds["train"] < HELD_OUT).all()
    assert (seeds["test"] >= HELD_OUT).all()
    assert (seeds["test_identity"] >= HELD_OUT).tolist() == [[True, False]] * 3
    assert (seeds["test_motion"] >= HELD_OUT).tolist() == [[False, True]] * 3
    with pytest.raises(UserError, match="expected one of train"):
        split_seeds("val", 0)
    with pytest.raises(UserError, match="from 0 to 999999"):
        split_seeds("train", HELD_OUT)
