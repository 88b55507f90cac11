"""Whole sampling runs against the official pipelines: latents after every step, and videos."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.plain import denoise_plain, plain_inputs, plain_programs
from realisdance_jax.checkpoints.random_weights import random_variables
from realisdance_jax.checkpoints.variables import ALL_COMPONENTS
from realisdance_jax.checkpoints.weights import FORMAT, Manifest, merge
from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.dinov2 import DinoV2
from realisdance_jax.models.realisdance import COMPONENTS, RealisDance
from realisdance_jax.models.vae import VAE
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling import sampler
from realisdance_jax.sampling.config import SampleConfig
from realisdance_jax.sampling.encode import Clip
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import Guidance, frame_noise
from realisdance_jax.sampling.sampler import Animation, choose_windows, sample_clip
from tests import oracle
from tests.e2e.conftest import SMALL
from tests.parity.report import SAMPLING, Table, channels_last

CONDITIONS = ("pose", "hamer", "smpl")


def assembled(
    config: RealisDanceConfig, model: dict, dino: dict, vae: dict, devices: int = 1, share: int = 1
) -> Pipeline:
    """The networks of `config` with these variables on the first devices, as `load` makes them."""
    mesh = make_mesh({"data": -1, "frames": share}, jax.devices()[:devices])
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    model, dino, vae = (jax.device_put(tree, everywhere) for tree in (model, dino, vae))
    compute = Compute(mesh=mesh)
    networks = (RealisDance(config, compute), model, DinoV2(config.dino, compute), dino)
    return Pipeline(Manifest(FORMAT, config), *networks, VAE(config.vae), vae, mesh)


@functools.cache
def pipeline(stage: int) -> Pipeline:
    """The oracle's model on one device."""
    weights = oracle.model_variables(stage), oracle.dino_variables(), oracle.vae_params()
    return assembled(oracle.config(stage), *weights)


def small_pipeline(devices: int, share: int = 1) -> Pipeline:
    """A model of two levels with every weight at random."""
    parts = {name: random_variables(SMALL, name, i) for i, name in enumerate(ALL_COMPONENTS)}
    model = merge(*(parts[name] for name in COMPONENTS))
    return assembled(SMALL, model, parts["image_encoder"], parts["vae"]["params"], devices, share)


def inputs(stage: int, frames: int) -> tuple[Clip, np.ndarray]:
    """The clip and the initial latents `f h w c`."""
    start = f"sample{stage}."
    raw = {k.removeprefix(start): v for k, v in oracle.arrays("inputs").items()}
    videos = [raw[name] if stage == 2 else raw[name][:, :, None] for name in CONDITIONS]
    conditions = np.concatenate([channels_last(v)[0] for v in videos], axis=-1)
    latents = channels_last(raw["latents"] if stage == 2 else raw["latents"][:, :, None])[0]
    clip = Clip(
        channels_last(raw["ref_image"])[0],
        channels_last(raw["ref_image_clip"])[0],
        conditions[:frames],
    )
    return clip, latents[:frames]


def run(stage: int, frames: int, using: Pipeline | None = None, **options):
    """(latents after each step, animation) of a run with the oracle's settings."""
    clip, initial = inputs(stage, frames)
    steps = []
    settings = {"size": (128, 64), "steps": 4, "guidance": 2.0, "chunk": 2} | options
    animation = sample_clip(
        using or pipeline(stage),
        clip,
        SampleConfig(**settings),
        initial,
        on_step=lambda i, latents: steps.append(np.asarray(latents)),
    )
    return np.array(steps), animation


def official_latents(steps: np.ndarray, stage: int) -> np.ndarray:
    """(step, f h w c) -> (step, N, C, F, H, W), without F for images."""
    latents = np.moveaxis(steps, -1, 1)[:, None]
    return latents if stage == 2 else latents[:, :, :, 0]


def official_video(video: np.ndarray, stage: int) -> np.ndarray:
    """`f H W 3` -> N C F H W, without F for images."""
    video = np.moveaxis(video, -1, 0)[None]
    return video if stage == 2 else video[:, :, 0]


