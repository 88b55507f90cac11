"""Scenes, their truth and inputs, and the numbers made of them."""

import dataclasses
import shutil

import numpy as np
import pytest

from realisdance_jax.evaluation.gestures import gesture_metrics, scene_hands
from realisdance_jax.evaluation.measure import (
    CEILING,
    Networks,
    Row,
    compare,
    corrupted,
    gate_metrics,
    pixel_metrics,
    set_distances,
    summarise,
)
from realisdance_jax.evaluation.protocols import (
    EvalConfig,
    dancer_scenes,
    file_scenes,
    hit_frames,
    scene_inputs,
    scene_truth,
)
from realisdance_jax.utils.errors import UserError
from tests.data.folders import write_folder

SIZE = (64, 48)
ALL = ("dwpose", "hamer", "smpl")
ROBUST = EvalConfig("robust", clips=1, frames=4, stride=2, size=SIZE, strengths=(0.5, 1.0))


def test_scenes_pair_models_by_clip_and_corrupt_what_they_can_see():
    scenes = dancer_scenes(ROBUST, ("dwpose", "smpl"))
    cases = [scene.case for scene in scenes]
    assert cases == ["true", "dwpose 0.5", "dwpose 1", "smpl 0.5", "smpl 1"]
    assert all(scene.source.name == "dancer/1000000-1000000" for scene in scenes)
    assert scenes[0].indices == (2, 4, 6, 8)
    assert [int(hit_frames(scene, "dwpose").sum()) for scene in scenes[:3:2]] == [0, 4]
    assert not hit_frames(scenes[2], "smpl").any()


def test_kinds_of_corruption_are_cases_of_their_own():
    config = dataclasses.replace(ROBUST, strengths=(0.5,), kinds=("all", "jitter"))
    scenes = dancer_scenes(config, ("dwpose",))
    assert [scene.case for scene in scenes] == ["true", "dwpose 0.5", "dwpose jitter 0.5"]
    assert scenes[2].corruption.kinds == ("jitter",)
    hit = [hit_frames(scene, "dwpose").tolist() for scene in scenes]
    assert hit[1] == hit[2]


def test_chosen_cases_are_those_of_all():
    every = dataclasses.replace(ROBUST, kinds=("all", "jitter"))
    known = {scene.case: scene for scene in dancer_scenes(every, ALL)}
    chosen = ("true", "hamer 0.5", "dwpose jitter 1")
    scenes = dancer_scenes(dataclasses.replace(ROBUST, cases=chosen), ALL)
    assert [scene.case for scene in scenes] == list(chosen)
    assert [scene.corruption for scene in scenes] == [known[case].corruption for case in chosen]
    with pytest.raises(UserError, match="cases: expected conditions of the models, dwpose, found"):
        dancer_scenes(dataclasses.replace(ROBUST, cases=chosen), ("dwpose",))


