"""Training curves: what runs logged is read back, however often they were stopped."""

import json
import sys

import numpy as np
import pytest
from tensorboardX import SummaryWriter

from benchmarks import curves
from benchmarks.curves import find_runs, recorded_devices, smoothed
from benchmarks.run_logs import read_run, read_table
from realisdance_jax.data.images import read_image
from realisdance_jax.utils.errors import UserError


def write_logs(run, name: int, values: dict[int, float]) -> None:
    with SummaryWriter(str(run / "logs"), filename_suffix=f".{name}") as writer:
        # The names of the files begin with the second they were made in.
        (path,) = (run / "logs").glob(f"*.{name}")
        for step, value in values.items():
            writer.add_scalar("loss", value, step)
            writer.add_scalar("lr", 0.5, step)
    path.rename(run / "logs" / f"events.out.tfevents.{name}")


def make_run(run, stage: int, values: dict[int, float]) -> None:
    (run / "base").mkdir(parents=True)
    config = {"stage": stage, "seed": 7, "loss": {"least_timestep": 800 if stage == 2 else 0}}
    (run / "run.json").write_text(json.dumps(config))
    write_logs(run, 1, values)


@pytest.fixture
def folder(tmp_path):
    """As `benchmarks.embedded` leaves it."""
    falling = {step: 1 / step for step in range(10, 400, 10)}
    make_run(tmp_path / "ours_image", 1, falling)
    make_run(tmp_path / "base_image", 1, falling)
    make_run(tmp_path / "ours", 2, falling)
    for part in ("vae", "image_encoder"):
        (tmp_path / "parts" / part).mkdir(parents=True)
        (tmp_path / "parts" / part / "curve.tsv").write_text(
            "step\tbad\tloss\n2\t0\t0.5\n4\t0\t0.25\n"
        )
    (tmp_path / "parts" / "parts.json").write_text('{"seed": 3}')
    (tmp_path / "times.tsv").write_text(
        "parts\t60\tTPU v9\nours\t6000\tTPU v9\nours\t1200\tTPU v9\nbase\t8"
    )
    return tmp_path


def test_a_resumed_run_counts_once(tmp_path):
    write_logs(tmp_path, 1, {10: 3.0, 20: 2.0, 30: 9.0})
    write_logs(tmp_path, 2, {30: 1.5, 40: 1.0})
    found = read_run(tmp_path)
    assert found["loss"] == {10: 3.0, 20: 2.0, 30: 1.5, 40: 1.0}
    assert list(found) == ["loss", "lr"]


def test_a_file_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    write_logs(tmp_path, 1, {10: 3.0, 20: 2.0})
    path = tmp_path / "logs" / "events.out.tfevents.1"
    path.write_bytes(path.read_bytes()[:-8])
    found = read_run(tmp_path)
    assert found["loss"] == {10: 3.0, 20: 2.0}
    assert list(found["lr"]) == [10]
    path.write_bytes(b"")
    assert read_run(tmp_path) == {}
    path.write_bytes(bytes([9]) + bytes(11) + b"\xff" * 40)
    with pytest.raises(UserError, match="expected a TensorBoard file"):
        read_run(tmp_path)


def test_tables(tmp_path):
    path = tmp_path / "curve.tsv"
    path.write_text("step\tbad\tloss\n2\t0\t0.5\n4\t0\t0.25\n4\t1\t0.2\n")
    assert read_table(path) == {"bad": {2: 0, 4: 1}, "loss": {2: 0.5, 4: 0.2}}
    for text in ("", "step\tloss\n", "step\tloss\n1\n", "time\tloss\n1\t2\n", "step\tloss\n1\tx\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"curve\.tsv: expected a table of losses by step"):
            read_table(path)


def test_runs_are_grouped_by_stage(folder):
    found = find_runs([folder])
    assert {stage: sorted(runs) for stage, runs in found.items()} == {
        "image stage": ["base_image", "ours_image"],
        "video stage": ["ours"],
        "vae": ["vae"],
        "image encoder": ["image_encoder"],
    }
    assert found["video stage"]["ours"][0] == "seed 7, timesteps from 800"
    assert found["image stage"]["ours_image"][0] == "seed 7"
    devices = recorded_devices([folder])
    assert devices["ours"] == "TPU v9, 120 min"
    assert devices["vae"] == "TPU v9, 1 min"
    with pytest.raises(UserError, match="expected training runs, found none"):
        find_runs([folder / "parts" / "vae"])


def test_one_picture_per_stage(folder, tmp_path, monkeypatch, capsys):
    words = ["curves", str(folder), "--out", str(tmp_path / "results"), "--device", "CPU"]
    monkeypatch.setattr(sys, "argv", words)
    curves.main()
    assert len(capsys.readouterr().out.splitlines()) == 4
    names = ("image_stage", "video_stage", "vae", "image_encoder")
    for name, runs in zip(names, (2, 1, 1, 1), strict=True):
        picture = read_image(tmp_path / "results" / f"training_{name}.png")
        assert picture.shape == (480 + 18 * (runs + 2), 720, 3)
        assert (picture == curves.COLOURS[0]).all(axis=-1).any()


def test_means_leave_out_what_is_not_finite():
    points = {step: float(step) for step in range(1, 201)} | {50: float("nan")}
    steps, values = smoothed(points, share=50)
    assert steps == values
    assert len(values) == 199 - 2
    assert np.diff(values).min() > 0
