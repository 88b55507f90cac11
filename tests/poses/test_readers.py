"""What each estimator's files become, value by value, and how bad ones are refused."""

import pickle

import numpy as np
import pytest

from realisdance_jax.poses.clip_files import save_clip
from realisdance_jax.poses.clips import BodyClip, HandClip, KeypointClip
from realisdance_jax.poses.readers import (
    READERS,
    guess_kind,
    read_dwpose,
    read_gvhmr,
    read_hamer,
    read_musepose,
    read_openpose,
    read_poses,
    read_smplerx,
)
from realisdance_jax.utils.errors import UserError
from tests.poses.pose_files import (
    SIZE,
    SMPLERX,
    dwpose_frame,
    gvhmr_content,
    hamer_arrays,
    hamer_frame,
    openpose_frame,
    openpose_person,
    smplerx_meta,
    smplerx_person,
    write_gvhmr,
    write_json,
    write_musepose,
    write_pickle,
    write_smplerx,
)


def same_arrays(one, other):
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)
        elif name not in ("size", "fps"):
            assert value == getattr(other, name), name


def test_dwpose_scores_are_kept_where_all_persons_have_them(tmp_path):
    frames = [dwpose_frame(2), dwpose_frame(1, seed=1), dwpose_frame(0)]
    clip = read_dwpose(write_pickle(tmp_path / "a.pkl", frames), fps=25.0)
    assert (clip.frames, clip.persons, clip.size, clip.fps) == (3, 2, SIZE, 25.0)
    np.testing.assert_array_equal(clip.body_score[0], frames[0]["bodies"]["score"])
    np.testing.assert_array_equal(clip.hands_score[0, 1, 0], frames[0]["hands_score"][1])
    np.testing.assert_array_equal(clip.hands_score[0, 0, 1], frames[0]["hands_score"][2])
    np.testing.assert_array_equal(clip.faces_score[1, 0], frames[1]["faces_score"][0])
    assert not clip.body_score[1, 1].any()
    assert not clip.body_score[2].any()
    del frames[1]["hands_score"]
    clip = read_dwpose(write_pickle(tmp_path / "b.pkl", frames))
    assert clip.hands_score is None
    assert clip.body_score is not None


def test_size_of_the_caller_counts_where_the_file_has_none(tmp_path):
    frame = dwpose_frame()
    path = write_pickle(tmp_path / "a.pkl", [frame])
    assert read_dwpose(path, size=(5, 7)).size == SIZE
    del frame["H"], frame["W"]
    assert read_dwpose(write_pickle(path, [frame]), size=(5, 7)).size == (5, 7)
    assert read_dwpose(path).size is None


def test_musepose_is_dwpose_in_an_array_of_objects(tmp_path):
    frames = [dwpose_frame(2), dwpose_frame(1, seed=1)]
    clip = read_musepose(write_musepose(tmp_path / "a.npy", frames), fps=30.0)
    same_arrays(clip, read_dwpose(write_pickle(tmp_path / "a.pkl", frames)))
    assert clip.fps == 30.0
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(UserError, match="array of type float64"):
        read_musepose(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.array([None, frames[0]]), allow_pickle=True)
    with pytest.raises(UserError, match="frame 0: expected a dict"):
        read_musepose(tmp_path / "c.npy")


@pytest.mark.parametrize("points", [25, 18])
def test_openpose_points_scores_and_order(points, tmp_path):
    one, two = openpose_person(points, 0), openpose_person(points, 1)
    two["pose_keypoints_2d"][2] = 0.1  # the nose is hidden
    two["hand_left_keypoints_2d"] = []
    for number, people in ((0, [one, two]), (1, []), (10, [two])):
        write_json(tmp_path / f"v_{number}_keypoints.json", openpose_frame(*people))
    clip = read_openpose(tmp_path, SIZE, 24.0)
    assert (clip.frames, clip.persons, clip.size, clip.fps) == (3, 2, SIZE, 24.0)
    flat = np.array(one["pose_keypoints_2d"]).reshape(points, 3)
    # Neck, right wrist, left hip, left ear: as named by either layout.
    there = {25: (1, 4, 12, 18), 18: (1, 4, 11, 17)}[points]
    for joint, source in zip((1, 4, 11, 17), there, strict=True):
        np.testing.assert_allclose(clip.body[0, 0, joint], flat[source, :2] / (SIZE[1], SIZE[0]))
        assert clip.body_score[0, 0, joint] == flat[source, 2]
    right = np.array(one["hand_right_keypoints_2d"]).reshape(21, 3)
    np.testing.assert_allclose(clip.hands[0, 0, 1], right[:, :2] / (SIZE[1], SIZE[0]))
    face = np.array(one["face_keypoints_2d"]).reshape(70, 3)
    np.testing.assert_allclose(clip.faces[0, 0], face[:68, :2] / (SIZE[1], SIZE[0]))
    assert np.argwhere(~clip.body_ok[0]).tolist() == [[1, 0]]
    assert not clip.body[0, 1, 0].any()
    assert not clip.hands_ok[0, 1, 0].any()
    assert clip.hands_ok[0, 1, 1].all()
    assert not clip.body_ok[1].any()
    np.testing.assert_array_equal(clip.body[2, 0], clip.body[0, 1])


