"""The input benchmark runs, on small pictures, and its report holds what it measured."""

import dataclasses

import numpy as np

import benchmarks.data as bench
from realisdance_jax.data.pipeline import make_batches


def test_all_three_ways_give_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "SOURCE", (72, 128))
    small = dataclasses.replace(bench.TARGET, size=(32, 24), frames=4, stride=2)
    monkeypatch.setattr(bench, "TARGET", small)
    places = bench.prepare(tmp_path, clips=2, frames=8)
    drawn = []
    for folder in places.values():
        assert bench.frames_per_second(folder, workers=0, seconds=0.01) > 0
        assert bench.bytes_per_frame(folder, 16) > 0
        with make_batches(dataclasses.replace(small, sources=(str(folder),)), seed=0) as batches:
            drawn.append([next(batches)["draw_hash"] for _ in range(3)])
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_the_report_compares_with_the_raw_folder():
    speeds = {name: [2.0 * 10**k, 4.0] for k, name in enumerate(bench.NAMES)}
    text = bench.report(speeds, dict.fromkeys(bench.NAMES, 5e4), 0.1, "4 videos")
    assert "| ArrayRecord, cached | 200.0 (100.0x) | 4.0 (1.0x) | 50 |" in text
    assert max(map(len, text.splitlines())) <= 110
