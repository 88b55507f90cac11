"""Shipped weights as a beginning: the same values in the folders that later steps start from."""

import dataclasses

import numpy as np
import pytest

from benchmarks import embedded
from benchmarks.shipped import begin_with
from realisdance_jax.checkpoints.packed import pack_weights
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.checkpoints.weights import load_component, read_manifest
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.training.parts import PARTS
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.tree import flatten
from tests.checkpoints.test_packed import MODEL

ENDS = {"ours": "ours_image"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    write_random_weights(folder / "weights", MODEL)
    pack_weights(folder / "weights", folder / "ours.npz")
    return {"ours": folder / "ours.npz"}


def leaves(folder, name: str) -> dict[str, np.ndarray]:
    flat = flatten(load_component(folder, read_manifest(folder), name))
    return {path: np.asarray(leaf) for path, leaf in flat.items()}


def test_image_stage_and_parts_are_those_of_the_whole(files, tmp_path):
    assert begin_with(files, ENDS, tmp_path) == {"ours", "ours_image", "parts", "decoder"}
    whole, image = read_manifest(tmp_path / "ours"), read_manifest(tmp_path / "ours_image")
    assert image.model == dataclasses.replace(whole.model, motion=None)
    assert set(image.components) == {*COMPONENTS, *PARTS}
    parts = read_manifest(tmp_path / "decoder" / "weights")
    assert set(parts.components) == set(PARTS)
    for name in image.components:
        before, after = leaves(tmp_path / "ours", name), leaves(tmp_path / "ours_image", name)
        assert after.keys() == {path for path in before if "motion_modules" not in path}
        assert all(np.array_equal(after[path], before[path]) for path in after)
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("config.json")}
    begin_with(files, ENDS, tmp_path)
    assert again == {path: path.stat().st_mtime_ns for path in again}


@pytest.mark.parametrize("name", ["ours", "ours_image", "decoder/weights"])
def test_what_was_trained_here_is_kept(name, files, tmp_path):
    kept = tmp_path / name / "checkpoints" / "200"
    kept.mkdir(parents=True)
    with pytest.raises(UserError, match="expected unpacked weights or nothing"):
        begin_with(files, ENDS, tmp_path)
    assert kept.is_dir()


def names(steps) -> list[str]:
    return [step.name for step in steps]


@pytest.fixture
def trained(files, tmp_path, monkeypatch):
    """Names of the steps that a call with these words would run."""

    def run(shipped, *words) -> list[str]:
        ran: list[str] = []
        there = {name: files["ours"] for name in shipped}
        monkeypatch.setattr(embedded, "SHIPPED", {"base": tmp_path / "none.npz"} | there)
        monkeypatch.setattr(
            embedded, "run_steps", lambda todo, *_: ran.extend(s.name for s in todo)
        )
        monkeypatch.setattr(embedded, "pack", lambda out: None)
        call = ["embedded", "--out", str(tmp_path / words[1]), "--shipped", *words]
        monkeypatch.setattr("sys.argv", call)
        embedded.main()
        return ran

    return run


def test_only_the_rest_is_trained(trained):
    assert trained(["ours"], "--budget", "smoke") == ["pictures", "cache", "base_image", "base"]
    assert trained(["ours"], "--budget", "cpu", "--ablations") == [
        *("pictures", "cache", "first_image", "ours_begun", "ours_image"),
        *("base_image", "base_end", "base", "ours_short"),
        *("no_gate_begun", "no_gate_image", "no_gate"),
        *("no_hamer_begun", "no_hamer_image", "no_hamer", "no_pose_motion", "no_shuffle"),
    ]


@pytest.mark.parametrize("budget", ["accelerator", "smoke"])
def test_ablations_are_trained_like_the_shipped_weights_or_not_at_all(budget, trained, monkeypatch):
    monkeypatch.setattr(embedded, "devices_of_commands", lambda: "TPU v9")
    with pytest.raises(UserError, match=f"expected budget cpu beside --shipped, .*{budget}"):
        trained(["ours"], "--budget", budget, "--ablations")


def test_nothing_is_trained_where_all_is_shipped(trained):
    assert trained(["ours", "base"], "--budget", "cpu") == []
