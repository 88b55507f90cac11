"""What is made once and kept changes nothing but the work, cache by cache."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks.plain import denoise_plain, plain_inputs, plain_programs
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.realisdance import RealisDance
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling import denoise
from realisdance_jax.sampling.caches import ALL, Caches
from realisdance_jax.sampling.compiled import Compiled
from realisdance_jax.sampling.denoise import denoise_clip
from realisdance_jax.sampling.encode import Clip, encode_conditions, encode_reference
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import Guidance
from realisdance_jax.sampling.windows import plan_windows
from tests import oracle
from tests.models import tiny

FRAMES, STEPS, SIZE = 4, 2, (4, 2)
GUIDANCE = Guidance(2.0)
SOLVER = make_solver("ddim", ScheduleConfig(), STEPS)
PLAN = plan_windows("official", STEPS, FRAMES, 2, 1, 0)
"""Two windows of two frames, the same ones at both steps but in another order."""
NONE = Caches(*[False] * len(dataclasses.fields(Caches)))


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.cache
def pipeline() -> Pipeline:
    """A tiny model, between stand-ins for DINOv2 and the VAE."""
    config = tiny.config()
    width, channels = config.dino.width, config.unet.in_channels

    def dino(variables, image, method):
        return jax.numpy.asarray(draw(1, 1, tiny.TOKENS, width)) * (1 + image.mean())

    def vae(variables, picture, method):
        return jax.numpy.asarray(draw(2, 1, *SIZE, channels))

    mesh = make_mesh({"data": -1}, jax.devices()[:1])
    stand_ins = SimpleNamespace(apply=dino), {}, SimpleNamespace(apply=vae), {}
    model = RealisDance(config, Compute(mesh=mesh))
    empty: object = None
    made = Pipeline(empty, model, {}, *stand_ins, mesh)  # type: ignore
    return dataclasses.replace(made, variables=made.everywhere(tiny.variables(config)))


def clip() -> Clip:
    pictures = np.random.default_rng(3).random((FRAMES, 8 * SIZE[0], 8 * SIZE[1], 9), np.float32)
    return Clip(draw(4, 8 * SIZE[0], 8 * SIZE[1], 3), draw(5, 14, 14, 3), list(pictures))


def initial() -> np.ndarray:
    return draw(6, FRAMES, *SIZE, 4)


def latents(uncond: str, caches: Caches = ALL, using: Pipeline | None = None) -> np.ndarray:
    """The way of `sample_clip`."""
    run = using or pipeline()
    features = encode_conditions(run, clip().conditions, 2).features
    pose = features if caches.pose else np.stack(clip().conditions)
    state = encode_reference(run, clip(), uncond, pose, caches)
    rest = (SOLVER, GUIDANCE, 1, jax.random.key(0))
    return np.asarray(denoise_clip(run, state, initial(), PLAN, *rest, caches=caches)[0])


@functools.cache
def kept(uncond: str) -> np.ndarray:
    return latents(uncond)


@pytest.mark.slow
def test_the_order_of_the_release():
    """The other unconditional branch; with the oracle's weights: tests/parity/test_sampling.py."""
    once = plain_inputs(pipeline(), clip(), "image")
    programs = plain_programs(pipeline(), SOLVER, GUIDANCE)
    rest = (initial(), PLAN, SOLVER, GUIDANCE, 1)
    plain = denoise_plain(pipeline(), programs, once, *rest)
    assert oracle.relative_error(kept("image"), plain) < 1e-5
    assert oracle.relative_error(initial(), plain) > 0.1


def test_the_unconditional_branches_differ():
    assert oracle.relative_error(kept("fake"), kept("image")) > 1e-3


@pytest.mark.parametrize("off", [field.name for field in dataclasses.fields(Caches)])
def test_each_cache_changes_nothing(off):
    without = latents("fake", dataclasses.replace(ALL, **{off: False}))
    assert oracle.relative_error(without, kept("fake")) < 1e-5


@pytest.mark.parametrize("caches", [ALL, pytest.param(NONE, marks=pytest.mark.slow)])
def test_how_often_networks_run(monkeypatch, caches):
    """The reference UNet once per clip; guidance once per distinct window, for both branches."""
    ran = {"encode_reference": 0, "guide": 0}

    def count(name: str) -> None:
        ran[name] += 1

    def counted(name: str):
        method = getattr(RealisDance, name)

        @functools.wraps(method)
        def run(*args):
            jax.debug.callback(functools.partial(count, name))
            return method(*args)

        return run

    for name in ran:
        monkeypatch.setattr(RealisDance, name, counted(name))
    latents("image", caches, dataclasses.replace(pipeline(), compiled=Compiled()))
    jax.effects_barrier()
    calls = STEPS * PLAN.index.shape[1]
    expected = {"encode_reference": 1, "guide": 2}
    if caches == NONE:
        expected = {"encode_reference": calls, "guide": 2 * calls}
    assert ran == expected


def test_guidance_is_kept_while_there_is_room(monkeypatch):
    """Windows of the release move from step to step, and come again."""
    plan = plan_windows("official", 8, 6, 4, 1, 2)
    made = []
    monkeypatch.setattr(Pipeline, "call", lambda *args: made.append(1) or (args[-1],))
    windows = [index for i in range(8) for index, _ in plan.batches(i, 1)]
    distinct = len({index.tobytes() for index in windows})
    for room, expected in ((2**30, distinct), (0, len(windows))):
        monkeypatch.setattr(denoise, "GUIDANCE_BYTES", room)
        poses = denoise.WindowPoses(pipeline(), draw(0, 6, *SIZE, 8), plan, 1)
        made.clear()
        for index in windows:
            poses(index)
        assert len(made) == expected
    assert distinct < len(windows)


def test_guidance_is_kept_by_window_in_batches_of_two(monkeypatch):
    """The same windows come in other company."""
    plan = plan_windows("official", 8, 6, 4, 1, 2, 2)
    made = []
    monkeypatch.setattr(Pipeline, "call", lambda *args: made.append(1) or (args[-1],))
    batches = [index for i in range(8) for index, _ in plan.batches(i, 2)]
    pose = draw(0, 6, *SIZE, 8)
    poses = denoise.WindowPoses(pipeline(), pose, plan, 2)
    for index in batches:
        np.testing.assert_array_equal(poses(index)[0], pose[index])
    distinct = {window.tobytes() for index in batches for window in index}
    assert len(made) == poses.made == len(distinct) == denoise.guided_windows(plan, 1)
    assert len(distinct) < len({index.tobytes() for index in batches}) * 2