def test_openpose_needs_the_frame_size(tmp_path):
    frame = openpose_frame(openpose_person())
    path = write_json(tmp_path / "a.json", [frame])
    with pytest.raises(UserError, match="frame size"):
        read_openpose(path)
    sized = frame | {"canvas_height": SIZE[0], "canvas_width": SIZE[1]}
    same_arrays(read_openpose(write_json(tmp_path / "b.json", sized)), read_openpose(path, SIZE))


def smplerx_folder(folder):
    """Frames 1 to 5 of which 2 has two persons, the second one larger, and 4 nobody."""
    for frame, person in ((1, 0), (2, 0), (2, 1), (3, 0), (5, 0)):
        meta = smplerx_meta(30 + 8 * person, 60 + 8 * person)
        write_smplerx(folder, f"{frame:05}_{person}", smplerx_person(10 * frame + person), meta)
    return folder


def test_smplerx_keeps_the_largest_person_and_the_gaps(tmp_path):
    clip = read_smplerx(smplerx_folder(tmp_path), SIZE, 24.0)
    assert clip.present.tolist() == [True, True, True, False, True]
    assert (clip.add_hands_mean, clip.size, clip.fps) == (True, SIZE, 24.0)
    wanted, meta = smplerx_person(21), smplerx_meta(38, 68)
    for name, shape in SMPLERX.items():
        flat = wanted[name].reshape(shape[1:] if shape[0] == 1 else shape)
        np.testing.assert_array_equal(getattr(clip, name)[1], flat)
    np.testing.assert_allclose(clip.focal[1], meta["focal"])
    np.testing.assert_allclose(clip.princpt[1], meta["princpt"])
    arrays = [value for value in vars(clip).values() if isinstance(value, np.ndarray)]
    assert not any(value[3].any() for value in arrays)


def test_smplerx_counts_frames_from_the_pictures(tmp_path):
    smplerx_folder(tmp_path)
    (tmp_path / "img").mkdir()
    for number in range(7):
        (tmp_path / "img" / f"{number:06}.jpg").touch()
    drawn = read_smplerx(tmp_path)
    assert drawn.present.tolist() == [False, True, True, True, False, True, False]
    assert read_smplerx(tmp_path, first=1, frames=6).present.tolist() == [1, 1, 1, 0, 1, 0]
    with pytest.raises(UserError, match="expected frames 2 to 4, found"):
        read_smplerx(tmp_path, first=2, frames=3)
    write_smplerx(tmp_path / "b", "00000_0", smplerx_person(), smplerx_meta())
    assert read_smplerx(tmp_path / "b").present.tolist() == [True]


def test_gvhmr_is_the_body_in_camera_axes(tmp_path):
    content = gvhmr_content(3)
    clip = read_gvhmr(write_gvhmr(tmp_path / "hmr4d_results.pt", content), fps=30.0)
    incam = content["smpl_params_incam"]
    np.testing.assert_array_equal(clip.body_pose, incam["body_pose"].reshape(3, 21, 3))
    for name in ("global_orient", "betas", "transl"):
        np.testing.assert_array_equal(getattr(clip, name), incam[name])
    assert clip.present.all()
    assert clip.add_hands_mean
    assert not clip.left_hand_pose.any()
    np.testing.assert_allclose(clip.focal, np.hypot(*SIZE), rtol=1e-6)
    np.testing.assert_array_equal(clip.princpt, [[SIZE[1] / 2, SIZE[0] / 2]] * 3)
    assert (clip.size, clip.fps) == (SIZE, 30.0)
    content["K_fullimg"][:, 0, 0] *= 1.5
    path = write_gvhmr(tmp_path / "b.pt", content)
    assert read_gvhmr(path).size is None
    assert read_gvhmr(path, size=(8, 9)).size == (8, 9)


def test_hamer_pickle_and_npz_agree(tmp_path):
    frames = [None, hamer_frame(1, 0), hamer_frame(0, seed=1), None, hamer_frame(1, seed=2), None]
    clip = read_hamer(write_pickle(tmp_path / "hamer_info.pkl", frames), SIZE, 24.0)
    assert clip.present.tolist() == [[0, 0], [1, 1], [1, 0], [0, 0], [1, 0], [0, 0]]
    assert clip.right.tolist() == [[0, 0], [1, 0], [0, 0], [0, 0], [1, 0], [0, 0]]
    np.testing.assert_array_equal(clip.vertices[1, 1], frames[1]["all_verts"][1])
    np.testing.assert_array_equal(clip.translation[2, 0], frames[2]["all_cam_t"][0])
    assert not clip.vertices[0].any()
    assert (clip.focal, clip.size, clip.fps) == (None, SIZE, 24.0)
    np.savez(tmp_path / "a.npz", **hamer_arrays(frames))
    same_arrays(read_hamer(tmp_path / "a.npz"), clip)
    more = {"focal": np.array(900), "size": np.array(SIZE), "fps": np.array(30.0)}
    np.savez(tmp_path / "b.npz", **hamer_arrays(frames) | more)
    stored = read_hamer(tmp_path / "b.npz", (1, 2), 24.0)
    assert (stored.focal, stored.size, stored.fps) == (900.0, SIZE, 30.0)


