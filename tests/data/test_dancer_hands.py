"""Hands of a film with other gestures: the same frame but for the fingers of one hand."""

import numpy as np
import pytest

from realisdance_jax.data.dancer_clips import DancerClip, split_seeds
from realisdance_jax.data.dancer_gestures import GESTURES, NUMBERS, finger_poses, other_gestures
from realisdance_jax.data.dancer_hands import LEAST_SEEN, OTHERS, HandChoice, hand_choices

SIZE = (128, 96)
FRAMES = (2, 9)
CLIP = DancerClip(*split_seeds("test", 3), 12, SIZE)


@pytest.fixture(scope="module")
def choices() -> list[HandChoice]:
    return hand_choices(CLIP, FRAMES)


def test_other_gestures_are_not_the_one_that_is_shown():
    known = finger_poses(NUMBERS)
    others = other_gestures(known, OTHERS, np.random.default_rng(0))
    assert others.shape == (len(GESTURES), OTHERS, 15, 3)
    for pose, found in zip(known, others, strict=True):
        assert len(np.unique(found, axis=0)) == OTHERS
        assert np.abs(found - pose).max(axis=(1, 2)).min() > 0.1
    again = other_gestures(known, OTHERS, np.random.default_rng(0))
    np.testing.assert_array_equal(others, again)
    halfway = (known[:1] + known[1:2]) / 2  # near to two of them
    (found,) = other_gestures(halfway, OTHERS, np.random.default_rng(0))
    assert np.abs(found[:, None] - known[:2]).max(axis=(2, 3)).min() > 0.1


def test_crops_are_of_the_film_and_differ_where_the_hand_is(choices):
    assert {choice.frame for choice in choices} == {0, 1}
    truth = list(CLIP.film(FRAMES))
    for choice in choices:
        assert choice.crops.shape[0] == 1 + OTHERS
        np.testing.assert_array_equal(choice.crop(truth[choice.frame]), choice.crops[0])
        changed = (choice.crops[1:] != choice.crops[0]).any(axis=-1)
        assert (changed.mean(axis=(1, 2)) > 0.02).all()
        assert len(np.unique(choice.crops, axis=0)) == 1 + OTHERS


def test_only_hands_that_are_seen_count(choices):
    masks = list(CLIP.masks(FRAMES))
    for frame, mask in enumerate(masks):
        found = [choice for choice in choices if choice.frame == frame]
        assert 1 <= len(found) <= 2
        inside = np.zeros(SIZE, bool)
        for top, bottom, left, right in (choice.box for choice in found):
            inside[top:bottom, left:right] = True
            assert mask["hands"][top:bottom, left:right].any()
        # What lies outside belongs to hands of which almost nothing is seen.
        assert (mask["hands"] & ~inside).sum() <= 2 * LEAST_SEEN * inside.size
