"""The input benchmark: its data sets on small pictures, and what follows from its times."""

import dataclasses
import sys

import numpy as np
import pytest

from benchmarks import data
from benchmarks.films import NAMES, Films, prepare
from benchmarks.measure import Report, Row, report_name
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.utils.errors import UserError


def test_all_three_ways_give_examples(tmp_path):
    small = DataConfig(batch=1, frames=4, stride=2, size=(32, 24))
    films = Films((72, 128), clips=2, frames=8, width=6, target=small)
    places = prepare(tmp_path, films)
    drawn = []
    for folder in places.values():
        assert min(data.example_seconds(folder, small, workers=0, seconds=0.01, runs=2)) > 0
        assert data.bytes_per_frame(folder, films) > 0
        with make_batches(dataclasses.replace(small, sources=(str(folder),)), seed=0) as batches:
            drawn.append([next(batches)["draw_hash"] for _ in range(3)])
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_packed_ways_are_compared_with_the_raw_folder():
    seconds = dict(zip(NAMES, (8.0, 4.0, 0.5), strict=True))
    rows = [Row(f"{name}, 2 workers", (x, x, 2 * x)) for name, x in seconds.items()]
    numbers = data.conclusions(rows)
    assert list(numbers.values()) == [2, 16]
    assert list(numbers)[1].endswith("cached / raw folder, 2 workers (at least 10)")


def test_the_record_of_the_full_size(monkeypatch):
    """It is called data, whatever the machine; other options add their words."""
    report = Report("data", "full", {}, {"platform": "cpu"}, [], {}, record="data")
    assert report_name(report, ()) == "data"
    assert report_name(report, ["--seconds", "5"]) == "data-seconds-5"
    monkeypatch.setattr(sys, "argv", ["data", "--frames", "60"])
    with pytest.raises(UserError, match="--frames: expected at least 61, found 60"):
        data.main()
