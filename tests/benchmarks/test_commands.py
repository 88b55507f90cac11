"""The benchmark commands on a tiny model: what they print, write and compare."""

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import jax
import numpy as np
import pytest

from benchmarks import (
    attention,
    attention_bytes,
    data,
    films,
    measure,
    presets,
    sample,
    speed,
    start,
    train,
)
from benchmarks.measure import Report, Row, compared, markdown
from benchmarks.work import Work
from realisdance_jax.checkpoints.packed import pack_weights
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling import denoise
from realisdance_jax.sampling.speed import SPEEDS
from realisdance_jax.utils.errors import UserError

ROOT = Path(__file__).parents[2]
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


def test_sample(run, monkeypatch):
    """The release's order gives the same latents and needs more FLOPs.

    No guidance is kept: each step makes that of its windows.
    """
    monkeypatch.setattr(denoise, "GUIDANCE_BYTES", 0)
    found, _ = run(sample, "--runs", "2", "--lengths", "4", "8")
    rows = {row["name"]: row for row in found["rows"]}
    exact, plain = rows["clip, exact caches"], rows["clip, order of the release"]
    assert len(exact["seconds"]) == len(plain["seconds"]) == 2
    assert rows["its denoising loop"]["flops"] < exact["flops"] < plain["flops"]
    numbers = found["numbers"]
    assert numbers["relative difference of the latents"] < 1e-5
    ratio = plain["flops"] / exact["flops"]
    assert numbers["FLOP ratio, release / exact"] == pytest.approx(ratio)
    work = Work(presets.TINY)
    for frames, windows in ((4, 2), (8, 4)):
        row = rows[f"one step, {frames} frames"]
        assert row["more"]["windows"] == windows
        assert row["flops"] == windows * (work.step + work.guide)
    long = rows["clip of 8 frames, exact caches"]
    assert len(long["seconds"]) == len(rows["decoding 8 frames"]["seconds"]) == 2
    assert long["flops"] > exact["flops"]
    assert numbers["seconds per clip of 8 frames with decoding"] > min(long["seconds"])
    assert "clip of 4 frames, exact caches" not in rows


def test_resting_weights_are_on_the_host_if_wanted():
    run = presets.make_pipeline(presets.TINY, offload=True)
    resting = run.variables["params"]["unet_ref"], run.dino_variables, run.vae_params["encoder"]
    assert {type(leaf) for leaf in jax.tree.leaves(resting)} == {np.ndarray}
    working = run.variables["params"]["unet_main"], run.vae_params["decoder"]
    assert not any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(working))


def test_peaks_of_two_ways(monkeypatch):
    """Both have run before either is measured; the least of two orders counts."""
    ran, sizes = [], iter([5, 9, 7, 3])

    def peak_of(way):
        ran.append(way())
        return next(sizes)

    monkeypatch.setattr(sample, "peak_of", peak_of)
    second = mock.Mock(return_value="second")
    assert sample.peaks(lambda: "first", second) == (3, 7)
    assert ran == ["first", "second", "second", "first"]
    assert second.call_count == 3


def test_train(run):
    found, _ = run(train, "--runs", "1", "--stages", "2")
    (row,) = found["rows"]
    assert row["name"] == "stage 2, batch 1 x 2 frames"
    assert row["flops"] > 1e6
    assert row["more"]["temporaries GiB"] > 0


def test_data(run):
    """Read in this process and by a worker; each way a row."""
    few = ("--runs", "2", "--clips", "1", "--frames", "61", "--seconds", "0.01")
    found, _ = run(data, *few, "--workers", "0", "1")
    rows = {row["name"]: row for row in found["rows"]}
    ways = [f"{way}, {workers} workers" for way in films.NAMES for workers in (0, 1)]
    assert list(rows) == ways
    assert all(len(row["seconds"]) == 2 for row in rows.values())
    assert rows[ways[-1]]["more"]["kB per source frame"] > 0
    assert len(found["numbers"]) == 4


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
    words = "--weights WEIGHTS --clips 2 --frames 3 --size 32x32 --steps 4 --window 3 --only"
    assert f"`python -m benchmarks.speed {words} 'ddim, 25 steps' 'unipc, 12 steps'`" in page
    assert str(tmp_path) not in page


def test_all_ways_of_speed():
    """On a GPU: every approximation alone, then the bundles in bfloat16."""
    gpu = SimpleNamespace(platform="gpu", compute_capability="9.0")
    ways = {way.name: way for way in speed.all_ways(gpu, 2)}
    assert next(iter(ways)) == "exact"
    assert list(ways)[-5:] == ["bfloat16", "int8 kernels", "fp8 kernels", "balanced", "fast"]
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