@pytest.fixture
def plain_video(monkeypatch):
    """The video of a run once more, without the reference's colours and without denoising again."""

    def plain_video(stage: int, animation: Animation, **options) -> np.ndarray:
        done = jnp.asarray(animation.latents), animation.timing
        with monkeypatch.context() as patch:
            patch.setattr(sampler, "denoise_clip", lambda *args: done)
            return run(stage, len(animation.latents), **options, color=False)[1].video

    return plain_video


@pytest.mark.parametrize("uncond", ["fake", "image"])
def test_image_stage(uncond, record_property, plain_video):
    table = Table(record_property, "sample_stage1", SAMPLING)
    name = "fake1" if uncond == "fake" else "fake0"
    steps, animation = run(1, 1, uncond=uncond)
    table.row(f"{name}.latents", official_latents(steps, 1))
    table.row(f"{name}.video", official_video(animation.video, 1))
    table.row("timesteps", make_solver("ddim", ScheduleConfig(), 4).timesteps)
    if uncond == "fake":
        plain = plain_video(1, animation, uncond=uncond)
        table.row("fake1.video_plain", official_video(plain, 1))
        steps = run(1, 1, guidance=1.0)[0]
        table.row("noguidance.latents", official_latents(steps, 1))
    table.verify()


@pytest.mark.parametrize("name", ["A.fake1", "A.fake0", "B.fake1", "B.fake0"])
def test_video_stage(name, record_property, plain_video):
    table = Table(record_property, "sample_stage2", SAMPLING)
    rule = oracle.meta()["sample_stage2"][name]
    options = {
        "uncond": "fake" if rule["fake_uncond"] else "image",
        "window_size": rule["context_frames"],
        "window_stride": rule["context_stride"],
        "window_overlap": rule["context_overlap"],
        "window_batch": 2,
    }
    steps, animation = run(2, rule["num_frames"], **options)
    table.row(f"{name}.latents", official_latents(steps, 2))
    stored = animation.video[rule["video_frames_stored"]]
    table.row(f"{name}.video", official_video(stored, 2))
    if rule["video_plain_frames_stored"]:
        plain = plain_video(2, animation, **options)
        stored = plain[rule["video_plain_frames_stored"]]
        table.row(f"{name}.video_plain", official_video(stored, 2))
    table.verify()


def test_exact_caches_equal_the_order_of_the_release():
    """Reference UNet and pose guider anew in every window and step, the latter in each branch."""
    options = {"window_size": 4, "window_overlap": 1, "window_batch": 2}
    clip, initial = inputs(2, 10)
    solver, guidance = make_solver("ddim", ScheduleConfig(), 4), Guidance(2.0)
    plan, batch = choose_windows(pipeline(2), SampleConfig(steps=4, **options), 10)
    once, programs = (
        plain_inputs(pipeline(2), clip, "fake"),
        plain_programs(pipeline(2), solver, guidance),
    )
    rest = (initial, plan, solver, guidance, batch)
    plain = denoise_plain(pipeline(2), programs, once, *rest)
    ours = run(2, 10, uncond="fake", color=False, **options)[0][-1]
    assert oracle.relative_error(ours, plain) < 5e-5
    assert oracle.relative_error(plain, initial) > 0.1


def test_single_window(record_property):
    table = Table(record_property, "sample_stage2", SAMPLING)
    table.row("single.latents", official_latents(run(2, 4)[0], 2))
    table.row("timesteps", make_solver("ddim", ScheduleConfig(), 4).timesteps)
    table.verify()


@pytest.mark.parametrize("share", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_eight_devices_equal_one(share):
    """Noise and result depend on neither the mesh nor the window batch."""
    options = {"window_size": 4, "window_overlap": 1}
    one = run(2, 10, small_pipeline(1), **options)[0]
    eight = run(2, 10, small_pipeline(8, share), **options, window_batch=3)[0]
    assert one.shape == (4, 10, 16, 8, 4)
    assert np.std(one[-1] - one[0]) > 1e-2
    assert oracle.relative_error(eight[-1], one[-1]) < 1e-5


def test_noise_does_not_depend_on_length():
    key = jax.random.key(3)
    long, short = frame_noise(key, (10, 16, 8, 4)), frame_noise(key, (4, 16, 8, 4))
    np.testing.assert_array_equal(long[:4], short)
    assert abs(float(jnp.std(long)) - 1) < 0.05
    assert abs(float(jnp.mean(long[0] * long[1]))) < 0.1
