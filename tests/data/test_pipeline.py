"""Batches: a function of the step, whatever the workers and hosts; unreadable clips replaced."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.data.catalogue import dataset_fingerprint
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from realisdance_jax.utils.errors import UserError
from tests.data.folders import copy_clip, truncate, write_clip, write_folder
from tests.refusals import refusal

SMALL = DataConfig(
    batch=4, frames=3, stride=2, size=(32, 24), synthetic_clips=7, synthetic_frames=9
)


def batches(config: DataConfig, steps: int, **options) -> list[dict]:
    with make_batches(config, seed=options.pop("seed", 3), **options) as iterator:
        return [next(iterator) for _ in range(steps)]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def joined(parts: list[dict]) -> dict:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def ids(config: DataConfig, steps: int, **options) -> list[int]:
    return [int(n) for batch in batches(config, steps, **options) for n in batch["sample_id"]]


def test_shapes_types_and_ranges():
    (batch,) = batches(SMALL, 1)
    shapes = {key: (value.shape, value.dtype.name) for key, value in batch.items()}
    assert shapes == {
        "video": ((4, 3, 32, 24, 3), "float32"),
        "reference": ((4, 32, 24, 3), "float32"),
        "encoder_image": ((4, 320, 240, 3), "float32"),
        "conditions": ((4, 3, 32, 24, 9), "float32"),
        "sample_id": ((4,), "int64"),
        "draw_hash": ((4,), "int64"),
    }
    for key, low, high in (("video", -1, 1), ("reference", -1, 1), ("conditions", 0, 1)):
        assert low <= batch[key].min() < batch[key].max() <= high
    picture = batch["encoder_image"] * IMAGENET_STD + IMAGENET_MEAN
    assert -1e-6 <= picture.min() < picture.max() <= 1 + 1e-6
    # All three conditions are there, each in its three channels.
    assert np.all(batch["conditions"].reshape(-1, 3, 3).max(axis=(0, 2)) > 0.5)


def test_the_position_follows_from_the_step_for_any_number_of_hosts():
    whole = batches(SMALL, 5)
    for hosts in ([[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0, 3], [1, 2]], [[3], [0], [2], [1]]):
        parts = [batches(SMALL, 3, start_step=2, rows=rows) for rows in hosts]
        order = np.argsort(np.concatenate(hosts))
        for step in range(3):
            together = joined([part[step] for part in parts])
            assert same({key: value[order] for key, value in together.items()}, whole[2 + step])
    assert not same(batches(SMALL, 1, seed=4)[0], whole[0])


def test_every_epoch_has_every_clip_in_a_new_order():
    config = dataclasses.replace(SMALL, batch=7)
    epochs = [ids(config, 1, start_step=step) for step in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    ordered = dataclasses.replace(config, shuffle=False)
    assert ids(ordered, 2) == [*range(7), *range(7)]


def test_a_clip_is_drawn_from_anew_each_time():
    config = dataclasses.replace(SMALL, batch=1, synthetic_clips=1, synthetic_frames=60)
    hashes = {batch["draw_hash"].item() for batch in batches(config, 12)}
    assert len(hashes) > 8


def test_the_hash_of_a_draw_knows_the_clip(flawed):
    """Frames and crops alone are often alike: here there is one choice of them."""
    one = dataclasses.replace(SMALL, batch=7, frames=9, stride=1, start=0, reference="first")
    (batch,) = batches(one, 1)
    assert len(set(batch["draw_hash"].tolist())) == 7
    config = dataclasses.replace(flawed_config(flawed), start=0, reference="first")
    rows = [batches(config, 5, seed=1), batches(config, 5, seed=1)]
    hashes = [[h for batch in part for h in batch["draw_hash"].tolist()] for part in rows]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 40  # a clip, and again in place of one that is unreadable


def test_a_fixed_gap_bears_a_clip_that_cannot_be_read(flawed):
    """It is replaced when it is met, as with any gap."""
    config = dataclasses.replace(flawed_config(flawed), fixed_gap=True)
    assert len(batches(config, 2)) == 2


def test_mixtures_have_their_shares(tmp_path):
    write_folder(tmp_path, 2, frames=5)
    sources = ("synthetic", str(tmp_path))
    config = dataclasses.replace(SMALL, sources=sources, weights=(1.0, 3.0))
    drawn = Counter(ids(config, 10))
    assert sum(drawn[n] for n in range(7)) == 10
    assert drawn[7] == drawn[8] == 15
    by_size = Counter(ids(dataclasses.replace(config, weights=()), 9))
    assert set(by_size.values()) == {4}
    with make_batches(config, seed=0) as iterator:
        assert iterator.clips == 9
        assert iterator.fingerprint() == dataset_fingerprint(config)
        assert [iterator.name(n) for n in (0, 6, 7, 8)] == [
            "synthetic: synthetic/0",
            "synthetic: synthetic/6",
            f"{tmp_path}: 000",
            f"{tmp_path}: 001",
        ]


def test_the_image_stage_takes_pairs():
    config = dataclasses.replace(SMALL, frames=1)
    for batch in batches(config, 3):
        assert batch["video"].shape == (4, 1, 32, 24, 3)
        assert all(
            np.abs(target[0] - reference).max() > 0.1
            for target, reference in zip(batch["video"], batch["reference"], strict=True)
        )


def test_conditions_can_be_left_out():
    whole = batches(SMALL, 1)[0]["conditions"]
    config = dataclasses.replace(SMALL, conditions=("dwpose", "smpl"))
    np.testing.assert_array_equal(
        batches(config, 1)[0]["conditions"], whole[..., [0, 1, 2, 6, 7, 8]]
    )


@pytest.fixture(scope="module")
def flawed(tmp_path_factory) -> Path:
    """Forty clips, one of them cut off in the middle of its film."""
    root = tmp_path_factory.mktemp("flawed")
    write_clip(root, "000", frames=5)
    for number in range(1, 40):
        copy_clip(root, "000", f"{number:03}")
    truncate(root / "video" / "017.mp4")
    return root


def flawed_config(root: Path) -> DataConfig:
    return DataConfig(
        sources=(str(root),), batch=8, frames=2, stride=1, size=(16, 16), conditions=("smpl",)
    )


def test_a_corrupt_video_in_an_epoch_is_replaced_counted_and_named(flawed):
    config = flawed_config(flawed)
    with make_batches(config, seed=1) as iterator:
        seen = [next(iterator)["sample_id"] for _ in range(5)]
        assert list(iterator.unreadable) == ["017"]
        assert "017.mp4: expected" in iterator.unreadable["017"]
    drawn = np.concatenate(seen)
    missing = set(range(40)) - set(drawn.tolist())
    assert missing == {17}
    # Resumed, on two hosts, with the list of the earlier part: the same replacement.
    step = next(n for n in range(5) if len(set(drawn[: 8 * n + 8].tolist())) <= 8 * n + 7)
    options = {"start_step": step, "unreadable": {"017": "was cut"}}
    hosts = (range(4), range(4, 8))
    parts = [batches(config, 1, seed=1, rows=rows, **options)[0] for rows in hosts]
    np.testing.assert_array_equal(joined(parts)["sample_id"], seen[step])


def test_too_many_unreadable_clips_stop_the_run(flawed, tmp_path):
    config = flawed_config(flawed)
    with make_batches(config, seed=1, unreadable={"a": ""}) as iterator:
        for _ in range(5):
            next(iterator)
        iterator.check(iterator.unreadable)
        found = {"b": "", **iterator.unreadable}  # of another host
        text = refusal(iterator.check, found)
    assert text.startswith("3 of 40 clips are unreadable, more than 5%; the last one: 017: ")
    write_folder(tmp_path, 1, frames=5)
    truncate(tmp_path / "video" / "000.mp4")
    with pytest.raises(UserError, match="10 clips in turn are unreadable"):
        batches(flawed_config(tmp_path), 1)


def test_clips_that_are_too_short(tmp_path):
    write_folder(tmp_path, 2, frames=4)
    short = dataclasses.replace(SMALL, sources=(str(tmp_path),), fixed_gap=True)
    with pytest.raises(UserError, match="000: expected at least 5 frames, found 4"):
        make_batches(short, seed=0)
    assert len(ids(dataclasses.replace(short, fixed_gap=False), 1)) == 4


def test_bad_options_are_one_line(tmp_path):
    for change, reason in (
        ({"sources": ()}, "sources: expected at least one"),
        ({"sources": ("synthetic",), "weights": (1.0, 2.0)}, "weights: expected 1 of them"),
        ({"weights": (0.0,)}, "weights: expected positive"),
        ({"size": (30, 24)}, "multiples of 8, found 30x24"),
        ({"conditions": ("smpl", "dwpose")}, "in this order"),
        ({"conditions": ()}, "conditions: expected some"),
        ({"reference": "last"}, "reference: expected one of random, first"),
        ({"crop_scale": (0.9, 0.5)}, "crop_scale: expected two rising"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale: expected two rising"),
        ({"flip": 1.5}, "flip: expected 0 to 1, found 1.5"),
        ({"stride": 0}, "stride: expected at least 1, found 0"),
        ({"start": -1}, "start: expected at least 0"),
    ):
        with pytest.raises(UserError, match=reason):
            dataclasses.replace(SMALL, **change)
    for rows in ([4], [-1], []):
        with pytest.raises(ValueError, match="rows: expected some from 0 to 3"):
            make_batches(SMALL, seed=0, rows=rows)
    with pytest.raises(UserError, match="seed: expected"):
        make_batches(SMALL, seed=-1)
    picture = tmp_path / "list.txt"
    picture.write_text("a/img/b,1.png,2.png\n")
    images = dataclasses.replace(SMALL, sources=(str(picture),), smpl_root="x")
    with pytest.raises(UserError, match="set frames to 1 for the image stage"):
        make_batches(images, seed=0)


def test_the_fingerprint_knows_the_content_and_not_the_place(tmp_path):
    write_folder(tmp_path / "a", 2, frames=4)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a, b = (DataConfig(sources=(str(tmp_path / name),)) for name in "ab")
    first = dataset_fingerprint(a)
    assert first == dataset_fingerprint(b)
    assert first == dataset_fingerprint(dataclasses.replace(a, batch=2, flip=0.5))
    truncate(tmp_path / "b" / "smpl" / "001.mp4")
    assert dataset_fingerprint(b) != first
    other = dataclasses.replace(SMALL, synthetic_clips=8)
    assert dataset_fingerprint(other) != dataset_fingerprint(SMALL)


SCRIPT = """
import json, multiprocessing, sys, time
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.utils.records import from_json