def test_corruption_changes_one_condition_and_no_truth():
    true, wrong = (dancer_scenes(ROBUST, ALL)[place] for place in (0, 2))
    assert wrong.case == "dwpose 1"
    a, b = (scene_inputs(scene, SIZE, ALL) for scene in (true, wrong))
    np.testing.assert_array_equal(a.reference, b.reference)
    x, y = (np.stack(list(inputs.conditions)) for inputs in (a, b))
    assert x.shape == (4, *SIZE, 9)
    assert (x[..., :3] != y[..., :3]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(x[..., 3:], y[..., 3:])
    truth = scene_truth(wrong, SIZE)
    np.testing.assert_array_equal(truth.frames, scene_truth(true, SIZE).frames)
    assert set(truth.masks) == {"person", "hands", "face"}
    assert (truth.masks["hands"] <= truth.masks["person"]).mean() > 0.99


def test_hands_of_the_truth_are_right_and_those_of_other_renders_wrong():
    config = dataclasses.replace(ROBUST, frames=3, size=(96, 72), strengths=(1.0,))
    true, wrong = dancer_scenes(config, ALL)[:2]
    hands = scene_hands(true)
    assert hands
    assert scene_hands(wrong) is None
    truth = scene_truth(true, config.size).frames
    assert gesture_metrics(truth, hands) == {"gesture_right": 1.0}
    assert gesture_metrics(truth // 2 + 40, hands)["gesture_right"] > 0.5
    other = truth.copy()
    top, bottom, left, right = hands[0].box
    other[hands[0].frame, top:bottom, left:right] = hands[0].crops[2]
    found = gesture_metrics(other, hands[:1])
    assert found == {"gesture_right": 0.0}
    assert np.isnan(gesture_metrics(truth, ())["gesture_right"])


def test_the_truth_itself_is_perfect_and_errors_stay_in_their_region():
    truth = scene_truth(dancer_scenes(ROBUST, ALL)[0], SIZE)
    perfect = pixel_metrics(truth.frames, truth, "disco")
    assert perfect["psnr"] == perfect["psnr_hands"] == CEILING
    assert perfect["ssim"] == pytest.approx(1)
    assert perfect["jitter_person"] == perfect["disco_l1"] == 0
    wrong = np.where(truth.masks["hands"][..., None], 255 - truth.frames, truth.frames)
    found = pixel_metrics(wrong, truth, "dancer")
    assert found["psnr_hands"] < found["psnr_person"] < found["psnr"] < CEILING
    assert found["psnr_face"] > 50
    assert "disco_l1" not in found


def test_clips_of_a_folder(tmp_path):
    folder = write_folder(tmp_path, 2)
    config = EvalConfig("disco", clips=5, frames=3, stride=1, size=SIZE)
    scenes = file_scenes(config, str(folder), ALL)
    assert [scene.number for scene in scenes] == [0, 1]
    truth = scene_truth(scenes[0], SIZE)
    np.testing.assert_array_equal(truth.frames[0], truth.reference)
    assert set(truth.masks) == {"person", "hands"}
    (alone, _) = file_scenes(config, str(folder), ("dwpose",))
    for name, mask in scene_truth(alone, SIZE).masks.items():
        np.testing.assert_array_equal(mask, truth.masks[name])
    inputs = scene_inputs(scenes[0], SIZE, ("dwpose",))
    assert np.stack(list(inputs.conditions)).shape == (3, *SIZE, 3)
    with pytest.raises(UserError, match="expected at least 301 frames"):
        file_scenes(dataclasses.replace(config, stride=150), str(folder), ALL)
    shutil.rmtree(folder / "hamer")
    (fewer, _) = file_scenes(config, str(folder), ("dwpose", "smpl"))
    assert set(scene_truth(fewer, SIZE).masks) == {"person"}
    with pytest.raises(UserError, match="hamer: expected hamer of 2 clips"):
        file_scenes(config, str(folder), ALL)
    with pytest.raises(UserError, match="expected a folder with video/"):
        file_scenes(config, str(folder / "smpl"), ALL)


def test_summaries_and_differences_pair_clips():
    rows = [
        Row(model, "true", clip, {"psnr": 10.0 * clip + better, "gate": float("nan")})
        for model, better in (("ours", 2.0), ("base", 0.0))
        for clip in range(7)
    ]
    (ours, base) = summarise(rows, 0)
    assert (ours["mean"], base["mean"], ours["n"]) == (32.0, 30.0, 7)
    assert ours["low"] < 32 < ours["high"]
    (found,) = compare(rows[:-1], ["ours", "base"], 0)
    assert (found["mean"], found["low"], found["high"], found["n"]) == (2.0, 2.0, 2.0, 6)
    assert found["clear"]
    (few,) = compare(rows[:-2], ["ours", "base"], 0)
    assert (few["mean"], few["n"], few["clear"]) == (2.0, 5, False)


def test_wrong_poses_are_held_against_true_ones_of_the_same_clip():
    rows = [
        Row("ours", case, clip, {"psnr": 10.0 * clip + better})
        for case, better in (("smpl 0.5", 0.0), ("true", 3.0))
        for clip in range(6)
    ]
    (found,) = corrupted([*rows, Row("copy", "true", 0, {"psnr": 1.0})], 0)
    assert (found["model"], found["case"], found["metric"]) == ("ours", "smpl 0.5", "psnr")
    assert (found["mean"], found["high"], found["n"], found["clear"]) == (-3.0, -3.0, 6, True)


def test_gates_on_wrong_frames_apart():
    hit = {"dwpose": np.array([False, True, True])}
    weights = {"dwpose": np.array([0.9, 0.1, 0.3]), "smpl": np.array([0.5, 0.5, 0.5])}
    found = gate_metrics(weights, hit)
    assert found["gate_dwpose_intact"] == 0.9
    assert found["gate_dwpose_wrong"] == pytest.approx(0.2)
    assert found["gate_smpl"] == 0.5
    assert "gate_smpl_wrong" not in found


def test_networks_of_published_metrics():
    """Stand-ins: the true networks are tested by themselves."""
    networks = Networks(
        lambda a, b: np.abs(a - b).mean(axis=(1, 2, 3)),
        lambda frames: np.asarray(frames, np.float32)[:, ::16, ::16].reshape(len(frames), -1),
        lambda clips: np.asarray(clips)[:, :, ::50, ::50].mean(axis=1).reshape(len(clips), -1),
        lambda clips: np.asarray(clips)[:, :, ::100, ::100].mean(axis=1).reshape(len(clips), -1),
    )
    config = dataclasses.replace(ROBUST, protocol="dancer", frames=17, stride=1)
    truth = scene_truth(dancer_scenes(config, ALL)[0], SIZE)
    distances = networks.distances(255 - truth.frames, truth)
    assert distances["lpips"] == pytest.approx(2 * distances["lpips_disco"])
    true = networks.features(truth.frames)
    assert {name: len(rows) for name, rows in true.items()} == {
        **{"fid": 17, "fid_vid_overlapping": 2, "fid_vid_per_video": 1},
        **{"fvd_overlapping": 2, "fvd_per_video": 1},
    }
    found = set_distances([(true, true)])
    assert set(found) == {"fid", "fid_vid_overlapping", "fvd_overlapping"}
    assert all(abs(distance["value"]) < 1e-2 for distance in found.values())
    assert found["fid"]["n"] == 17


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frames": 2}, "frames: expected at least 3"),
        ({"size": (60, 48)}, "size: expected"),
        ({"strengths": (0.0,)}, "strengths"),
        ({"kinds": ("much",)}, "kinds: expected some of all, blank, .*, found much"),
        ({"cases": ("depth 0.5",)}, "cases: expected true, or .*, found 'depth 0.5'"),
        ({"cases": ("dwpose",)}, "cases: expected true, or .*, found 'dwpose'"),
        ({"cases": ("dwpose 0.50",)}, "expected the strength 0.5 in 'dwpose 0.50'"),
        ({"cases": ("true", "true")}, "cases: expected each once, found true, true"),
        ({"cases": ("hamer 1.5",)}, "cases: expected true, or .*, found 'hamer 1.5'"),
        ({"cases": ("hamer much 0.5",)}, "cases: expected true, or .*, found 'hamer much 0.5'"),
        ({"protocol": "dancer", "cases": ("true",)}, "cases: expected none in the protocol dancer"),
        ({"split": "val"}, "split"),
    ],
)
def test_bad_options(change, reason):
    with pytest.raises(UserError, match=reason):
        dataclasses.replace(ROBUST, **change)
