"""The benchmark commands on a tiny model: what they print, write and compare."""

import dataclasses
import json
import sys
from types import ModuleType, SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks import attention, measure, presets, sample, speed, start, train
from benchmarks.measure import Report, Row, compared, markdown
from realisdance_jax.checkpoints.packed import pack_weights
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.sampling.speed import SPEEDS
from realisdance_jax.utils.errors import UserError

DEVICE = {
    "platform": "gpu",
    "kind": "NVIDIA H200",
    "cores": 16,
    "load": 0.0,
    "versions": {"jax": "1.0"},
    "python": "3.11.0",
    "date": "2026-01-01",
    "dtype": "bfloat16",
    "peak": 1e15,
    "ceiling": 8e14,
}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """A benchmark's `main` with the preset tiny; its JSON, and what it printed."""

    def run(module: ModuleType, *options: str) -> tuple[dict, str]:
        monkeypatch.setattr(measure, "CEILING_SIZE", {"cpu": 64})
        name = module.__name__.split(".")[-1]
        call = [name, "--preset", "tiny", "--out", str(tmp_path), *options]
        monkeypatch.setattr(sys, "argv", call)
        module.main()
        files = {path.name for path in tmp_path.iterdir()}
        assert {f"{name}-tiny-cpu.json", f"{name}-tiny-cpu.md"} <= files
        printed = capsys.readouterr().out
        page = (tmp_path / f"{name}-tiny-cpu.md").read_text()
        assert page in printed
        assert str(tmp_path) not in page
        return json.loads((tmp_path / f"{name}-tiny-cpu.json").read_text()), printed

    return run


def test_sample(run, tmp_path):
    """The release's order gives the same latents and needs more FLOPs."""
    found, _ = run(sample, "--runs", "2", "--lengths", "4")
    rows = {row["name"]: row for row in found["rows"]}
    exact, plain = rows["clip, exact caches"], rows["clip, order of the release"]
    assert len(exact["seconds"]) == len(plain["seconds"]) == 2
    assert rows["its denoising loop"]["flops"] < exact["flops"] < plain["flops"]
    numbers = found["numbers"]
    assert numbers["relative difference of the latents"] < 1e-5
    ratio = plain["flops"] / exact["flops"]
    assert numbers["FLOP ratio, release / exact"] == pytest.approx(ratio)
    assert rows["one step, 4 frames"]["more"]["windows"] == 2


def test_train(run):
    found, _ = run(train, "--runs", "1", "--stages", "2")
    (row,) = found["rows"]
    assert row["name"] == "stage 2, batch 1 x 2 frames"
    assert row["flops"] > 1e6
    assert row["more"]["temporaries GiB"] > 0


def test_attention(run, tmp_path):
    """Every way is right; chunks need less than an eighth of what all logits at once need."""
    found, _ = run(attention, "--runs", "1")
    errors = {row["name"]: row["more"]["error"] for row in found["rows"]}
    assert {name.rpartition(": ")[2] for name in errors} == {"xla", "chunked"}
    assert all(error < (1e-5 if "float32" in name else 2e-2) for name, error in errors.items())
    (share,) = (value for name, value in found["numbers"].items() if "at most" in name)
    assert 0 < share <= attention.SHARE
    again, printed = run(
        attention, "--runs", "1", "--compare", str(tmp_path / "attention-tiny-cpu.json")
    )
    assert "| what | this, s | other, s | other / this |" in printed
    assert printed.count("| 1.000 |") >= len(again["numbers"])


