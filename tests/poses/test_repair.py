"""Repair takes out what leaps, fills short gaps, smooths what trembles, and leaves the rest."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.poses.changes import as_record
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.lbs import rotation_matrices
from realisdance_jax.poses.repair import by_side, mend, smooth
from realisdance_jax.poses.repair_body import body_place
from realisdance_jax.poses.rotations import axis_angles, continuous, quaternions
from realisdance_jax.poses.tracks import fill_gaps, gaps, jitter, one_euro, outliers, runs

SIZE = (100, 200)
F = 24


def waving(frames: int = F) -> np.ndarray:
    """(f 1 2) a point on a fast, smooth way."""
    t = np.arange(frames) / frames
    return np.stack([2 * t + 0.3 * np.sin(4 * t), np.cos(3 * t)], axis=-1)[:, None]


def test_runs_and_gaps():
    mask = np.array([True, False, False, True, False])
    assert runs(~mask) == [(1, 2), (4, 4)]
    assert gaps(mask) == [(1, 2)]
    assert gaps(np.zeros(3, bool)) == runs(np.zeros(0, bool)) == []


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 5))
def test_gaps_up_to_the_limit_are_filled_and_no_others(seen, limit):
    ok = np.array(seen)[:, None]
    line = np.arange(len(seen), dtype=float)[:, None, None] * np.array([2.0, -1.0])
    values, filled = fill_gaps(np.where(ok[..., None], line, 0.0), ok, limit)
    here = ok | filled
    np.testing.assert_allclose(values[here], line[here], atol=1e-9)
    assert not values[~here].any()
    expected = np.zeros(len(seen), bool)
    for first, last in gaps(ok[:, 0]):
        expected[first : last + 1] = last - first + 1 <= limit
    assert np.array_equal(filled[:, 0], expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(3, F - 6), st.floats(0.3, 3), st.floats(0, 6.28), st.integers(1, 2))
def test_leaps_are_found_and_nothing_else(frame, far, angle, long):
    values = waving()
    ok = np.ones((F, 1), bool)
    assert not outliers(values, ok, 0.03).any()
    values[frame : frame + long, 0] += far * np.array([np.cos(angle), np.sin(angle)])
    found = np.flatnonzero(outliers(values, ok, 0.03))
    leap = set(range(frame, frame + long))
    assert leap <= set(found.tolist()) <= leap | {frame - 1, frame + long}


def test_low_scores_are_trusted_less():
    values, ok = 0.1 * waving(), np.ones((F, 1), bool)
    values[10, 0, 0] += 0.04
    least = 0.06
    assert not outliers(values, ok, least, np.ones((F, 1))).any()
    scores = np.ones((F, 1))
    scores[10] = 0.4
    assert np.flatnonzero(outliers(values, ok, least, scores)).tolist() == [10]


def test_lonely_points_are_not_judged():
    values, ok = waving(), np.zeros((F, 1), bool)
    ok[[4, 12, 13]] = True
    values[12] += 9
    assert not outliers(values, ok, 0.03).any()


def test_jitter_is_the_size_of_the_second_difference():
    ok = np.ones((8, 3), bool)
    values = np.zeros((8, 3, 2))
    values[:, 0] = np.arange(8)[:, None]
    values[1::2, 1, 0] = 0.5
    ok[::2, 2] = False
    found = jitter(values, ok)
    np.testing.assert_allclose(found[:2], [0, 1.0])
    assert np.isnan(found[2])


def test_smoothing_removes_trembling_without_lag_and_keeps_gaps():
    rng = np.random.default_rng(0)
    true = np.concatenate([waving(200), np.zeros((200, 1, 2))], axis=1)
    values = true + rng.normal(0, 0.01, true.shape)
    ok = np.ones((200, 2), bool)
    ok[90:100] = False
    values[90:100] = -7.0
    result = one_euro(values, ok, 24.0, 1.0, 2.0)
    assert np.all(result[90:100] == -7.0)
    assert np.all(jitter(result, ok) < 0.5 * jitter(values, ok))
    error, noise = (np.abs(x - true)[ok].mean() for x in (result, values))
    assert error < 0.8 * noise
    lag = [np.abs(result[5:-5, 0] - true[5 + k : 195 + k, 0])[:80].mean() for k in (-2, 0, 2)]
    assert lag[1] == min(lag)
    still = one_euro(true[:, 1:], ok[:, 1:], 24.0, 1.0, 2.0)
    np.testing.assert_array_equal(still, true[:, 1:])


def test_rotations_there_and_back():
    random = np.random.default_rng(0)
    axes = random.normal(size=(200, 3))
    angles = np.concatenate([[0, 1e-12, 1e-7, 1e-3, 3.14], random.uniform(0, 3.14, 195)])
    vectors = axes / np.linalg.norm(axes, axis=1, keepdims=True) * angles[:, None]
    turns = quaternions(vectors)
    np.testing.assert_allclose(axis_angles(turns), vectors, atol=1e-9)
    np.testing.assert_allclose(axis_angles(-3 * turns), vectors, atol=1e-9)
    matrices = np.asarray(rotation_matrices(jnp.asarray(vectors, jnp.float32)))
    w, x, y, z = turns.T
    first_row = np.stack([w * w + x * x - y * y - z * z, 2 * (x * y - w * z)], axis=-1)
    np.testing.assert_allclose(matrices[:, 0, :2], first_row, atol=1e-5)


def test_quaternions_do_not_jump():
    angles = np.linspace(0, 12, 60)
    wrapped = (angles + np.pi) % (2 * np.pi) - np.pi
    turns = continuous(quaternions(np.stack([wrapped, 0 * angles, 0 * angles], -1)))
    assert np.linalg.norm(np.diff(turns, axis=0), axis=-1).max() < 0.11
    twice = axis_angles(turns)
    np.testing.assert_allclose(np.cos(twice[:, 0]), np.cos(angles), atol=1e-9)


def keypoints(scores: bool = False) -> KeypointClip:
    """One person on a smooth way; a second who is never there."""
    way = 0.2 * waving()
    body = np.zeros((F, 2, 18, 2))
    body[:, 0] = 0.4 + way + 0.01 * np.arange(18)[:, None]
    hands, faces = np.zeros((F, 2, 2, 21, 2)), np.zeros((F, 2, 68, 2))
    hands[:, 0] = 0.5 + way[:, None] + 0.002 * np.arange(21)[:, None]
    oks = {"body_ok": body.any(-1), "hands_ok": hands.any(-1), "faces_ok": faces.any(-1)}
    extra = {"body_score": oks["body_ok"].astype(float)} if scores else {}
    return KeypointClip(body, hands=hands, faces=faces, size=SIZE, **oks, **extra)


def test_keypoints_are_mended_and_it_is_recorded():
    clip = keypoints(scores=True)
    body, ok = clip.body.copy(), clip.body_ok.copy()
    hands = clip.hands.copy()
    body[7, 0, 3] += 0.3
    hands[9, 0, 1, 5] -= 0.4
    ok[12:16, 0, 6] = False  # four frames
    ok[4:9, 0, 8] = False  # five
    body[~ok] = 0
    broken = replace(clip, body=body, body_ok=ok, hands=hands)
    mended, changes = mend(broken, SIZE)
    found = {(c.stream, c.kind, c.track, c.first, c.last) for c in changes}
    assert found == {
        ("dwpose", "outlier", "person 0 right elbow", 7, 7),
        ("dwpose", "outlier", "person 0 right hand 5", 9, 9),
        ("dwpose", "gap", "person 0 left elbow", 12, 15),
    }
    wanted = clip.body_ok.copy()
    wanted[4:9, 0, 8] = False
    assert np.array_equal(mended.body_ok, wanted)
    assert not mended.body[~wanted].any()
    np.testing.assert_allclose(mended.body[wanted], clip.body[wanted], atol=0.01)
    np.testing.assert_allclose(mended.hands, clip.hands, atol=0.01)
    assert np.array_equal(mended.faces_ok, clip.faces_ok)
    record = json.loads(json.dumps(as_record(changes)))
    assert record["counts"] == {"dwpose gap": 1, "dwpose outlier": 2}
    assert len(record["changes"]) == 3


def test_what_is_well_stays_as_it_is():
    for clip in (keypoints(), body(), by_side(hands())):
        same, changes = mend(clip, SIZE)
        assert changes == []
        for name, value in vars(clip).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(getattr(same, name), value, atol=1e-9, err_msg=name)


def body() -> BodyClip:
    """Turning past half a turn, walking, seen by a camera that changes with the frame."""
    t = np.arange(F) / F
    zero = np.zeros((F, 3))
    turn = np.stack([0 * t, 5 * t, 0 * t], axis=-1)
    depth = 5 + t
    return BodyClip(
        present=np.ones(F, bool),
        global_orient=axis_angles(quaternions(turn)),
        body_pose=np.tile(0.2 * np.sin(4 * t)[:, None, None], (1, 21, 3)),
        left_hand_pose=np.zeros((F, 15, 3)),
        right_hand_pose=np.zeros((F, 15, 3)),
        jaw_pose=zero, leye_pose=zero, reye_pose=zero,
        betas=np.ones((F, 10)), expression=np.zeros((F, 10)),
        transl=np.stack([t, 0.1 * t, depth], axis=-1),
        focal=np.tile(300 + 40 * np.sin(3 * t)[:, None], (1, 2)),
        princpt=np.tile([100.0, 50.0], (F, 1)),
        add_hands_mean=True, size=SIZE,
    )  # fmt: skip


def without(clip: BodyClip, frames: slice) -> BodyClip:
    here = clip.present.copy()
    here[frames] = False
    arrays = {
        name: np.where(here.reshape(-1, *[1] * (value.ndim - 1)), value, 0)
        for name, value in vars(clip).items()
        if isinstance(value, np.ndarray) and name != "present"
    }
    return replace(clip, present=here, **arrays)


def test_bodies_are_mended():
    clip = body()
    broken = without(clip, slice(13, 16))  # past half a turn: the axis flips inside the gap
    broken = replace(broken, transl=broken.transl + (np.arange(F) == 5)[:, None] * [2.0, 0, 0])
    mended, changes = mend(broken, SIZE)
    assert [(c.kind, c.track, c.first, c.last) for c in changes] == [
        ("outlier", "body", 5, 5),
        ("gap", "body", 13, 15),
    ]
    assert mended.present.all()
    np.testing.assert_allclose(mended.transl, clip.transl, atol=0.02)
    np.testing.assert_allclose(mended.focal, clip.focal, atol=2)
    turns = (
        np.abs(np.einsum("fi,fi->f", quaternions(a.global_orient), quaternions(b.global_orient)))
        for a, b in ((mended, clip),)
    )
    assert next(turns).min() > 0.999
    long, changes = mend(without(clip, slice(10, 15)), SIZE)
    assert changes == []
    assert not long.present[10:15].any()
    assert not long.focal[10:15].any()


def test_bodies_are_smoothed_where_they_are_seen():
    """The picture trembles less, though the camera's focal length jumps as boxes do."""
    clip = body()
    rng = np.random.default_rng(0)
    zoom = 1 + 0.1 * rng.normal(size=(F, 1))
    depth = clip.transl * np.concatenate([zoom, zoom, zoom], 1)  # compensates the focal length
    shake = np.concatenate([0.01 * rng.normal(size=(F, 2)) * depth[:, 2:], np.zeros((F, 1))], 1)
    pose = clip.body_pose + 0.05 * rng.normal(size=clip.body_pose.shape)
    rough = replace(clip, focal=clip.focal * zoom, transl=depth + shake, body_pose=pose)
    smoothed, changes = smooth(rough, SIZE, 24.0, 1.5)
    assert [(c.stream, c.kind, c.first, c.last) for c in changes] == [
        ("smpl", "smoothed", 0, F - 1)
    ]
    np.testing.assert_array_equal(smoothed.focal, rough.focal)
    ok = np.ones((F, 1), bool)
    rough_place, true_place, new_place = (
        body_place(c, SIZE)[0][:, None] for c in (rough, clip, smoothed)
    )
    assert jitter(new_place, ok)[0] < 0.7 * jitter(rough_place, ok)[0]
    assert np.abs(new_place - true_place).mean() < np.abs(rough_place - true_place).mean()
    many = np.ones((F, 21), bool)
    assert np.median(jitter(smoothed.body_pose, many) / jitter(pose, many)) < 0.7
    np.testing.assert_allclose(smoothed.betas, clip.betas)


