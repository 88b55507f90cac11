"""Dancers as training data: opened by name, split, corrupted per condition, packed without loss."""

import numpy as np
import pytest

from realisdance_jax.data.builder import write_cached, write_encoded
from realisdance_jax.data.catalogue import open_source
from realisdance_jax.data.config import CONDITIONS, DataConfig
from realisdance_jax.data.corruptions import Corruption
from realisdance_jax.data.dancer_source import DancerSource, PackedSource
from realisdance_jax.data.samples import Streams
from realisdance_jax.data.validation import Limits, validate
from realisdance_jax.utils.errors import UserError

SIZE = (64, 48)
CONFIG = DataConfig(
    sources=("dancer",), size=SIZE, frames=3, stride=2, synthetic_clips=4, synthetic_frames=10
)


def configured(**changes) -> DataConfig:
    return DataConfig(**(vars(CONFIG) | changes))


def sample(config: DataConfig, number: int = 1) -> dict[str, np.ndarray]:
    return open_source("dancer", config).sample(number, config, Streams(0, 5))


def test_examples_come_out_of_the_configuration():
    source = open_source("dancer", CONFIG)
    assert (len(source), source.frames(2), source.name(2)) == (4, 10, "dancer/2-2")
    example = sample(CONFIG)
    assert example["video"].shape == (3, *SIZE, 3)
    assert example["conditions"].shape == (3, *SIZE, 9)
    for channel in range(3):
        assert example["conditions"][..., 3 * channel : 3 * channel + 3].max() > 0.3
    np.testing.assert_array_equal(example["conditions"], sample(CONFIG)["conditions"])


def test_splits_hold_different_people():
    names = {
        split: {open_source("dancer", configured(split=split)).name(number) for number in range(4)}
        for split in ("train", "test", "test_identity", "test_motion")
    }
    assert len(set.union(*names.values())) == 16
    assert names["test"] == {f"dancer/{n}-{n}" for n in range(1000000, 1000004)}
    with pytest.raises(UserError, match="split"):
        open_source("dancer", configured(split="val"))


@pytest.mark.parametrize("place", range(3))
def test_only_the_wanted_condition_is_corrupted(place):
    shares = tuple(float(number == place) for number in range(3))
    true, wrong = sample(CONFIG), sample(configured(corruption=shares))
    np.testing.assert_array_equal(true["video"], wrong["video"])
    for number in range(3):
        part = slice(3 * number, 3 * number + 3)
        different = true["conditions"][..., part] != wrong["conditions"][..., part]
        assert different.any(axis=(1, 2, 3)).all() == (number == place)
        assert different.any() == (number == place)


def test_fingerprints_tell_the_worlds_apart():
    changes = (
        {},
        {"split": "test"},
        {"synthetic_frames": 11},
        {"corruption": (0.5, 0.0, 0.0)},
        {"corruption": (0.5, 0.0, 0.0), "corruption_seed": 1},
    )
    prints = [open_source("dancer", configured(**change)).fingerprint() for change in changes]
    assert len(set(prints)) == len(prints)
    assert prints[0] == open_source("dancer", CONFIG).fingerprint()


def test_bad_corruptions_are_refused():
    for shares in ((0.1, 0.2), (0.0, 0.0, 2.0)):
        with pytest.raises(UserError, match="corruption: expected three shares"):
            configured(corruption=shares)


def test_packed_clips_give_the_same_examples(tmp_path):
    drawn = DancerSource(2, 10, SIZE, corruption=Corruption(0.5, 0.5, 0.5))
    source = PackedSource(drawn, CONDITIONS)
    verdicts = list(validate(source, CONDITIONS, Limits(SIZE, max_empty=0.9)))
    assert [verdict.reason for verdict in verdicts] == ["", ""]
    index = write_encoded(source, verdicts, CONDITIONS, tmp_path / "packed")
    assert index.names == ("dancer/0-0", "dancer/1-1")
    config = configured(sources=(str(tmp_path / "packed"),))
    stored = open_source(str(tmp_path / "packed"), config).sample(1, config, Streams(0, 5))
    fresh = drawn.sample(1, config, Streams(0, 5))
    assert stored.keys() == fresh.keys()
    for name, values in fresh.items():
        np.testing.assert_array_equal(stored[name], values)


class Averages:
    """Stands in for the networks of a cache."""

    name = "averages"

    def posterior(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = pictures[:, ::8, ::8].repeat(2, axis=-1)[..., :4]
        return mean, np.ones_like(mean)

    def tokens(self, pictures: np.ndarray) -> np.ndarray:
        return pictures.mean(axis=2)


def test_dancers_can_be_cached(tmp_path):
    source = DancerSource(2, 6, SIZE)
    verdicts = list(validate(source, CONDITIONS, Limits(SIZE)))
    write_cached(source, verdicts, CONDITIONS, tmp_path / "cache", Averages(), SIZE)
    config = configured(sources=(str(tmp_path / "cache"),), frames=2)
    cached = open_source(str(tmp_path / "cache"), config).sample(0, config, Streams(0, 5))
    fresh = source.sample(0, config, Streams(0, 5))
    np.testing.assert_array_equal(cached["draw_hash"], fresh["draw_hash"])
    np.testing.assert_allclose(cached["conditions"] / 255, fresh["conditions"], atol=1e-6)
