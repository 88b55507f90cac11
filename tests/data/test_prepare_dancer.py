"""`prepare dataset --source dancer`: drawn clips packed or cached, split and corrupted as told."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.data.catalogue import open_source
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.pipeline import make_batches
from realisdance_jax.data.samples import Streams
from realisdance_jax.data.stored import read_index
from realisdance_jax.models.config import DinoConfig, RealisDanceConfig, UNetConfig, VAEConfig
from realisdance_jax.prepare import make_parser
from realisdance_jax.preparing.dataset import prepare_dataset
from realisdance_jax.utils.errors import UserError

SIZE = (64, 48)
CONFIG = DataConfig(
    sources=("dancer",), size=SIZE, frames=2, batch=2, synthetic_clips=2, synthetic_frames=8
)
DRAWN = ("--size", "64x48", "--clips", 2, "--clip-frames", 8, "--workers", 1)


def run(*arguments: object) -> None:
    words = ["dataset", "--source", "dancer", *map(str, arguments)]
    prepare_dataset(make_parser().parse_args(words))


def example(source: str, **changes) -> dict[str, np.ndarray]:
    config = dataclasses.replace(CONFIG, sources=(source,), **changes)
    return open_source(source, config).sample(1, config, Streams(0, 3))


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_packed_clips_are_those_drawn_in_training(tmp_path):
    wrong = {"corruption": (0.5, 0.0, 1.0), "corruption_seed": 4}
    options = ("--corruption", "0.5,0,1", "--seed", 4, "--split", "test")
    run("--out", tmp_path / "packed", *DRAWN, *options)
    index = read_index(tmp_path / "packed")
    assert index.names == ("dancer/1000000-1000000", "dancer/1000001-1000001")
    assert (index.kind, index.frames) == ("encoded", (8, 8))
    stored = example(str(tmp_path / "packed"))
    assert same(stored, example("dancer", split="test", **wrong))
    assert not same(stored, example("dancer", split="test"))
    config = dataclasses.replace(CONFIG, sources=(str(tmp_path / "packed"),))
    with make_batches(config, seed=1) as batches:
        assert next(batches)["video"].shape == (2, 2, *SIZE, 3)


def test_processes_draw_the_same(tmp_path):
    for processes in (1, 2):
        run("--out", tmp_path / str(processes), *DRAWN, "--workers", processes)
    one, two = (read_index(tmp_path / name).fingerprint for name in ("1", "2"))
    assert one == two


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dancer") / "weights"
    model = RealisDanceConfig(
        unet=UNetConfig(widths=(32, 32, 64, 64), context_dim=32, layers_per_block=1),
        dino=DinoConfig(width=12, layers=1, heads=2, table_size=3),
        vae=VAEConfig(widths=(32, 32, 32, 32), layers_per_block=1),
    )
    write_random_weights(folder, model)
    return folder


def test_a_cache_of_dancers_is_drawn_from(weights, tmp_path):
    options = ("--cache", "--weights", weights, "--references", 2, "--split", "test_motion")
    run("--out", tmp_path / "cache", *DRAWN, *options)
    index = read_index(tmp_path / "cache")
    assert (index.kind, index.names[1]) == ("cached", "dancer/1-1000001")
    stored = example(str(tmp_path / "cache"))
    assert stored["latent_mean"].shape == (2, 8, 6, 4)
    fresh = example("dancer", split="test_motion")
    np.testing.assert_allclose(stored["conditions"] / 255, fresh["conditions"], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--corruption", "half"), "--corruption: expected one share or three"),
        (("--corruption", "2"), "corruption: expected three shares"),
        (("--clips", "0"), "synthetic_clips: expected at least 1"),
        (("--clip-frames", 10**8), "dancer: expected 1 to 100000 frames"),
        (("--seed", "-1"), "corruption_seed: expected at least 0, found -1"),
        (("--chunk", "0"), "--chunk: expected at least 1, found 0"),
        (("--references", "-1"), "--references: expected at least 0, found -1"),
        (("--max-empty", "nan"), "--max-empty: expected at least 0, found nan"),
        (("--split", "val"), "split: expected one of train"),
        (("--source", "synthetic", "--seed", "1"), "--seed: expected --source dancer"),
        (("--source", "films", "--clips", "1"), "--clips: expected --source synthetic or dancer"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, reason, tmp_path):
    with pytest.raises(UserError, match=reason) as caught:
        run("--out", tmp_path / "x", "--size", "64x48", *options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()