def hands() -> HandClip:
    """A left and a right hand in slots that change places, and nobody's third slot."""
    t = np.arange(F) / F
    shape = np.random.default_rng(0).normal(0, 0.05, (12, 3))
    place = np.stack([t - 0.5, 0.2 * t, 200 + 5 * t], axis=-1)
    odd = np.arange(F) % 2 == 1
    right = np.stack([odd, ~odd, 0 * odd], axis=-1).astype(bool)
    shift = np.where(right, 3.0, -3.0)[..., None] * [1, 0, 0]
    present = np.tile([True, True, False], (F, 1))
    here = present[..., None]
    return HandClip(
        present=present,
        right=right & present,
        vertices=np.where(here[..., None], shape, 0) * np.ones((F, 3, 1, 1)),
        translation=np.where(here, place[:, None] + shift, 0),
        size=SIZE,
    )


def test_hands_are_sorted_by_side():
    clip = by_side(hands())
    assert clip.present.all()
    assert np.array_equal(clip.right, np.tile([False, True], (F, 1)))
    assert np.all(clip.translation[:, 1, 0] - clip.translation[:, 0, 0] == 6.0)
    three = hands()
    three = replace(three, present=np.ones((F, 3), bool))
    assert by_side(three).hands == 3  # two left ones
    assert by_side(three).present.sum() == 3 * F
    empty = replace(
        three,
        present=np.zeros((F, 0), bool), right=np.zeros((F, 0), bool),
        vertices=np.zeros((F, 0, 12, 3)), translation=np.zeros((F, 0, 3)),
    )  # fmt: skip
    assert not by_side(empty).present.any()
    assert mend(empty, SIZE)[1] == []