def test_speed(monkeypatch, tmp_path, capsys):
    """Of packed weights: what is exact has no error, what is not has one, and takes its steps."""
    unet = {"widths": (8,), "attention_levels": (True,), "heads": (2,)}
    small = presets.TINY.model
    small = dataclasses.replace(small, unet=dataclasses.replace(small.unet, **unet))
    write_random_weights(tmp_path / "weights", small)
    pack_weights(tmp_path / "weights", tmp_path / "packed.npz")
    monkeypatch.setattr(measure, "CEILING_SIZE", {"cpu": 64})
    chosen = ("--only", "ddim, 25 steps", "unipc, 12 steps")
    sizes = ("--clips", "2", "--frames", "3", "--size", "32x32", "--steps", "4", "--window", "3")
    files = ("--weights", str(tmp_path / "packed.npz"), "--out", str(tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["speed", *files, *sizes, *chosen])
    speed.main()
    found = json.loads((tmp_path / "out" / "speed-dancer-cpu.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["exact", *chosen[1:]]
    assert all(len(row["seconds"]) == 2 for row in rows.values())
    exact = rows.pop("exact")["more"]
    assert (exact["PSNR dB"], exact["times faster"]) == (speed.IDENTICAL, 1)
    assert all(5 < row["more"]["least dB"] < 90 for row in rows.values())
    page = (tmp_path / "out" / "speed-dancer-cpu.md").read_text()
    assert page in capsys.readouterr().out
    assert "`python -m benchmarks.speed --weights WEIGHTS --clips 2 --frames 3`" in page
    assert str(tmp_path) not in page


def test_all_ways_of_speed():
    """On a GPU: every approximation alone, then the bundles in bfloat16."""
    gpu = SimpleNamespace(platform="gpu", compute_capability="9.0")
    ways = {way.name: way for way in speed.all_ways(gpu, 2)}
    assert next(iter(ways)) == "exact"
    assert list(ways)[-3:] == ["bfloat16", "balanced", "fast"]
    assert ways["fast"].changes == SPEEDS["fast"].values()
    assert {ways[name].dtype for name in ("bfloat16", "balanced", "fast")} == {"bfloat16"}
    assert not any("1 layer" in way.name for way in speed.all_ways(gpu, 1))
    every = list(ways.values())
    assert speed.chosen_ways(every, None) == every
    assert speed.chosen_ways(every, ["fast"]) == [ways["exact"], ways["fast"]]
    with pytest.raises(
        UserError, match=r"--only: expected some of exact; .*; fast, found 'quick'$"
    ):
        speed.chosen_ways(every, ["quick"])
    rows = [Row("fast", (1.0,), more={"PSNR dB": 31.0, "times faster": 4.5})]
    numbers = speed.conclusions(rows)
    assert numbers == {
        "fast: PSNR dB (at least 30)": 31.0,
        "fast: times faster (at least 4)": 4.5,
    }


def test_the_page_of_a_report():
    """MFU by the data sheet and beside it the measured ceiling, medians and spread."""
    row = Row("step", (1.0, 3.0, 2.0), 1e15, 3 * 2**30, {"error": 0.25})
    report = Report("sample", "full", {"steps": 50}, DEVICE, [row], {"ratio": 1.5})
    page = markdown(report)
    assert "| step | 2 | 1-3 | 3 | 1000 | 50.0 % | 62.5 % | 3.00 | error 0.25 |" in page
    assert "- ratio: 1.5" in page
    assert max(map(len, page.splitlines())) <= 110
    other = {"rows": [{"name": "step", "seconds": [4.0], "more": {}}], "numbers": {"ratio": 3.0}}
    assert compared(report, other).splitlines()[2:] == [
        "| step | 2 | 4 | 2.000 |",
        "| ratio | 1.5 | 3 | 2.000 |",
    ]


def test_times_are_of_runs_after_the_first():
    calls = []

    def work():
        calls.append(1)
        return jax.numpy.zeros(())

    assert len(measure.seconds_of(work, 3)) == 3
    assert len(calls) == 4


def test_the_peak_is_that_of_the_call():
    """A large array that is gone again shows, and does not stay in later peaks."""
    size = 300 * 2**20

    def large():
        return np.ones(size, np.uint8).sum()

    small, big, after = (measure.peak_of(work) for work in (lambda: 0, large, lambda: 0))
    assert None not in (small, big, after)
    assert big > small + 0.9 * size
    assert after < small + 0.5 * size


@pytest.mark.slow
def test_start(run):
    """The second start finds what the first one compiled."""
    found, _ = run(start)
    seconds = [row["more"]["compiled s"] for row in found["rows"]]
    (ratio,) = found["numbers"].values()
    assert ratio == pytest.approx(seconds[1] / seconds[0])
    assert 0 < ratio < 1