def test_zeros_have_no_ratio():
    rows = [Row("step", (1.0,)), Row("none", (0.0,))]
    report = Report("sample", "full", {}, DEVICE, rows, {"a": 0.0, "b": 2.0, "c": 3.0})
    old = [{"name": "step", "seconds": [0.0]}, {"name": "none", "seconds": [1.0]}]
    other = {"rows": old, "numbers": {"a": 1.0, "b": 0.0, "c": 3.0}}
    assert compared(report, other).splitlines()[2:] == ["| c | 3 | 3 | 1.000 |"]


@pytest.fixture
def parsed(monkeypatch):
    """Options of a benchmark with these words."""

    def parsed(*words: str):
        parser = measure.make_parser("sample", None)
        parser.add_argument("--plain", action=argparse.BooleanOptionalAction)
        parser.add_argument("--lengths", type=int, nargs="+")
        monkeypatch.setattr(sys, "argv", ["sample", *words])
        return measure.parse(parser)

    return parsed


def test_reports_repeat_the_options(parsed, monkeypatch, tmp_path, capsys):
    """And only those of a run with default options replace the record."""
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    report = Report("sample", "full", {}, DEVICE, [Row("step", (1.0,))], {})
    record = "sample-full-nvidia-h200"
    measure.finish(report, parsed("--preset", "full"))
    assert {file.name for file in tmp_path.iterdir()} == {f"{record}.json", f"{record}.md"}
    page = (tmp_path / f"{record}.md").read_text()
    assert "# sample, preset full\n\n`python -m benchmarks.sample --preset full`" in page
    compare = ("--compare", str(tmp_path / f"{record}.json"))
    words = ("--preset", "full", "--runs", "3", "--no-plain", "--lengths", "4", "8")
    measure.finish(report, parsed(*words, *compare))
    assert "| step | 1 | 1 | 1.000 |" in capsys.readouterr().out
    assert (tmp_path / f"{record}.md").read_text() == page
    other = (tmp_path / f"{record}-runs-3-no-plain-lengths-4-8.md").read_text()
    assert f"`python -m benchmarks.sample {' '.join(words)}`" in other
    measure.finish(report, parsed(*words, "--out", str(tmp_path / "out")))
    assert (tmp_path / "out" / f"{record}.md").read_text() == other


def test_options_are_checked_before_measuring(parsed, tmp_path):
    with pytest.raises(UserError, match="--runs: expected at least 1, found 0"):
        parsed("--runs", "0")
    row, file = {"name": "step", "seconds": [1.0]}, tmp_path / "other.json"
    for text in (
        "",
        "[]",
        "{}",
        '{"rows": [{}], "numbers": {}}',
        json.dumps({"rows": [row | {"seconds": ["1"]}], "numbers": {}}),
        json.dumps({"rows": [row | {"length": 3}], "numbers": {}}),
        json.dumps({"rows": [row], "numbers": {"a": "b"}}),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=r"other\.json: expected the JSON of a benchmark"):
            parsed("--compare", str(file))
    with pytest.raises(UserError, match=r"none\.json: expected the JSON of a benchmark, found"):
        parsed("--compare", str(tmp_path / "none.json"))


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


def test_a_failed_start_is_told_in_one_line(tmp_path):
    words = [sys.executable, "-c", "raise SystemExit('first line\\nsecond  line')"]
    with pytest.raises(UserError, match=r"first start: expected .* found first line second line$"):
        start.start("first start", words, tmp_path)


def test_topologies_of_attention_bytes():
    for name in ("v5e:2x2", "v4:2x2x4"):
        attention_bytes.check(name)
    for name, reason in (
        ("h100:8", r"expected TPUs \(v5e, .*\), found h100:8 \(for GPUs see plan\)"),
        ("cpu:4", "expected TPUs .* found cpu:4"),
        ("v5e:4x8", "a number of devices that divides 16 frames, found 32 in v5e:4x8"),
        ("v9", "expected KIND:SHAPE"),
    ):
        with pytest.raises(UserError, match=f"--topology: .*{reason}"):
            attention_bytes.check(name)


def test_bytes_are_of_ways_that_take_the_shape():
    mesh = make_mesh({"data": 1, "frames": 2}, jax.devices()[:2])
    assert list(attention_bytes.kinds(mesh)) == ["xla", "chunked"]


def test_bench_gpu_says_what_it_does_not_measure(tmp_path):
    def commands() -> str:
        words = ["make", "-n", "bench-gpu", f"EMBEDDED={tmp_path}"]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout

    assert f"speed: not measured, no weights in {tmp_path} (make embedded)" in commands()
    (tmp_path / "ours.npz").touch()
    assert "benchmarks.speed --weights" in commands()
    assert "not measured" not in commands()


@pytest.mark.slow
def test_start(run):
    """The second start finds what the first one compiled."""
    found, _ = run(start)
    seconds = [row["more"]["compiled s"] for row in found["rows"]]
    (ratio,) = found["numbers"].values()
    assert ratio == pytest.approx(seconds[1] / seconds[0])
    assert 0 < ratio < 1