def test_hands_are_mended_and_smoothed():
    clip = by_side(hands())
    present, place = clip.present.copy(), clip.translation.copy()
    present[8:11, 1] = False
    place[8:11, 1] = 0
    place[15, 0, 1] += 2.0
    right = clip.right & present
    broken = replace(clip, present=present, translation=place, right=right)
    mended, changes = mend(broken, SIZE)
    assert [(c.kind, c.track, c.first, c.last) for c in changes] == [
        ("outlier", "left hand", 15, 15),
        ("gap", "right hand", 8, 10),
    ]
    assert mended.present.all()
    assert np.array_equal(mended.right, clip.right)
    np.testing.assert_allclose(mended.translation, clip.translation, atol=1e-6)
    np.testing.assert_allclose(mended.vertices, clip.vertices, atol=1e-9)
    rng = np.random.default_rng(1)
    rough = replace(
        clip,
        translation=clip.translation + rng.normal(0, [0.02, 0.02, 1.0], clip.translation.shape),
        vertices=clip.vertices + rng.normal(0, 0.002, clip.vertices.shape),
    )
    smoothed, changes = smooth(rough, SIZE, 24.0, 1.5)
    assert [c.stream for c in changes] == ["hamer"]
    ok = np.ones((F, 2), bool)
    for name in ("translation", "vertices"):
        a, b = (getattr(c, name).reshape(F, 2, -1) for c in (rough, smoothed))
        assert np.all(jitter(b, ok) < 0.7 * jitter(a, ok)), name


def test_smoothing_keypoints_spares_hidden_points():
    clip = keypoints()
    clip = replace(clip, body=0.4 + 0.1 * (clip.body - 0.4))
    rng = np.random.default_rng(0)
    noisy = clip.body + 0.004 * rng.normal(size=clip.body.shape)
    ok = clip.body_ok.copy()
    ok[10:13, 0, 2] = False
    rough = replace(clip, body=np.where(ok[..., None], noisy, 0), body_ok=ok)
    smoothed, _ = smooth(rough, SIZE, 24.0, 1.5)
    assert np.array_equal(smoothed.body_ok, ok)
    assert not smoothed.body[~ok].any()
    seen = np.ones((F, 18), bool)
    seen[10:13, 2] = False
    assert np.all(jitter(smoothed.body[:, 0], seen) < 0.7 * jitter(rough.body[:, 0], seen))