def test_hamer_sides_come_in_many_forms(tmp_path):
    plain = hamer_frame(1, 0)
    wanted = read_hamer(write_pickle(tmp_path / "a.pkl", [plain]))
    forms = ([True, False], [np.float32(1), np.float32(0)], np.array([1.0, 0]), [np.array(1), 0])
    for sides in (*forms, np.array([[1], [0]]), np.array([True, False])):
        frame = plain | {"all_right": sides, "all_verts": np.array(plain["all_verts"])}
        same_arrays(read_hamer(write_pickle(tmp_path / "b.pkl", [frame])), wanted)
    nobody = read_hamer(write_pickle(tmp_path / "c.pkl", [None, None]))
    assert (nobody.frames, nobody.hands) == (2, 0)


def test_tensors_of_torch_beside_the_hands_are_passed_over(tmp_path):
    """As plain pickle writes a tensor: a call of torch on the bytes of a storage."""
    stored = b"ctorch.storage\n_load_from_bytes\n(B\x03\x00\x00\x00abctR"
    hooks = b"ccollections\nOrderedDict\n)R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + b"K\x00))\x89" + hooks + b"tR"
    frame = hamer_frame(1)
    plain = pickle.dumps(frame, 2)
    assert plain[-2:] == b"u."  # SETITEMS and STOP, before which one more item fits

    def with_tensor(key):
        named = b"X" + len(key).to_bytes(4, "little") + key.encode()
        (tmp_path / "a.pkl").write_bytes(b"\x80\x02](" + plain[2:-2] + named + tensor + b"ue.")
        return tmp_path / "a.pkl"

    wanted = read_hamer(write_pickle(tmp_path / "b.pkl", [frame]))
    same_arrays(read_hamer(with_tensor("all_pred_mano_params")), wanted)
    with pytest.raises(UserError, match=r"all_verts: expected numbers .* found Tensor"):
        read_hamer(with_tensor("all_verts"))


def test_kinds_are_guessed_and_read(tmp_path):
    frames, hands = [dwpose_frame()], [None, hamer_frame(1)]
    write_json(tmp_path / "dw" / "0.json", frames[0])
    write_json(tmp_path / "op" / "0.json", openpose_frame(openpose_person()))
    smplerx_folder(tmp_path / "sx")
    np.savez(tmp_path / "h.npz", **hamer_arrays(hands))
    clip = read_hamer(tmp_path / "h.npz")
    save_clip(tmp_path / "clip.npz", clip)
    expected = {
        write_pickle(tmp_path / "a.pkl", frames): ("dwpose", KeypointClip),
        write_json(tmp_path / "a.json", frames): ("dwpose", KeypointClip),
        tmp_path / "dw": ("dwpose", KeypointClip),
        write_musepose(tmp_path / "a.npy", frames): ("musepose", KeypointClip),
        tmp_path / "op": ("openpose", KeypointClip),
        tmp_path / "op" / "0.json": ("openpose", KeypointClip),
        tmp_path / "sx": ("smplerx", BodyClip),
        write_gvhmr(tmp_path / "a.pt", gvhmr_content()): ("gvhmr", BodyClip),
        write_pickle(tmp_path / "h.pkl", hands): ("hamer", HandClip),
        tmp_path / "h.npz": ("hamer", HandClip),
        tmp_path / "clip.npz": ("clip", HandClip),
    }
    for path, (kind, made) in expected.items():
        assert guess_kind(path) == kind, path
        assert type(read_poses(path, size=SIZE)) is made
        if kind != "clip":
            same_arrays(READERS[kind](path, SIZE), read_poses(path, kind, SIZE, 24.0))
    assert {kind for kind, _ in expected.values()} == {*READERS, "clip"}
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match=r"found \.mp4"):
        guess_kind(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"kind among dwpose, .*'wham'"):
        read_poses(tmp_path / "a.pkl", "wham")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="found none"):
        guess_kind(tmp_path / "none")


def test_clips_of_readers_survive_their_files(tmp_path):
    clips = (
        read_dwpose(write_pickle(tmp_path / "a.pkl", [dwpose_frame(2), dwpose_frame()])),
        read_smplerx(smplerx_folder(tmp_path / "sx"), SIZE, 24.0),
        read_hamer(write_pickle(tmp_path / "h.pkl", [None, hamer_frame(1, 0)])),
    )
    for clip in clips:
        save_clip(tmp_path / "c.npz", clip)
        again = read_poses(tmp_path / "c.npz")
        same_arrays(clip, again)
        assert (clip.size, clip.fps) == (again.size, again.fps)
