"""Sizes for what is free: from above, for every call, and never less than one."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from realisdance_jax.checkpoints.variables import abstract_component
from realisdance_jax.checkpoints.weights import Manifest, merge
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.realisdance import COMPONENTS, RealisDance
from realisdance_jax.models.vae import VAE
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling import memory
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.memory import Needs, fit, fit_memory, free_bytes, needs_of
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.sampler import choose_windows
from tests.e2e.conftest import SMALL

CONFIG = SampleConfig((32, 32), steps=2, window_size=4, window_overlap=1, windows="blend")
FRAMES = 13
"""Four windows."""


def pipeline(devices: int = 1) -> Pipeline:
    """Of shapes alone."""
    mesh = make_mesh({"data": -1}, jax.devices()[:devices])
    variables = merge(*(dict(abstract_component(SMALL, name)) for name in COMPONENTS))
    params = dict(abstract_component(SMALL, "vae"))["params"]
    none: Any = None
    model, vae = RealisDance(SMALL, Compute(mesh=mesh)), VAE(SMALL.vae)
    return Pipeline(Manifest(1, SMALL), model, variables, none, {}, vae, params, mesh)


@pytest.mark.parametrize(
    ("free", "windows", "frames", "devices", "expected"),
    [
        (0, 7, 80, 1, (1, 1)),
        (1000, 7, 80, 1, (7, 16)),
        (900, 7, 80, 1, (4, 16)),
        (600, 7, 80, 1, (3, 16)),
        (250, 7, 80, 1, (1, 5)),
        (1000, 1, 3, 1, (1, 3)),
        (1000, 7, 80, 4, (8, 16)),
        (250, 7, 80, 4, (4, 5)),
        (10**6, 7, 80, 1, (7, 16)),
    ],
)
def test_few_calls_with_no_more_windows_than_they_take(free, windows, frames, devices, expected):
    """Four fifths of what is free, less 100 for the clip: 100 a window, 20 a frame."""
    assert fit(Needs(100, 100, 20), free, windows, frames, devices) == expected


def test_free_bytes(monkeypatch):
    gpu = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 100, "bytes_in_use": 30})
    assert free_bytes(gpu) == 70
    cpu = SimpleNamespace(memory_stats=lambda: None)
    monkeypatch.setattr(memory, "available_bytes", lambda: 80 * 1024)
    assert free_bytes(cpu) == 80 * 1024 // jax.local_device_count()
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert free_bytes(cpu) is None


def test_needs_grow_with_what_they_are_of():
    run = pipeline()
    short = needs_of(run, CONFIG, FRAMES, 4, 4)
    assert min(short.clip, short.window, short.frame) > 1000
    long = needs_of(run, CONFIG, 10 * FRAMES, 40, 40)
    assert long.window == short.window
    assert short.clip < long.clip < 11 * short.clip
    reusing = dataclasses.replace(CONFIG, reuse_features=2)
    deep = 2 * 4 * 4 * 4 * 4 * SMALL.unet.widths[1] * 4
    assert needs_of(run, reusing, FRAMES, 4, 4).clip - short.clip == deep


def test_kept_guidance_has_its_room_on_each_device(monkeypatch):
    monkeypatch.setattr(memory, "GUIDANCE_BYTES", 50_000)
    run = pipeline(4)
    none, much = (needs_of(run, CONFIG, FRAMES, 4, distinct).clip for distinct in (0, 10**6))
    assert much - none == 50_000


@pytest.mark.parametrize("which", [0, 2], ids=["window", "decoder"])
def test_the_compiler_needs_no_more(monkeypatch, which):
    """The estimate is from above, and not absurd."""
    asked = []
    real = memory._call_bytes

    def estimate(function, *args):
        asked.append((function, args, real(function, *args)))
        return asked[-1][2]

    monkeypatch.setattr(memory, "_call_bytes", estimate)
    needs_of(pipeline(), CONFIG, FRAMES, 4, 4)
    assert len(asked) == 3
    function, args, estimated = asked[which]
    compiled = jax.jit(function).lower(*args).compile().memory_analysis()
    assert compiled is not None
    actual = compiled.temp_size_in_bytes + compiled.output_size_in_bytes
    assert actual <= estimated <= 6 * actual


def test_sizes_are_chosen_and_said(monkeypatch):
    run, said = pipeline(), []
    plan = choose_windows(run, CONFIG, FRAMES)[0]
    needs = needs_of(run, CONFIG, FRAMES, 4, 4)

    def fitted(free: int | None, *chosen) -> tuple[int, int]:
        monkeypatch.setattr(memory, "free_bytes", lambda device: free)
        config = fit_memory(run, CONFIG, plan, chosen, said.append)
        return config.window_batch, config.chunk

    both = ("window_batch", "chunk")
    assert fitted(2**40, *both) == (4, FRAMES)
    assert "; 4 windows and 13 frames per call (at most" in said[-1]
    assert fitted(2**40, "chunk") == (1, FRAMES)
    two = int((needs.clip + 2.5 * needs.window) / memory.SHARE)
    assert fitted(two, "window_batch") == (2, CONFIG.chunk)
    assert fitted(1, *both) == (1, 1)
    assert said[-1].startswith("memory: even one window may not fit")
    assert fitted(None, *both) == (1, 4)
    assert said[-1].startswith("memory: nothing tells")
