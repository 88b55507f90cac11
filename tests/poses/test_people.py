"""Of several people one is kept: the largest of each frame, or one through the whole film."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.dwpose_people import PATIENCE, crowded, one_person, person_boxes

ARRAYS = ("body", "body_ok", "hands", "hands_ok", "faces", "faces_ok")


def people(boxes: np.ndarray, here: np.ndarray, scores: bool = False) -> KeypointClip:
    """(f p 4) boxes spanned by nose and neck; the other body points lie inside, hands are hidden.

    here: (f p). Persons who are not there are zero.
    """
    f, p = here.shape
    share = np.linspace(0, 1, 18)[:, None]
    body = boxes[:, :, None, :2] * (1 - share) + boxes[:, :, None, 2:] * share
    seen = np.repeat(here[..., None], 18, axis=2)
    return KeypointClip(
        body=np.where(seen[..., None], body, 0.0),
        body_ok=seen,
        hands=np.zeros((f, p, 2, 21, 2)),
        hands_ok=np.zeros((f, p, 2, 21), bool),
        faces=np.zeros((f, p, 68, 2)),
        faces_ok=np.zeros((f, p, 68), bool),
        size=(100, 200),
        body_score=np.where(seen, 0.5 + boxes[..., :1], 0.0) if scores else None,
    )


def box(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y + side]


SMALL, LARGE = box(0.1, 0.1, 0.1), box(0.4, 0.2, 0.5)


def test_the_largest_of_each_frame_is_kept():
    boxes = np.array([[SMALL, LARGE], [LARGE, SMALL], [LARGE, LARGE], [LARGE, LARGE]])
    here = np.array([[True, True], [True, True], [False, True], [False, False]])
    clip = people(boxes, here, scores=True)
    assert crowded(clip).tolist() == [True, True, False, False]
    alone = one_person(clip, "largest")
    assert alone.persons == 1
    assert alone.body_ok[:, 0].all(axis=1).tolist() == [True, True, True, False]
    np.testing.assert_allclose(alone.body[:3, 0, 0], [LARGE[:2]] * 3)
    np.testing.assert_allclose(alone.body_score[:, 0, 0], [0.9, 0.9, 0.9, 0])
    assert not alone.body[3].any()
    assert alone.size == clip.size


def test_a_track_is_followed_through_slots_and_past_someone_larger():
    """The dancer changes slots, is gone for a while, and a larger one passes before the camera."""
    frames = 12
    boxes, here = np.zeros((frames, 2, 4)), np.ones((frames, 2), bool)
    slots = np.arange(frames) % 2
    rows = np.arange(frames)
    dancer = np.array([box(0.1 + 0.01 * k, 0.1, 0.3) for k in rows])
    boxes[rows, slots] = dancer
    boxes[rows, 1 - slots] = box(0.45, 0.05, 0.5)
    here[rows, 1 - slots] = rows == 7
    here[rows[3:6], slots[3:6]] = False
    clip = people(boxes, here)
    tracked, largest = (one_person(clip, how) for how in ("track", "largest"))
    present = tracked.body_ok[:, 0].all(axis=1)
    assert np.flatnonzero(~present).tolist() == [3, 4, 5]
    np.testing.assert_allclose(tracked.body[present, 0, 0], dancer[present, :2])
    assert largest.body[7, 0, 0, 0] == 0.45
    assert not np.allclose(tracked.body[7], largest.body[7])


def test_a_track_ends_after_patience():
    boxes = np.tile(np.array([LARGE, SMALL]), (PATIENCE + 4, 1, 1))
    here = np.zeros((PATIENCE + 4, 2), bool)
    here[[0, 1, -1], 0] = True
    assert one_person(people(boxes, here), "track").body_ok.any(axis=(1, 2)).sum() == 2


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 99), st.integers(2, 3), st.sampled_from(["largest", "track"]))
def test_nobody_is_invented(seed, persons, how):
    """Every frame is a person of the file, or empty where the track is."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.5, (6, persons, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.05, 0.5, (6, persons, 2))], -1)
    clip = people(boxes, rng.random((6, persons)) < 0.7)
    alone = one_person(clip, how)
    for frame in range(6):
        mine = alone.body[frame, 0]
        assert not mine.any() or any(np.array_equal(mine, other) for other in clip.body[frame])
    if how == "largest":
        assert np.array_equal(alone.body_ok.any(axis=(1, 2)), clip.body_ok.any(axis=(1, 2)))


@pytest.mark.parametrize("persons", [0, 1])
def test_a_clip_without_a_choice_stays_as_it_is(persons):
    clip = people(np.tile(np.array(LARGE), (2, persons, 1)), np.ones((2, persons), bool))
    assert one_person(clip, "track") is clip
    assert not crowded(clip).any()


def test_hands_alone_make_a_box_too():
    clip = people(np.array([[SMALL, LARGE]]), np.array([[True, False]]))
    hands_ok, hands = clip.hands_ok.copy(), clip.hands.copy()
    hands_ok[0, 1, 0] = True
    hands[0, 1, 0] = np.linspace([0.2, 0.3], [0.25, 0.32], 21)
    boxes, here = person_boxes(replace(clip, hands=hands, hands_ok=hands_ok))
    assert here.all()
    np.testing.assert_allclose(boxes[0, 1], [0.2, 0.3, 0.25, 0.32])
