"""Corruptions: how many frames, in blocks, always the same, and nothing else is touched."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.data import corruptions
from realisdance_jax.data.corruptions import (
    Corruption,
    corrupt_bodies,
    corrupt_hands,
    corrupt_keypoints,
    hit_blocks,
)
from realisdance_jax.data.dancer_clips import DancerClip
from realisdance_jax.data.dancer_source import DancerSource
from realisdance_jax.utils.errors import UserError

FRAMES = 90
CLIP = DancerClip(1, 2, FRAMES, (64, 48))
KINDS = {
    "keypoints": (corrupt_keypoints, CLIP.keypoints),
    "bodies": (corrupt_bodies, CLIP.bodies),
    "hands": (corrupt_hands, CLIP.hands),
}


def changed(true, wrong) -> np.ndarray:
    """Frames in which any array differs."""
    frames = np.zeros(true.frames, bool)
    for field in dataclasses.fields(true):
        before, after = getattr(true, field.name), getattr(wrong, field.name)
        if isinstance(before, np.ndarray):
            assert after.shape == before.shape
            assert after.dtype == before.dtype
            assert np.isfinite(after).all()
            frames |= np.any((before != after).reshape(len(before), -1), axis=1)
        else:
            assert before == after
    return frames


@pytest.mark.parametrize("name", KINDS)
def test_strength_is_the_share_of_frames_that_change(name):
    corrupt, true = KINDS[name]
    assert corrupt(true, 0.0, 7) is true
    for strength in (0.1, 0.25, 0.5, 1.0):
        assert changed(true, corrupt(true, strength, 7)).sum() == round(strength * FRAMES)


@pytest.mark.parametrize("name", KINDS)
def test_frames_hit_change_alike_at_any_strength(name):
    corrupt, true = KINDS[name]
    some, more = corrupt(true, 0.3, 5), corrupt(true, 0.6, 5)
    hit = changed(true, some)
    assert changed(true, more)[hit].all()
    assert not changed(some, more)[hit].any()
    assert not changed(some, corrupt(true, 0.3, 5)).any()
    assert changed(some, corrupt(true, 0.3, 6)).any()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_a_block_that_the_strength_cuts_short_is_hit_as_the_whole_one(name, kind):
    corrupt, true = KINDS[name]
    for seed in range(8):
        some, more = (corrupt(true, strength, seed, (kind,)) for strength in (0.25, 0.5))
        assert not changed(some, more)[changed(true, some)].any(), seed


@settings(derandomize=True, max_examples=60, deadline=None)
@given(frames=st.integers(0, 200), strength=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_frames_are_hit_in_blocks(frames, strength, seed):
    blocks = hit_blocks(frames, strength, seed)
    together = np.sort(np.concatenate([block.frames for block in blocks] or [np.empty(0)]))
    assert len(together) == round(strength * frames) == len(np.unique(together))
    for block in blocks:
        np.testing.assert_array_equal(np.diff(block.frames), 1)
        assert len(block.frames) <= corruptions.LONGEST
        assert 0 <= block.frames[0] <= block.frames[-1] < frames
    short = [block for block in blocks if len(block.frames) < corruptions.SHORTEST]
    assert len(short) <= 2  # where the clip ends, and where the strength is reached


def test_every_way_to_fail_occurs():
    """Blank, lost in part, elsewhere, swapped and trembling, about equally often."""
    kinds = [int(block.kind * 5) for seed in range(40) for block in hit_blocks(90, 1.0, seed)]
    share = np.bincount(kinds, minlength=5) / len(kinds)
    assert np.all(share > 0.15)
    assert len(share) == 5


@pytest.mark.parametrize("name", KINDS)
def test_one_kind_alone_hits_the_same_frames(name):
    corrupt, true = KINDS[name]
    some, shaken = corrupt(true, 0.4, 5), corrupt(true, 0.4, 5, ("jitter",))
    np.testing.assert_array_equal(changed(true, some), changed(true, shaken))
    if name == "keypoints":
        np.testing.assert_array_equal(shaken.body_ok, true.body_ok)
        assert np.abs(shaken.body - true.body).max() < 0.25
        assert not corrupt(true, 1.0, 5, ("blank",)).body_ok.any()


def test_a_clip_of_one_kind():
    clip = dataclasses.replace(CLIP, corruption=Corruption(dwpose=1.0, kinds=("blank",)))
    assert not clip.keypoints.body_ok.any()
    sources = [DancerSource(1, 8, (64, 48), corruption=c) for c in (Corruption(), clip.corruption)]
    assert len({source.fingerprint() for source in sources}) == 2
    for wrong in ((), ("beauty",), ("jitter", "blank")):
        with pytest.raises(UserError, match="kinds: expected some of blank, lost"):
            Corruption(kinds=wrong)


def one_kind(monkeypatch, kind: int):
    """All frames in one block of one kind."""

    def whole(frames: int, strength: float, seed: int):
        return [corruptions.Block(np.arange(frames), (kind + 0.5) / 5, seed)]

    monkeypatch.setattr(corruptions, "hit_blocks", whole)
    return [corrupt(true, 1.0, 3) for corrupt, true in KINDS.values()]


def test_blank_frames_show_nothing(monkeypatch):
    points, bodies, hands = one_kind(monkeypatch, 0)
    assert not points.body_ok.any()
    assert not points.hands_ok.any()
    assert not bodies.present.any()
    assert not hands.present.any()


def test_lost_limbs_leave_the_rest_as_it_was(monkeypatch):
    points, bodies, hands = one_kind(monkeypatch, 1)
    true = CLIP.keypoints
    assert points.body_ok.sum() < true.body_ok.sum()
    assert (points.body_ok <= true.body_ok).all()
    np.testing.assert_array_equal(points.body_ok[:, :, [0, 1]], true.body_ok[:, :, [0, 1]])
    assert bodies.present.all()
    lost = ~np.any(bodies.left_hand_pose, axis=(1, 2)) | ~np.any(
        bodies.right_hand_pose, axis=(1, 2)
    )
    assert lost.all()
    np.testing.assert_array_equal(hands.present.sum(axis=1), 1)


def test_another_person_is_elsewhere(monkeypatch):
    points, bodies, hands = one_kind(monkeypatch, 2)
    true = CLIP.keypoints
    shoulders = [np.linalg.norm(c.body[:, 0, 2] - c.body[:, 0, 5], axis=-1) for c in (true, points)]
    assert np.median(shoulders[1]) < 0.8 * np.median(shoulders[0])
    assert (bodies.transl[:, 2] > CLIP.bodies.transl[:, 2] + 0.5).all()
    assert np.abs(hands.translation - CLIP.hands.translation).max(axis=(1, 2)).min() > 0.01


def test_left_and_right_are_swapped(monkeypatch):
    points, bodies, hands = one_kind(monkeypatch, 3)
    true = CLIP.keypoints
    for left, right in ((2, 5), (4, 7), (14, 15), (16, 17)):
        np.testing.assert_array_equal(points.body[:, :, left], true.body[:, :, right])
    np.testing.assert_array_equal(points.hands[:, :, 0], true.hands[:, :, 1])
    mirror = np.array([1.0, -1.0, -1.0])
    np.testing.assert_array_equal(bodies.body_pose[:, 17], CLIP.bodies.body_pose[:, 18] * mirror)
    np.testing.assert_array_equal(bodies.left_hand_pose, CLIP.bodies.right_hand_pose * mirror)
    np.testing.assert_array_equal(hands.right, ~CLIP.hands.right)
    np.testing.assert_array_equal(hands.vertices[..., 0], -CLIP.hands.vertices[..., 0])


def test_trembling_is_small_and_differs_from_frame_to_frame(monkeypatch):
    points, bodies, hands = one_kind(monkeypatch, 4)
    moved = (points.body - CLIP.keypoints.body)[CLIP.keypoints.body_ok]
    assert 0.01 < moved.std() < 0.05
    turned = bodies.body_pose - CLIP.bodies.body_pose
    assert 0.05 < turned.std() < 0.3
    assert 0.05 < np.diff(turned, axis=0).std() < 0.5
    assert 0.003 < (hands.translation - CLIP.hands.translation).std() < 0.05


def test_hands_that_are_not_there_stay_away():
    present = CLIP.hands.present.copy()
    present[:, 0] = False
    gone = dataclasses.replace(
        CLIP.hands,
        present=present,
        right=CLIP.hands.right & present,
        vertices=CLIP.hands.vertices * present[..., None, None],
        translation=CLIP.hands.translation * present[..., None],
    )
    wrong = corrupt_hands(gone, 1.0, 2)
    assert not wrong.present[:, 0].any()
    assert not wrong.vertices[:, 0].any()
    assert not wrong.translation[:, 0].any()
    assert not wrong.right[:, 0].any()


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_strength_beyond_a_share_is_refused(strength):
    with pytest.raises(UserError, match="expected 0 to 1"):
        corrupt_keypoints(CLIP.keypoints, strength, 0)
    with pytest.raises(UserError, match="corruption of hamer: expected 0 to 1"):
        Corruption(hamer=strength)
