"""The denoising loop on a toy model: windows averaged, and only windows of features on devices."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realisdance_jax.diffusion.schedule import ScheduleConfig
from realisdance_jax.diffusion.solvers import make_solver
from realisdance_jax.models.compute import Compute
from realisdance_jax.parallel.mesh import make_mesh
from realisdance_jax.sampling.denoise import denoise_clip
from realisdance_jax.sampling.encode import encode_conditions
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import ClipState, Guidance
from realisdance_jax.sampling.windows import WindowPlan, plan_windows

SIZE, WIDTH = (2, 3, 4), 40
"""Of latents `h w c`, and channels of pose features on the same grid."""


class Toy:
    """Predicts the mean over a window's frames of latents times the mean over pose channels."""

    def __init__(self, dtype=jnp.float32):
        self.compute = Compute(dtype)
        self.precisions = []

    def apply(self, variables, *inputs, method):
        self.precisions.append(jax.config.jax_default_matmul_precision)
        if method == "encode_pose":
            return jnp.repeat(inputs[0], 2, axis=-1), jax.nn.sigmoid(inputs[0])
        if method == "guide":
            return (inputs[0].mean(axis=-1, keepdims=True),)
        latents, t, context, (pose,), _ = inputs
        product = latents * pose
        mean = jnp.broadcast_to(product.mean(axis=1, keepdims=True), product.shape)
        return mean * variables["scale"] + context.mean() + 1e-3 * t[:, None, None, None, None]


def pipeline(model: Toy, devices: int) -> Pipeline:
    mesh = make_mesh({"data": -1}, jax.devices()[:devices])
    other = SimpleNamespace(apply=model.apply)
    return Pipeline(None, model, {"scale": jnp.float32(0.5)}, other, {}, other, {}, mesh)


def expected(plan: WindowPlan, latents: np.ndarray, pose: np.ndarray, scale: float) -> np.ndarray:
    """The same run, window by window."""
    solver = make_solver("ddim", ScheduleConfig(), len(plan.index))
    for i, t in enumerate(solver.timesteps):
        total, count = np.zeros_like(latents), np.zeros(len(latents))
        for index, weight in zip(plan.index[i], plan.weight[i], strict=True):
            window = (latents[index] * pose[index].mean(-1, keepdims=True)).mean(0) * 0.5
            both = [window + context + 1e-3 * float(t) for context in (-1.0, 2.0)]
            guided = both[0] + scale * (both[1] - both[0])
            for frame, part in zip(index, weight, strict=True):
                total[frame] += part * guided
                count[frame] += part
        output = jnp.asarray(total / count[:, None, None, None], jnp.float32)
        x = jnp.asarray(latents, jnp.float32)
        latents = np.asarray(solver.step(solver.table, i, x, output, solver.init(x), None)[0])
    return latents


@pytest.mark.parametrize(
    ("kind", "frames", "batch"), [("official", 11, 2), ("blend", 11, 2), ("blend", 4, 2)]
)
def test_windows_are_averaged_and_devices_hold_no_features_of_the_clip(kind, frames, batch):
    random = np.random.default_rng(0)
    latents = random.standard_normal((frames, *SIZE)).astype(np.float32)
    pose = random.standard_normal((frames, *SIZE[:2], WIDTH)).astype(np.float32)
    plan = plan_windows(kind, 3, frames, 4, 1, 1, batch)
    model = Toy()
    run = pipeline(model, 2)
    context = jnp.full((1, 2, 5), 2.0), jnp.full((1, 2, 5), -1.0)
    clip = ClipState(*run.everywhere(context), {}, pose)
    solver, key = make_solver("ddim", ScheduleConfig(), 3), jax.random.key(0)
    ours, _ = denoise_clip(run, clip, latents, plan, solver, Guidance(1.5), batch, key)
    np.testing.assert_allclose(ours, expected(plan, latents, pose, 1.5), atol=2e-5)
    inputs = [key for name, key in run.compiled.programs if type(name) is tuple]
    shapes = [shape for key in inputs for shape, *_ in key]
    assert len(shapes) > 5
    assert max(map(math.prod, shapes)) <= batch * 4 * math.prod(pose.shape[1:])
    assert set(model.precisions) == {"highest"}


def test_seconds_of_all_programs_are_told(monkeypatch):
    """Those of `call` as well; of a program that is there already, none."""
    clock = iter(range(100))
    ticking = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr("realisdance_jax.sampling.compiled.time", ticking)
    run = pipeline(Toy(), 1)
    x = run.everywhere(jnp.ones((1, 2)))
    run.call("model", "guide", x)
    before = run.compiled.seconds
    assert before == (1, 1)
    run.call("model", "guide", x + 1)
    assert run.compiled.seconds == before
    run.call("model", "guide", run.everywhere(jnp.ones((2, 2))))
    assert run.compiled.since(before) == (1, 1)


def test_pose_features_stay_on_the_host():
    frames = np.random.default_rng(0).random((5, 4, 4, 3), np.float32)
    encoded = encode_conditions(pipeline(Toy(), 1), iter(frames), 2)
    assert type(encoded.features) is np.ndarray
    np.testing.assert_array_equal(encoded.features, np.repeat(frames, 2, axis=-1))
    np.testing.assert_array_equal(encoded.pictures, (frames * 255).astype(np.uint8))
    assert encoded.gates.shape == frames.shape


@pytest.mark.parametrize(
    ("network", "dtype", "precision"),
    [
        ("model", jnp.float32, "highest"),
        ("model", jnp.bfloat16, None),
        ("dino", jnp.bfloat16, "highest"),
    ],
)
def test_float32_is_not_rounded_in_products(network, dtype, precision):
    """GPUs and TPUs round float32 factors unless told not to."""
    model = Toy(dtype)
    pipeline(model, 1).call(network, "guide", jnp.ones((1, 2)))
    assert model.precisions == [precision]
    assert jax.config.jax_default_matmul_precision is None
