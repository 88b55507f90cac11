"""One bad case for every finding of the doctor."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from realisdance_jax.checks.case import Case
from realisdance_jax.data.images import save_png
from realisdance_jax.poses.draw_dwpose import draw_dwpose
from realisdance_jax.poses.dwpose_files import read_dwpose
from tests.e2e.doctor_cases import (
    FRAMES,
    HEIGHT,
    WIDTH,
    Material,
    keypoints,
    make_material,
    video,
    with_driver,
)

Spoil = Callable[[Case, Material, Path], Case]

# Every one takes a healthy case, its arrays (to change), and a folder to write to.


def no_drivers(case, material, folder):
    return replace(case, drivers={})


def missing_file(case, material, folder):
    return with_driver(case, "smpl", folder / "gone.mp4")


def broken_video(case, material, folder):
    path = folder / "cut.mp4"
    path.write_bytes(case.drivers["hamer"].read_bytes()[:-500])
    return with_driver(case, "hamer", path)


def damaged_frames(case, material, folder):
    for i in range(FRAMES):
        save_png(folder / "pictures" / f"{i}.png", material.smpl[i])
    (folder / "pictures" / "3.png").write_text("no picture")
    return with_driver(case, "smpl", folder / "pictures")


def absent_condition(case, material, folder):
    return replace(case, drivers={n: p for n, p in case.drivers.items() if n != "hamer"})


def shorter_video(case, material, folder):
    return with_driver(case, "smpl", video(folder / "s.mp4", material.smpl[:-1]))


def shorter_but_trimmed(case, material, folder):
    return replace(shorter_video(case, material, folder), trim=True)


def few_frames(case, material, folder):
    return replace(case, config=replace(case.config, stride=3))


def more_frames_than_used(case, material, folder):
    return replace(case, config=replace(case.config, max_frames=4, window_size=4))


def other_rate(case, material, folder):
    return with_driver(case, "smpl", video(folder / "s.mp4", material.smpl, fps=30))


def no_rate(case, material, folder):
    return replace(case, drivers={"dwpose": case.drivers["dwpose"]})


def impossible_rate(case, material, folder):
    slow = video(folder / "s.mp4", material.smpl, fps=0.05)
    config = replace(case.config, stride=6)
    return replace(case, drivers={"smpl": slow}, config=config)


def other_shape(case, material, folder):
    return with_driver(case, "smpl", video(folder / "s.mp4", material.smpl[:, :, 24:-24]))


def keypoints_without_a_size(case, material, folder):
    records = [{k: v for k, v in r.items() if k not in "HW"} for r in material.records()]
    return replace(case, drivers={"dwpose": keypoints(folder / "d.json", records)})


def no_picture(case, material, folder):
    (folder / "ref.png").write_text("no picture")
    return replace(case, reference=folder / "ref.png")


def small_reference(case, material, folder):
    save_png(folder / "ref.png", np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8))
    return replace(case, reference=folder / "ref.png")


def wide_reference(case, material, folder):
    save_png(folder / "ref.png", np.zeros((HEIGHT, 3 * WIDTH, 3), np.uint8))
    return replace(case, reference=folder / "ref.png")


def silent_audio(case, material, folder):
    return replace(case, audio=case.drivers["smpl"])


def lost_person(case, material, folder):
    material.smpl[1:5] = 0
    return with_driver(case, "smpl", video(folder / "s.mp4", material.smpl))


def one_lost_frame(case, material, folder):
    material.smpl[4] = 0
    return with_driver(case, "smpl", video(folder / "s.mp4", material.smpl))


def one_keypoint_frame_lost(case, material, folder):
    records = material.records()
    records[2]["bodies"]["subset"] = [[-1] * 18]
    return with_driver(case, "dwpose", keypoints(folder / "d.json", records))


def no_keypoints_in_most_frames(case, material, folder):
    records = material.records()
    for record in records[:4]:
        record["bodies"]["subset"] = [[-1] * 18]
    return with_driver(case, "dwpose", keypoints(folder / "d.json", records))


def body_lost_for_long(case, material, folder):
    """For two frames of twelve, then, further on, hands alone for five."""
    records = [record for _ in range(3) for record in material.records()]
    for number in (3, 4, 8, 9, 10, 11, 12):
        records[number]["bodies"]["subset"] = [[-1] * 18]
        if number < 8:
            records[number]["hands"] = (-np.ones((2, 21, 2))).tolist()
    config = replace(case.config, stride=2)
    alone = keypoints(folder / "d.json", records)
    return replace(case, drivers={"dwpose": alone}, config=config)


def hands_and_body_swapped(case, material, folder):
    files = case.drivers
    return replace(case, drivers={**files, "hamer": files["smpl"], "smpl": files["hamer"]})


def no_reference(case, material, folder):
    return replace(case, reference=None)


def reference_of_many_frames(case, material, folder):
    return replace(case, reference_keypoints=case.drivers["dwpose"])


def nothing_to_compare(case, material, folder):
    return replace(case, drivers={"smpl": case.drivers["smpl"]})


def keypoints_that_tell_their_rate(case, material, folder):
    records = [record | {"fps": 30} for record in material.records()]
    return replace(case, drivers={"dwpose": keypoints(folder / "d.json", records)})


def no_hands_at_all(case, material, folder):
    return with_driver(case, "hamer", video(folder / "h.mp4", 0 * material.hamer))


def photo_as_condition(case, material, folder):
    material.smpl[2] = 120
    return with_driver(case, "smpl", video(folder / "s.mp4", material.smpl))


def wrong_look(case, material, folder):
    return replace(case, look="dit")


def dit_for_sd(case, material, folder):
    return with_driver(case, "smpl", video(folder / "s.mp4", make_material("dit").smpl))


def unknown_look(case, material, folder):
    lit = material.smpl.any(axis=-1, keepdims=True)
    grey = np.where(lit, 100 + material.smpl // 3, 0).astype(np.uint8)
    return with_driver(case, "smpl", video(folder / "s.mp4", grey))


def body_in_bgr(case, material, folder):
    return with_driver(case, "smpl", video(folder / "s.mp4", material.smpl[..., ::-1]))


def body_elsewhere(case, material, folder):
    return with_driver(case, "smpl", video(folder / "s.mp4", np.roll(material.smpl, 75, axis=1)))


def hands_in_bgr(case, material, folder):
    return with_driver(case, "hamer", video(folder / "h.mp4", material.hamer[..., ::-1]))


def hands_swapped(case, material, folder):
    swapped = material.hamer[..., [1, 0, 2]]
    return with_driver(case, "hamer", video(folder / "h.mp4", swapped))


def hands_without_gamma(case, material, folder):
    dark = (255 * (material.hamer / 255) ** 2.2).astype(np.uint8)
    return with_driver(case, "hamer", video(folder / "h.mp4", dark))


def hands_elsewhere(case, material, folder):
    moved = np.roll(material.hamer, 70, axis=1)
    return with_driver(case, "hamer", video(folder / "h.mp4", moved))


def drawn(case: Case) -> np.ndarray:
    clip = read_dwpose(case.drivers["dwpose"])
    return np.stack([draw_dwpose(clip, i) for i in range(FRAMES)])


def skeleton_in_bgr(case, material, folder):
    path = video(folder / "d.mp4", drawn(case)[..., ::-1])
    return with_driver(case, "dwpose", path)


def drawn_by_video(case: Case, folder: Path, material: Material, size: tuple[int, int]) -> Case:
    """With the keypoints drawn at height and width `size`, and without the other videos."""
    clip = read_dwpose(keypoints(folder / "d.json", material.records()))
    pictures = np.stack([draw_dwpose(clip, i, size) for i in range(FRAMES)])
    path = video(folder / "drawn.mp4", pictures)
    return replace(case, drivers={"dwpose": path}, reference_keypoints=None)


def half_body(material: Material) -> Material:
    """Head, shoulders and elbows, near enough to fill the frame; neither hands nor legs."""
    head = np.array([[0.5, 0.2], [0.47, 0.17], [0.53, 0.17], [0.44, 0.19], [0.56, 0.19]])
    upper = np.array([[0.5, 0.45], [0.3, 0.46], [0.25, 0.75], [0.7, 0.46], [0.75, 0.75]])
    material.points[:] = -1
    for i in range(FRAMES):
        material.points[i, [0, 14, 15, 16, 17]] = head + 0.01 * i
        material.points[i, [1, 2, 3, 5, 6]] = upper + 0.01 * i
    material.hands[:] = -1
    return material


def skeleton_in_bgr_without_hands(case, material, folder):
    material.hands[:] = -1
    bare = with_driver(case, "dwpose", keypoints(folder / "d.json", material.records()))
    return skeleton_in_bgr(bare, material, folder)


def keypoint_hands_swapped(case, material, folder):
    material.hands = material.hands[:, ::-1]
    records = keypoints(folder / "d.json", material.records())
    return replace(case, drivers={**case.drivers, "dwpose": records})


def bystanders(case, material, folder):
    return with_driver(case, "dwpose", keypoints(folder / "d.json", material.records(2)))


def small_bystander_first(case, material, folder):
    """Someone in the corner, whom none of the other conditions show, is in the first slot."""
    records = material.records(2)
    for record in records:
        candidate = np.array(record["bodies"]["candidate"])
        candidate[:18] *= 0.2
        record["bodies"]["candidate"] = candidate.tolist()
        record["hands"][0] = record["hands"][2] = [[-1, -1]] * 21
    return with_driver(case, "dwpose", keypoints(folder / "d.json", records))


def dancer_at_the_rim(case, material, folder):
    material.points[..., 0] += 0.35
    records = keypoints(folder / "d.json", material.records())
    config = replace(case.config, size=(256, 96), window_size=4)
    return replace(case, drivers={"dwpose": records}, config=config)


def reference(case, folder, change) -> Case:
    record = json.loads(case.reference_keypoints.read_text())[0]
    points = np.array(record["bodies"]["candidate"])
    record["bodies"]["candidate"] = change(points).tolist()
    return replace(case, reference_keypoints=keypoints(folder / "r.json", [record]))


def larger_reference(case, material, folder):
    return reference(case, folder, lambda points: points[1] + 2.5 * (points - points[1]))


def somewhat_larger_reference(case, material, folder):
    return reference(case, folder, lambda points: points[1] + 1.5 * (points - points[1]))


def reference_elsewhere(case, material, folder):
    return reference(case, folder, lambda points: points + np.array([0.25, 0]))


def reference_without_a_person(case, material, folder):
    record = json.loads(case.reference_keypoints.read_text())[0]
    record["bodies"]["subset"] = [[-1] * 18]
    return replace(case, reference_keypoints=keypoints(folder / "r.json", [record]))


def reference_without_a_torso(case, material, folder):
    record = json.loads(case.reference_keypoints.read_text())[0]
    record["bodies"]["subset"] = [[0, *[-1] * 17]]
    return replace(case, reference_keypoints=keypoints(folder / "r.json", [record]))


BAD: list[tuple[Spoil, str]] = [
    (no_drivers, "error files: no condition is given"),
    (missing_file, "error files: gone.mp4: .*no such file"),
    (broken_video, "error files: cut.mp4"),
    (damaged_frames, "error files: 3.png: expected a picture"),
    (absent_condition, "warning files: not given, black frames instead"),
    (shorter_video, "error length: 6 frames in dwpose, 6 frames in hamer, 5 frames in smpl"),
    (shorter_but_trimmed, "warning length: .*--trim uses the first 5"),
    (few_frames, "warning length: 2 frames are used of 6, less than a window of 6"),
    (more_frames_than_used, "note length: 4 of 6 frames .*--max-frames"),
    (other_rate, "warning rate: 24 fps in hamer, 30 fps in smpl"),
    (no_rate, "warning rate: no file tells"),
    (impossible_rate, "error rate: the output would have 0.008"),
    (other_shape, "error size: .*256x192 in dwpose.*256x144 in smpl"),
    (keypoints_without_a_size, "error size: no H and W"),
    (no_picture, "error reference: ref.png: expected a picture"),
    (small_reference, "warning reference: its 128x96 crop is enlarged 2.0 times"),
    (wide_reference, "note reference: 67% of the picture is cropped away"),
    (silent_audio, "error audio: .*no audio stream"),
    (lost_person, r"error empty: 4 of 6 used frames are empty \(frames 1, 2, 3, 4\)"),
    (one_lost_frame, r"warning empty: 1 of 6 used frames are empty \(frame 4\)"),
    (no_keypoints_in_most_frames, "error empty: 4 of 6 used frames"),
    (one_keypoint_frame_lost, r"warning empty: 1 of 6 .*\(frame 2\).*mend gaps"),
    (
        body_lost_for_long,
        "warning empty: 4 of 9 .* show no body .* 3 of them still hands.*cut them",
    ),
    (hands_and_body_swapped, "error files: --hamer and --smpl look swapped"),
    (no_reference, "warning reference: not given"),
    (reference_of_many_frames, "note framing: frame 0 of 6 is used"),
    (nothing_to_compare, "note framing: --ref-dwpose nothing to compare"),
    (keypoints_that_tell_their_rate, "note rate: the output has 30 fps"),
    (no_hands_at_all, "warning empty: 6 of 6 used frames"),
    (photo_as_condition, "error background: frame 2: no black background"),
    (wrong_look, "warning look: looks like `sd`, these weights were trained with `dit`"),
    (dit_for_sd, "warning look: looks like `dit`, these weights were trained with `sd`"),
    (unknown_look, "warning look: neither"),
    (body_in_bgr, "error channels: the body's colours"),
    (body_elsewhere, "warning register: only .* of the DWPose joints lie on the body"),
    (hands_in_bgr, "error channels: hands are blue"),
    (hands_swapped, "error hands: left and right are swapped: the red hand"),
    (hands_without_gamma, "warning look: other to main channel 0.5"),
    (hands_elsewhere, "warning register: hands are .* away"),
    (skeleton_in_bgr, "error channels: the skeleton's colours"),
    (skeleton_in_bgr_without_hands, "error channels: the skeleton's colours"),
    (keypoint_hands_swapped, "error hands: the first of `hands` is at the right wrist"),
    (bystanders, "warning people: 6 of 6 used frames show several people"),
    (small_bystander_first, "warning people: 6 of 6 .*--person track"),
    (dancer_at_the_rim, "warning crop: in .* cuts off more than 20%"),
    (larger_reference, r"warning framing: .*2\.[45].* times smaller than the reference's"),
    (somewhat_larger_reference, r"note framing: .*1\.[45].* times smaller"),
    (reference_elsewhere, "warning framing: .*2[345]% of the width to the left"),
    (reference_without_a_person, "error framing: .*expected a person in frame 0"),
    (reference_without_a_torso, "warning framing: .*not compared"),
]
