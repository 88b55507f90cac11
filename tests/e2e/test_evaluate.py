"""`evaluate`: numbers, comparisons and one page from weights folders; refusals in one line."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from realisdance_jax import evaluate
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.demo import MODELS
from realisdance_jax.evaluation import compare
from realisdance_jax.evaluation.compare import COPY
from realisdance_jax.evaluation.journal import JOURNAL, Journal
from realisdance_jax.evaluation.measure import Row
from realisdance_jax.sampling.sampler import sample_clip
from realisdance_jax.utils.errors import UserError
from tests.commands import run_program
from tests.data.folders import write_folder
from tests.e2e.conftest import SMALL

SMALLEST = ("--size", "64x48", "--clips", 2, "--frames", 3, "--steps", 2, "--window", 3)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("baseline") / "anyone"
    pose = replace(SMALL.pose, kind="embedding", conditions=("dwpose",))
    write_random_weights(folder, replace(SMALL, pose=pose))
    return folder


def call(monkeypatch, capfd, *words):
    return run_program(evaluate.main, words, monkeypatch, capfd)


def test_two_models_under_corruption(weights, baseline, tmp_path, monkeypatch, capfd):
    models = ("--weights", f"ours={weights}", baseline)
    options = ("--strengths", "0.5", "--guidance", 1, "--show", 1)
    out = tmp_path / "out"
    words = ("--protocol", "robust", *models, *SMALLEST, *options, "--out", out)
    ended = call(monkeypatch, capfd, *words)
    assert ended.code == 0, ended
    found = json.loads((out / "results.json").read_text())
    cases = {(row["model"], row["case"]) for row in found["rows"]}
    assert cases == {
        ("ours", "true"),
        *(("ours", f"{name} 0.5") for name in ("dwpose", "hamer", "smpl")),
        *(("anyone", case) for case in ("true", "dwpose 0.5")),
        ("copy of the reference", "true"),
    }
    gates = [row["metrics"] for row in found["rows"] if row["case"] == "smpl 0.5"]
    assert all(0 < row["gate_smpl"] < 1 for row in gates)
    assert not any("gate_dwpose" in r["metrics"] for r in found["rows"] if r["model"] == "anyone")
    assert {entry["case"] for entry in found["differences"]} == {"true", "dwpose 0.5"}
    assert {r["case"] for r in found["rows"] if "gesture_right" in r["metrics"]} == {"true"}
    hashes = found["settings"]["weights"]
    assert hashes["anyone"] == read_manifest(baseline).weight_hash
    page = (out / "index.html").read_text()
    assert page.count("data:video/mp4;base64,") == 4
    assert "psnr_hands (dB; better: higher); share of frames with a wrong dwpose: 0, 0.5" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_the_embedded_weights_know_who_dances_and_how(tmp_path, monkeypatch, capfd):
    """Weights as they are shipped, of a person and a dance that they have never seen."""
    out = tmp_path / "out"
    few = ("--clips", 1, "--frames", 8, "--window", 8, "--show", 0)
    sampling = ("--steps", 1, "--spacing", "trailing", "--guidance", 1, "--no-color")
    words = ("--protocol", "dancer", *few, *sampling, "--weights", MODELS["ours"], "--out", out)
    ended = call(monkeypatch, capfd, *words)
    assert ended.code == 0, ended
    rows = json.loads((out / "results.json").read_text())["rows"]
    ours, copy = ({r["model"]: r["metrics"] for r in rows}[n] for n in ("ours", COPY))
    assert ours["psnr_person"] > copy["psnr_person"] + 2
    assert ours["psnr_hands"] > copy["psnr_hands"] + 4
    assert 0.5 < ours["identity"] < 1


def test_a_stopped_evaluation_goes_on(weights, tmp_path, monkeypatch, capfd):
    """Clips that were measured are not sampled again, unless settings are others; one result."""
    out, journal = tmp_path / "out", tmp_path / "out" / JOURNAL
    words = ("--protocol", "dancer", "--weights", weights, *SMALLEST, "--show", 0, "--out", out)
    sampled: list[int] = []

    def stopped(pipeline, inputs, config):
        sampled.append(config.seed)
        if config.seed == 1 and len(sampled) == 2:
            raise KeyboardInterrupt
        return sample_clip(pipeline, inputs, config)

    monkeypatch.setattr(compare, "sample_clip", stopped)
    assert call(monkeypatch, capfd, *words).code == 130
    journal.write_text(journal.read_text() + '{"model": "wei')
    assert call(monkeypatch, capfd, *words).code == 0
    assert sampled == [0, 1, 1]
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "results.json"]
    once = json.loads((out / "results.json").read_text())
    sampled[:] = [0, 0, 0]
    assert call(monkeypatch, capfd, *words).code == 0
    assert sampled == [0, 0, 0, 0, 1]
    assert json.loads((out / "results.json").read_text()) == once


def test_files_are_measured_in_the_same_regions_whatever_a_model_takes(
    weights, baseline, tmp_path, monkeypatch, capfd
):
    folder = write_folder(tmp_path / "data", 1, size=(64, 48))
    models = ("--weights", f"ours={weights}", baseline)
    options = ("--protocol", "disco", "--pixels-only", "--data", folder, *SMALLEST, "--show", 1)
    ended = call(monkeypatch, capfd, *options, *models, "--out", tmp_path / "out")
    assert ended.code == 0, ended
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    metrics = {row["model"]: set(row["metrics"]) for row in found["rows"]}
    regions = {"psnr_person", "psnr_hands", "ssim_hands", "jitter_person", "disco_l1"}
    assert all(regions <= names for names in metrics.values())
    assert set(metrics) == {"ours", "anyone", COPY}
    assert regions <= {entry["metric"] for entry in found["differences"]}
    assert not any(entry["clear"] for entry in found["differences"])

    for name in ("hamer", "smpl"):
        shutil.rmtree(folder / name)
    ended = call(monkeypatch, capfd, *options, "--weights", baseline, "--out", tmp_path / "alone")
    assert ended.code == 0, ended


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--protocol", "dancer", "--data", "x"), "expected no --data, found x"),
        (("--protocol", "dancer", "--strengths", "0.3"), "expected no --strengths, found it"),
        (("--protocol", "dancer", "--pixels-only"), "expected no --pixels-only, found it"),
        (
            ("--protocol", "robust", "--cases", "true", "--kinds", "jitter"),
            "--protocol robust with --cases: expected no --kinds, found it",
        ),
        (("--protocol", "dancer", "--seed", 2**32 - 1), "seed: expected"),
        (("--protocol", "disco"), "expected --data FOLDER, found none"),
        (("--protocol", "disco", "--data", "x"), "--metric-weights FOLDER or --pixels-only"),
        (("--protocol", "robust", "--strengths", "much"), "--strengths: expected numbers"),
        (("--protocol", "robust", "--kinds", "all,all"), "kinds: expected each once, found all"),
        (("--protocol", "robust", "--strengths", "0.5,.5"), "strengths: expected each once"),
        (("--protocol", "dancer", "--show", -1), "--show: expected at least 0, found -1"),
        (
            ("--protocol", "dancer", "--window", 6, "--stride", 10**8),
            "dancer: expected 1 to 100000 frames",
        ),
        (("--protocol", "robust", "--kinds", "all,jiter"), "kinds: expected some of all, blank"),
        (("--protocol", "dancer", "--frames", "2"), "frames: expected at least 3"),
        (("--protocol", "dancer", "--stride", "0"), "stride: expected at least 1, found 0"),
        (("--protocol", "robust", "--cases", "true,dwpose"), "cases: expected true, or"),
        (("--protocol", "dancer", "--frames", "8"), "window size: expected at most 6"),
        (("--protocol", "beauty"), "invalid choice: 'beauty'"),
    ],
)
def test_bad_input(words, reason, weights, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    ended = call(monkeypatch, capfd, *words, "--weights", weights, "--out", out)
    assert reason in ended.refusal
    assert not out.exists()


def test_bad_weights(weights, tmp_path, monkeypatch, capfd):
    packed = tmp_path / "a=b" / "odd.npz"
    packed.parent.mkdir()
    packed.write_bytes(b"PK nothing")
    words = ("--protocol", "dancer", "--out", tmp_path / "out", "--weights")
    ended = call(monkeypatch, capfd, *words, packed)
    assert f"{packed}: expected packed weights" in ended.refusal
    words = ("--protocol", "dancer", "--out", tmp_path / "out", "--weights")
    ended = call(monkeypatch, capfd, *words, tmp_path)
    assert "expected a weights folder" in ended.refusal
    ended = call(monkeypatch, capfd, *words, weights, weights)
    assert "expected different names" in ended.refusal
    for name in ("", COPY):
        ended = call(monkeypatch, capfd, *words, f"{name}={weights}")
        assert "none of them empty or 'copy of the reference'" in ended.refusal


@pytest.mark.parametrize("name", ["results.json", "index.html", JOURNAL])
def test_a_folder_in_the_place_of_results_is_seen_first(
    name, weights, tmp_path, monkeypatch, capfd
):
    (tmp_path / name).mkdir()
    words = ("--protocol", "dancer", "--out", tmp_path, "--weights", weights)
    assert "expected a file to write, found a folder" in call(monkeypatch, capfd, *words).refusal


def test_two_evaluations_do_not_share_a_folder(tmp_path):
    with Journal(tmp_path, {"seed": 0}) as first:
        first.add(Row("ours", "true", 0, {"psnr": 1.0}))
        with pytest.raises(UserError, match="expected no other evaluation at work there"):
            Journal(tmp_path, {"seed": 7})
        assert len((tmp_path / JOURNAL).read_text().splitlines()) == 2
    with Journal(tmp_path, {"seed": 7}) as second:
        assert second.find("ours", "true", 0) is None
        second.remove()
    assert not list(tmp_path.iterdir())


def test_missing_networks_are_named(weights, tmp_path, monkeypatch, capfd):
    words = ("--protocol", "disco", "--data", tmp_path, "--metric-weights", tmp_path)
    ended = call(monkeypatch, capfd, *words, "--weights", weights, "--out", tmp_path / "out")
    assert "vgg16-397923af.pth" in ended.refusal
