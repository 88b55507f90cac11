"""DWPose from a film: stand-in networks end to end, and every step before and after them."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realisdance_jax.data.video_io import VideoWriter, read_frames
from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.dwpose_detect import (
    decode_boxes,
    letterbox,
    open_detector,
    overlaps,
    suppress,
)
from realisdance_jax.poses.dwpose_estimate import BODY, estimate_dwpose, keypoint_clip
from realisdance_jax.poses.dwpose_people import PATIENCE, largest, link, main_track
from realisdance_jax.poses.dwpose_pose import crop_of, cut_out, decode_points, open_pose_network
from realisdance_jax.utils.errors import UserError
from tests.poses.stand_ins import Figure, detector_file, draw, pose_file
from tests.refusals import refusal

HIDDEN = (7, 60, 95, 130)
"""A joint (left elbow), a face point, a point of each hand."""

WIDE, TALL = (340, 560), (460, 300)
FILMS = {
    # A tall person to the right of a wide frame; the crop is padded in width.
    "wide": (WIDE, [Figure(0, (330 + 7 * i, 40, 530 + 7 * i, 320), HIDDEN) for i in range(3)]),
    # A wide person at the foot of a tall frame; the crop is padded in height and leaves the frame.
    "tall": (TALL, [Figure(0, (10, 215 + 9 * i, 280, 425 + 9 * i), HIDDEN) for i in range(3)]),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    detector, pose = detector_file(folder / "yolox_l.onnx"), pose_file(folder / "dw-ll.onnx")
    return open_detector(detector), open_pose_network(pose)


def film(path: Path, size: tuple[int, int], frames: list[list[Figure]]) -> Path:
    with VideoWriter(path, 24, size, crf=1) as writer:
        for figures in frames:
            writer.write(draw(figures, *size))
    return path


def true_clip(figures: list[Figure], size: tuple[int, int]) -> KeypointClip:
    scores = np.ones((len(figures), 133))
    scores[:, list(HIDDEN)] = 0
    return keypoint_clip(np.stack([f.points for f in figures]).astype(float), scores, size)


@pytest.mark.parametrize("name", FILMS)
def test_from_a_film_to_the_drawn_condition(networks, tmp_path, name):
    size, figures = FILMS[name]
    path = film(tmp_path / "film.mp4", size, [[figure] for figure in figures])
    clip = estimate_dwpose(partial(read_frames, path), *networks, fps=24.0)
    truth = true_clip(figures, size)
    assert clip.body.shape == (3, 1, 18, 2)
    assert (clip.size, clip.fps) == (size, 24)
    scale = np.array(size[::-1])
    for part in ("body", "hands", "faces"):
        np.testing.assert_array_equal(getattr(clip, f"{part}_ok"), getattr(truth, f"{part}_ok"))
        away = (getattr(clip, part) - getattr(truth, part)) * scale
        assert np.abs(away).max() <= 1.0, part
        score = getattr(clip, f"{part}_score")
        assert score[getattr(clip, f"{part}_ok")].min() > 0.35
    assert [len(np.unique(clip.body[i, 0], axis=0)) for i in range(3)] == [18] * 3  # one hidden
    for i in range(3):
        drawn, wanted = draw_dwpose(clip, i), draw_dwpose(truth, i)
        seen = [BODY[joint] for joint in np.flatnonzero(truth.body_ok[i, 0]) if joint != 1]
        places = figures[i].points[[*seen, *range(91, 95), *range(112, 130)]]
        for x, y in places:  # hands lie over some of the joints
            assert (drawn[y - 1 : y + 2, x - 1 : x + 2] == wanted[y, x]).all(axis=-1).any()


def test_the_largest_and_the_tracked_person(networks):
    """The second person is larger for a while, in the middle; the detector sees both."""
    size = (340, 640)
    near, far = (320, 20, 560, 330), (330, 100, 520, 330)
    frames = [
        [Figure(0, (20 + 3 * i, 20, 240 + 3 * i, 320)), Figure(1, near if i in (1, 2) else far)]
        for i in range(5)
    ]
    pictures = [draw(figures, *size) for figures in frames]
    by_size = estimate_dwpose(lambda: pictures, *networks)
    tracked = estimate_dwpose(lambda: pictures, *networks, person="track")

    def chosen(clip: KeypointClip) -> list[int]:
        noses = np.stack([[f.points[0] for f in figures] for figures in frames])
        away = np.abs(clip.body[:, :, 0] * (size[1], size[0]) - noses).max(axis=-1)
        assert away.min(axis=1).max() <= 1
        return away.argmin(axis=1).tolist()

    assert chosen(by_size) == [0, 1, 1, 0, 0]
    assert chosen(tracked) == [0] * 5


def test_frames_without_anybody(networks):
    """As released the whole frame stands for the box; a lost track leaves the frame empty."""
    size = (300, 230)
    figure = Figure(0, (10, 10, 220, 290))
    unseen = draw([figure], *size)
    unseen[(unseen == (20, 40, 80)).all(axis=-1)] = 50  # clothes nobody knows
    pictures = [draw([figure], *size), *[unseen] * 2, np.zeros_like(unseen)]
    clip = estimate_dwpose(lambda: pictures, *networks)
    away = np.abs(clip.body[1] - clip.body[0]) * (230, 300)
    assert clip.body_ok[:3].all()
    assert away.max() <= 1
    assert not clip.body_ok[3].any()
    tracked = estimate_dwpose(lambda: pictures, *networks, person="track")
    assert tracked.body_ok[:, 0, 0].tolist() == [True, False, False, False]
    for part in (tracked.body_score, tracked.hands_score, tracked.faces_score):
        assert part is not None
        assert not part[1:].any()


def test_one_frame_in_memory_at_a_time(networks):
    picture = draw([Figure(0, (30, 30, 250, 370))], 400, 300)
    alive: list[int] = []

    class Watched(np.ndarray):
        def __del__(self):
            if self.shape == picture.shape and self.base is None:
                alive.remove(id(self))

    def frames():
        for _ in range(4):
            one = np.ndarray.__new__(Watched, picture.shape, np.uint8)
            one[:] = picture
            alive.append(id(one))
            assert len(alive) <= 2
            yield one
            del one

    assert estimate_dwpose(frames, *networks).frames == 4


def test_no_frames(networks):
    for person in ("largest", "track"):
        with pytest.raises(UserError, match="expected a film, found no frame"):
            estimate_dwpose(lambda: [], *networks, person=person)


def test_letterbox_is_upper_left_and_grey():
    wide, scale = letterbox(np.full((60, 120, 3), 9, np.uint8), (64, 64))
    assert scale == 64 / 120
    assert (wide[:32] == 9).all()
    assert (wide[32:] == 114).all()
    tall, scale = letterbox(np.full((120, 40, 3), 9, np.uint8), (64, 64))
    assert scale == 64 / 120
    assert (tall[:, :21] == 9).all()
    assert (tall[:, 21:] == 114).all()


def test_anchors_of_all_strides():
    rows = np.zeros((64 + 16 + 4, 85))
    rows[:, 4:6] = (0.5, 0.8)
    rows[:, 2:4] = np.log((2, 3))
    boxes, scores = decode_boxes(rows, (64, 64))
    np.testing.assert_allclose(scores, 0.4)
    for anchor, stride, x, y in ((0, 8, 0, 0), (13, 8, 5, 1), (64 + 6, 16, 2, 1), (83, 32, 1, 1)):
        wanted = [(x - 1) * stride, (y - 1.5) * stride, (x + 1) * stride, (y + 1.5) * stride]
        np.testing.assert_allclose(boxes[anchor], wanted)
    with pytest.raises(ValueError, match="84 anchors"):
        decode_boxes(rows[:-1], (64, 64))


def test_overlap_and_suppression():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4], [20, 0, 30, 10.0]])
    np.testing.assert_allclose(overlaps(boxes[0], boxes), [1, 0.5, 0.4, 0])
    scores = np.array([0.6, 0.5, 0.4, 0.9])
    assert suppress(boxes, scores).tolist() == [3, 0, 2]
    assert suppress(boxes[:0], scores[:0]).tolist() == []


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.tuples(*[st.floats(-50, 250)] * 2),
    st.tuples(*[st.floats(2, 300)] * 2),
    st.sampled_from([(384, 288), (256, 192)]),
)
def test_crops_hold_the_enlarged_box_in_the_shape_of_the_input(corner, extent, size):
    box = np.array([*corner, corner[0] + extent[0], corner[1] + extent[1]])
    matrix = crop_of(box, size).matrix(size)
    to_input = lambda point: matrix[:, :2] @ point + matrix[:, 2]  # noqa: E731
    np.testing.assert_allclose(to_input((box[:2] + box[2:]) / 2), (size[1] / 2, size[0] / 2))
    inside = to_input(box[2:]) - to_input(box[:2])
    assert (inside / size[::-1]).max() == pytest.approx(0.8)


def test_normalisation_is_of_rgb_on_bgr():
    picture = np.full((8, 8, 3), (10, 20, 30), np.uint8)
    crop = cut_out(picture, crop_of(np.array([2.0, 2, 6, 6]), (8, 6)), (8, 6))
    wanted = [(30 - 123.675) / 58.395, (20 - 116.28) / 57.12, (10 - 103.53) / 57.375]
    np.testing.assert_allclose(crop[:, 4, 3], wanted, rtol=1e-5)


def test_points_are_peaks_at_half_pixels():
    columns, rows = np.zeros((2, 576)), np.zeros((2, 768))
    columns[0, 101], rows[0, 700], columns[1, 3], rows[1, 0] = 0.9, 0.4, 0.2, 0.8
    points, scores = decode_points(columns, rows)
    np.testing.assert_array_equal(points, [[50.5, 350], [1.5, 0]])
    np.testing.assert_array_equal(scores, [0.4, 0.2])


def test_order_thresholds_and_neck():
    points = np.arange(133.0)[:, None].repeat(2, axis=1)[None]
    scores = np.full((1, 133), 0.9)
    clip = keypoint_clip(points, scores, (1, 1))
    joints = [0, 5.5, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    np.testing.assert_array_equal(clip.body[0, 0, :, 0], joints)
    np.testing.assert_array_equal(clip.hands[0, 0, :, 0, 0], (91, 112))
    np.testing.assert_array_equal(clip.hands[0, 0, 1, :, 1], np.arange(112, 133))
    np.testing.assert_array_equal(clip.faces[0, 0, :, 0], np.arange(23, 91))
    assert clip.body_score[0, 0, 1] == 1
    scores[0, [5, 9, 91, 23]] = 0.3  # a shoulder, a wrist; first points of the left hand and face
    clip = keypoint_clip(points, scores, (1, 1))
    assert np.flatnonzero(~clip.body_ok[0, 0]).tolist() == [1, 5, 7]
    assert clip.body_score[0, 0, 1] == 0
    assert clip.body_score[0, 0, 7] == 0.3
    assert clip.hands_ok.all()
    assert clip.faces_ok.all()
    assert not clip.body[0, 0, [1, 5, 7]].any()


def test_tracks_are_joined_over_gaps_and_end():
    stays = np.array([[0, 0, 10, 20.0]])
    gone = np.zeros((0, 4))
    shift = stays + 3
    frames = [stays, gone, gone, shift, *[gone] * PATIENCE, shift]
    assert [sorted(track.boxes) for track in link(frames)] == [[0, 3], [PATIENCE + 4]]
    boxes, seen = main_track(frames)
    assert np.flatnonzero(seen).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(boxes[1], stays[0] + 1)
    boxes, seen = main_track([gone] * 3)
    assert not seen.any()
    assert largest(gone) is None


def test_people_who_pass_each_other_keep_their_tracks():
    """Two boxes close in on one another; each goes to the track it overlaps most."""
    left, right = np.array([0, 0, 10, 10.0]), np.array([8, 0, 19, 10.0])
    step = np.array([1, 0, 1, 0])
    frames = [np.stack([left, right]), np.stack([right - step, left + step])]
    tracks = link(frames)
    assert len(tracks) == 2
    np.testing.assert_array_equal(tracks[0].boxes[1], frames[1][1])
    _, seen = main_track(frames)
    assert seen.all()


def test_files_that_are_no_such_network(networks, tmp_path, monkeypatch):
    detector, pose = (network.model.path for network in networks)
    picture = np.zeros((64, 48, 3), np.uint8)

    assert "gone.onnx: expected a YOLOX" in refusal(open_detector, tmp_path / "gone.onnx")
    text = tmp_path / "text.onnx"
    text.write_text("no network")
    assert "text.onnx: expected a DWPose network" in refusal(open_pose_network, text)
    swapped = refusal(open_detector(pose).people, picture)
    assert "dw-ll.onnx: expected a YOLOX person detector" in swapped
    box = np.array([0.0, 0, 9, 9])
    assert "yolox_l.onnx: expected a DWPose" in refusal(
        open_pose_network(detector).points, picture, box
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = refusal(open_detector, detector)
    assert "pip install 'realisdance_jax[dwpose]'" in message
