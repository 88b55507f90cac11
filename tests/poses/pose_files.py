"""Files as the estimators write them, with made-up poses."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.utils.torch_files.torchzip import write_torch_zip

SIZE = (96, 64)


def dwpose_frame(persons: int = 1, seed: int = 0, scores: bool = True) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    frame: dict[str, Any] = {
        "bodies": {
            "candidate": random.uniform(0.2, 0.8, (18 * persons, 2)),
            "subset": np.arange(18.0 * persons).reshape(persons, 18),
        },
        "hands": random.uniform(0.2, 0.8, (2 * persons, 21, 2)),
        "faces": random.uniform(0.2, 0.8, (persons, 68, 2)),
        "H": SIZE[0],
        "W": SIZE[1],
    }
    if scores:
        frame["bodies"]["score"] = random.uniform(0.3, 1, (persons, 18))
        frame["hands_score"] = random.uniform(0.3, 1, (2 * persons, 21))
        frame["faces_score"] = random.uniform(0.3, 1, (persons, 68))
    return frame


def listed(value: Any) -> Any:
    """The same with lists for arrays, as JSON has it."""
    if isinstance(value, dict):
        return {key: listed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [listed(entry) for entry in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def write_pickle(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(listed(content)))
    return path


def write_musepose(path: Path, frames: Sequence[dict]) -> Path:
    np.save(path, np.array(frames), allow_pickle=True)
    return path


def openpose_person(points: int = 25, seed: int = 0) -> dict[str, list[float]]:
    """Pixels of a frame of `SIZE`; every score is at least 0.3."""
    random = np.random.default_rng(seed)
    counts = {"pose": points, "hand_left": 21, "hand_right": 21, "face": 70}
    person: dict[str, Any] = {"person_id": [-1]}
    for name, count in counts.items():
        flat = random.uniform(10, 60, (count, 3))
        flat[:, 2] = random.uniform(0.3, 1, count)
        person[f"{name}_keypoints_2d"] = flat.ravel().tolist()
    return person


def openpose_frame(*people: dict) -> dict[str, Any]:
    return {"version": 1.3, "people": list(people)}


SMPLERX = {
    "global_orient": (1, 3),
    "body_pose": (21, 3),
    "left_hand_pose": (15, 3),
    "right_hand_pose": (15, 3),
    "jaw_pose": (1, 3),
    "leye_pose": (1, 3),
    "reye_pose": (1, 3),
    "betas": (1, 10),
    "expression": (1, 10),
    "transl": (1, 3),
}


def smplerx_person(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        key: random.uniform(-1, 1, shape).astype(np.float64 if "eye" in key else np.float32)
        for key, shape in SMPLERX.items()
    }


def smplerx_meta(width: float = 30.0, height: float = 60.0) -> dict[str, Any]:
    return {
        "focal": [5000 / 192 * width, 5000 / 256 * height],
        "princpt": [20 + width / 2, 10 + height / 2],
        "bbox": [20.0, 10.0, width, height],
        "bbox_mmdet": [22.0, 12.0, width / 1.25, height / 1.25],
        "bbox_id": 0,
        "img_path": "a/000001.jpg",
    }


def write_smplerx(folder: Path, name: str, person: dict, meta: dict) -> None:
    (folder / "smplx").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "smplx" / f"{name}.npz", **person)
    write_json(folder / "meta" / f"{name}.json", meta)


def gvhmr_content(frames: int = 3, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    shapes = {"body_pose": (63,), "betas": (10,), "global_orient": (3,), "transl": (3,)}

    def parameters() -> dict[str, np.ndarray]:
        return {
            key: random.uniform(-1, 1, (frames, *shape)).astype(np.float32)
            for key, shape in shapes.items()
        }

    camera = np.eye(3, dtype=np.float32)
    camera[:2, 2] = SIZE[1] / 2, SIZE[0] / 2
    camera[[0, 1], [0, 1]] = np.hypot(*SIZE)
    return {
        "smpl_params_global": parameters(),
        "smpl_params_incam": parameters(),
        "K_fullimg": np.repeat(camera[None], frames, 0),
        "net_outputs": {"static_conf_logits": random.uniform(size=(1, frames, 6)), "x": None},
    }


def write_gvhmr(path: Path, content: dict) -> Path:
    write_torch_zip(path, content)
    return path


def hamer_frame(*right: int, seed: int = 0) -> dict[str, list]:
    random = np.random.default_rng(seed)
    return {
        "all_verts": [random.uniform(-0.1, 0.1, (778, 3)).astype(np.float32) for _ in right],
        "all_cam_t": [random.uniform(1, 9, 3).astype(np.float32) for _ in right],
        "all_right": list(right),
    }


def hamer_arrays(frames: Sequence[dict | None]) -> dict[str, np.ndarray]:
    """The npz form of the same frames."""
    some = [(number, frame) for number, frame in enumerate(frames) if frame]
    owner = [number for number, frame in some for _ in frame["all_right"]]
    arrays = {
        key: np.array([row for _, frame in some for row in frame[key]])
        for key in ("all_verts", "all_cam_t", "all_right")
    }
    return {"frame": np.array(owner), "frames": np.array(len(frames)), **arrays}
