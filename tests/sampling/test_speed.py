"""What `--speed` stands for, and what wins over it."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from realisdance_jax.checkpoints.weights import Manifest
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.sample import check_used, make_config, make_parser
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.sampler import check_interval
from realisdance_jax.sampling.speed import SPEEDS, describe, has_bfloat16
from realisdance_jax.utils.errors import UserError

FILES = ("--weights", "w", "--ref", "r.png", "--out", "o.mp4")
PAGE = Path(__file__).parents[2] / "docs" / "sampling.md"


def config(*words: str) -> SampleConfig:
    return make_config(make_parser().parse_args([*FILES, *words]))


def test_exact_is_the_default():
    assert config() == config("--speed", "exact") == SampleConfig()


def test_a_bundle_sets_what_is_not_given():
    fast = config("--speed", "fast")
    assert fast == SampleConfig(**SPEEDS["fast"].values())
    assert (fast.solver, fast.steps) != (SampleConfig().solver, SampleConfig().steps)
    given = config("--speed", "fast", "--steps", "50", "--guidance-interval", "0,1")
    assert (given.solver, given.steps) == (fast.solver, 50)
    assert given.guidance_interval == (0.0, 1.0)
    reused = config("--reuse-features", "3", "--reuse-layers", "1", "--solver", "ddim")
    assert reused == SampleConfig(reuse_features=3, reuse_layers=1)


def used(*words: str) -> None:
    options = make_parser().parse_args([*FILES, *words])
    check_used(options, make_config(options))


@pytest.mark.parametrize(
    ("words", "other"),
    [
        (("--reuse-layers", "1"), "--reuse-features"),
        (("--guidance-interval", "0.2,1", "--guidance", "1"), "--guidance"),
        (("--guidance-rescale", "0.5", "--guidance", "0"), "--guidance"),
    ],
)
def test_options_without_effect_are_refused(words, other):
    name, value = words[:2]
    with pytest.raises(UserError) as caught:
        used(*words)
    assert str(caught.value) == f"{name}: expected {other} above 1 beside it, found {value} alone"


def test_bundles_may_be_without_effect():
    """What they set, and defaults."""
    for name in SPEEDS:
        used("--speed", name, "--guidance", "1", "--reuse-features", "1")
    used("--reuse-layers", "1", "--reuse-features", "2", "--guidance-interval", "0.2,1")


def test_intervals_without_a_step():
    """Two steps, at the ends of the schedule."""
    manifest = Manifest(1, RealisDanceConfig())
    wanted = SampleConfig(steps=2, guidance_interval=(0.4, 0.6))
    with pytest.raises(UserError, match=r"interval: expected .* a step \(1, .*found 0.4,0.6$"):
        check_interval(manifest, wanted)
    check_interval(manifest, dataclasses.replace(wanted, guidance=1.0))
    check_interval(manifest, dataclasses.replace(wanted, guidance_interval=(0.4, 1.0)))


@pytest.mark.parametrize("text", ["0.2", "a,b", "0,1,1", ""])
def test_intervals_are_two_numbers(text):
    with pytest.raises(UserError, match="guidance interval: expected LO,HI such as"):
        config("--guidance-interval", text)


@pytest.mark.parametrize(
    ("platform", "capability", "native"),
    [
        ("tpu", None, True),
        ("gpu", "9.0", True),
        ("gpu", "12.0", True),
        ("gpu", "9.0a", True),
        ("gpu", "8.0", True),
        ("gpu", "7.5", False),
        ("gpu", "gfx90a", False),
        ("gpu", None, False),
    ],
)
def test_bfloat16_where_it_is_native(platform, capability, native):
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    assert has_bfloat16(device) == native
    assert SPEEDS["fast"].dtype(device) == ("bfloat16" if native else "float32")
    assert SPEEDS["exact"].dtype(device) == "float32"
    assert not has_bfloat16(SimpleNamespace(platform="cpu"))


def test_bundles_in_words():
    assert describe(SampleConfig(), "float32") == "ddim, 50 steps, float32"
    every = SampleConfig(steps=9, guidance_interval=(0.25, 1.0), reuse_features=3)
    words = "ddim, 9 steps, guidance from 0.25 to 1, the whole network every 3 steps, bfloat16"
    assert describe(every, "bfloat16") == words


def test_the_page_says_what_bundles_are():
    """A row for each in docs/sampling.md, with its solver, steps, interval and reuse."""
    page = PAGE.read_text("utf-8")
    for name, bundle in SPEEDS.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {name} |"))
        low, high = bundle.guidance_interval
        cells = [cell.strip() for cell in row.split("|")[2:6]]
        reuse = "off" if bundle.reuse_features == 1 else str(bundle.reuse_features)
        assert cells == [bundle.solver, str(bundle.steps), f"{low:g}-{high:g}", reuse]