if __name__ == "__main__":
    config = from_json(DataConfig, json.loads(sys.argv[1]), "config")
    iterator = make_batches(config, seed=3, start_step=1, workers=2)
    hashes = [next(iterator)["draw_hash"].tolist() for _ in range(3)]
    time.sleep(1)
    pids = [process.pid for process in multiprocessing.active_children()]
    print(json.dumps([hashes, pids, "tensorflow" in sys.modules]), flush=True)
    time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_workers_give_the_same_batches_touch_no_device_and_die_with_their_parent(tmp_path):
    """The trainer is killed with -9; no such platform exists, so any use of a device fails."""
    script = tmp_path / "read.py"
    script.write_text(SCRIPT)
    options = json.dumps(dataclasses.asdict(SMALL))
    environment = {**os.environ, "JAX_PLATFORMS": "none_such"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    environment.pop("REALISDANCE_TYPECHECK", None)
    trainer = subprocess.Popen(
        [sys.executable, str(script), options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "errors").open("w"),
        text=True,
    )
    try:
        line = trainer.stdout.readline()
        assert line, (tmp_path / "errors").read_text()
        hashes, workers, tensorflow = json.loads(line)
        assert hashes == [batch["draw_hash"].tolist() for batch in batches(SMALL, 4)[1:]]
        assert not tensorflow
        assert len(workers) == 2
        assert all(alive(pid) for pid in workers)
    finally:
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
    end = time.monotonic() + 10
    while any(alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)
