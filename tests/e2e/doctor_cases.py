"""A healthy case of a synthetic person, painted as the real conditions are."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from realisdance_jax.checks.case import Case
from realisdance_jax.data.images import save_png
from realisdance_jax.data.video_io import VideoWriter
from realisdance_jax.poses.body_models import smplx_model
from realisdance_jax.poses.landmarks import landmark_vertices
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.smpl_cs import harmonic_colours, paint_smpl_cs
from realisdance_jax.poses.synthetic_models import synthetic_smplx
from realisdance_jax.sampling.config import SampleConfig

FRAMES, HEIGHT, WIDTH = 6, 256, 192
LEFT_HAND, RIGHT_HAND = (170, 233, 170), (230, 171, 170)

# OpenPose-18 joints among those of SMPL-X; nose, eyes and ears are all at the head.
JOINTS = (15, 12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7, 15, 15, 15, 15)


@dataclass
class Material:
    """Arrays of a clip, free to be changed before they are written.

    smpl, hamer: pictures. points: OpenPose-18 joints, hands: left, right, as fractions; what is at
    (-1, -1) is hidden.
    """

    smpl: np.ndarray
    hamer: np.ndarray
    points: np.ndarray
    hands: np.ndarray

    def records(self, persons: int = 1) -> list[dict]:
        """DWPose frames; further persons are the first one again."""
        number = np.arange(18 * persons).reshape(persons, 18)
        return [
            {
                "bodies": {
                    "candidate": np.tile(body, (persons, 1)).tolist(),
                    "subset": np.where((body == -1).all(axis=1), -1, number).tolist(),
                },
                "hands": np.repeat(hands, persons, axis=0).tolist(),
                "H": HEIGHT,
                "W": WIDTH,
            }
            for body, hands in zip(self.points, self.hands, strict=True)
        ]


def make_material(look: str = "sd") -> Material:
    """A person in a T-pose who sways."""
    body = smplx_model(synthetic_smplx(2000))
    colours = harmonic_colours(body.template, body.faces, landmark_vertices(2000))
    camera = Camera((300.0, 300.0), (WIDTH / 2, HEIGHT / 2))
    smpl, hamer, points, hands = [], [], [], []
    for i in range(FRAMES):
        place = np.float32([0.04 * i - 0.1, -0.35, 3.2])
        vertices = body.template * np.float32([1, -1, -1]) + place
        smpl.append(paint_smpl_cs(vertices, body.faces, colours, camera, (HEIGHT, WIDTH), look))
        joints = (body.joint_regressor @ body.template) * np.float32([1, -1, -1]) + place
        pixels = 300 * joints[:, :2] / joints[:, 2:] + (WIDTH / 2, HEIGHT / 2)
        points.append(pixels[list(JOINTS)] / (WIDTH, HEIGHT))
        wrists = pixels[[20, 21]]
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for wrist, colour in zip(wrists, (LEFT_HAND, RIGHT_HAND), strict=True):
            cv2.circle(picture, wrist.round().astype(int).tolist(), 9, colour, -1)
        hamer.append(picture)
        spread = np.random.default_rng(0).uniform(-6, 6, (21, 2))
        spread[0] = 0
        hands.append((wrists[:, None] + spread) / (WIDTH, HEIGHT))
    return Material(*(np.stack(arrays) for arrays in (smpl, hamer, points, hands)))


def copy(material: Material) -> Material:
    return Material(*(array.copy() for array in vars(material).values()))


def video(path: Path, pictures: np.ndarray, fps: float = 24) -> Path:
    with VideoWriter(path, fps, pictures.shape[1:3]) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def keypoints(path: Path, records: list[dict]) -> Path:
    path.write_text(json.dumps(records))
    return path


def make_case(folder: Path, material: Material) -> Case:
    """All files of a case of 256 x 192 pixels, every frame used."""
    folder.mkdir(parents=True, exist_ok=True)
    reference = folder / "ref.png"
    save_png(reference, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    records = material.records()
    drivers = {
        "dwpose": keypoints(folder / "dwpose.json", records),
        "hamer": video(folder / "hamer.mp4", material.hamer),
        "smpl": video(folder / "smpl.mp4", material.smpl),
    }
    config = SampleConfig(size=(HEIGHT, WIDTH), stride=1, window_size=FRAMES, window_overlap=2)
    first = keypoints(folder / "ref.json", records[2:3])
    return Case(
        reference=reference, drivers=drivers, reference_keypoints=first, config=config, memory=2**36
    )


def with_driver(case: Case, name: str, path: Path) -> Case:
    return replace(case, drivers={**case.drivers, name: path})
