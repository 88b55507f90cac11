"""Attention by every way is the plain formula, on one device and spread over a mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental.pallas import tpu as pltpu

from realisdance_jax.models import attend as way
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.kernels import (
    cudnn_part,
    flash_fits,
    flash_rows,
    splash_fits,
    splash_part,
)
from realisdance_jax.models.parts import dense_part, in_parts
from realisdance_jax.parallel.mesh import make_mesh
from tests.examples import few


def plain(q, own, shared, keep) -> np.ndarray:
    """In float64, group by group, over the joined list of keys."""
    out = np.zeros(q.shape)
    q = np.asarray(q, np.float64)
    for b, g in np.ndindex(q.shape[:2]):
        sets = [] if own is None else [[x[b, g] for x in own]]
        if shared is not None and (keep is None or keep[b]):
            sets.append([x[b] for x in shared])
        k, v = (np.concatenate([np.asarray(s[i], np.float64) for s in sets]) for i in (0, 1))
        logits = np.einsum("nkd,mkd->knm", q[b, g], k) / np.sqrt(q.shape[-1])
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out[b, g] = np.einsum("knm,mkd->nkd", weights, v)
    return out


def inputs(seed, b, g, n, m, s, heads=2, d=4):
    """Queries, own and shared keys with values (None for length 0), who keeps the shared ones."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    own = (draw(b, g, m, heads, d), draw(b, g, m, heads, d)) if m else None
    shared = (draw(b, s, heads, d), draw(b, s, heads, d)) if s else None
    keep = jnp.asarray(rng.random(b) < 0.5) if m and s else None
    return draw(b, g, n, heads, d), own, shared, keep


def value_and_gradient(run, q, own, shared, keep):
    def loss(q, own, shared):
        out = run(q, own, shared, keep)
        return jnp.sum(jnp.sin(out)), out

    (_, out), gradient = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(q, own, shared)
    return out, jax.tree.leaves(gradient)


DENSE = jax.jit(way._dense)


def check(run, args, atol=2e-6):
    """Value against the formula, gradients against those of the reference way."""
    out, gradient = value_and_gradient(run, *args)
    np.testing.assert_allclose(out, plain(*args), atol=atol)
    _, expected = value_and_gradient(DENSE, *args)
    for ours, theirs in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6)


@pytest.mark.parametrize("queries", [0, 1, 3, 7, 14, 28, 99])
@pytest.mark.parametrize(("m", "s"), [(5, 3), (7, 0), (0, 4)])
def test_any_budget_is_attention(monkeypatch, queries, m, s):
    """Clip by clip, group by group, in pieces of a group, or all at once."""
    monkeypatch.setattr(way, "CPU_LOGIT_BYTES", queries * 4 * 2 * (m + s))
    check(jax.jit(lambda *args: way.attend(*args)), inputs(queries, 2, 4, 7, m, s))


@pytest.mark.parametrize(("clips", "turns"), [(1, 6), (2, 3), (3, 2), (5, 2)])
def test_some_clips_at_a_time(monkeypatch, clips, turns):
    """As many as fit and divide them all."""
    monkeypatch.setattr(way, "CPU_LOGIT_BYTES", clips * 4 * 7 * 4 * 2 * (5 + 3))
    args = inputs(clips, 6, 4, 7, 5, 3)
    check(jax.jit(lambda *args: way.attend(*args)), args)
    jaxpr = jax.make_jaxpr(lambda *args: way.attend(*args))(*args)
    assert [eqn.params["length"] for eqn in jaxpr.eqns if eqn.primitive.name == "scan"] == [turns]


@few(100)
@given(n=st.integers(1, 10_000), most=st.integers(0, 10_000))
def test_largest_divisor(n, most):
    size = way.largest_divisor(n, most)
    assert size <= most
    assert size == max((k for k in range(1, min(n, most) + 1) if n % k == 0), default=0)


@pytest.mark.parametrize("budget", [2**20, 100])
@pytest.mark.parametrize("groups", ["frames", "pixels"])
def test_spread_over_a_mesh(monkeypatch, budget, groups):
    """Examples, groups and heads on 8 devices, whole or in chunks within each."""
    monkeypatch.setattr(way, "CPU_LOGIT_BYTES", budget)
    mesh = make_mesh({"data": 2, "frames": 2, "tensor": 2})
    compute = Compute(mesh=mesh, training=True)
    run = jax.jit(functools.partial(way.attend, compute=compute, groups=groups))
    check(run, inputs(0, 2, 4, 6, 6, 5))
    lowered = run.lower(*inputs(0, 2, 4, 6, 6, 5)).as_text()
    assert ("manual_computation" in lowered) == (budget == 100)


@pytest.mark.parametrize(("m", "s"), [(128, 128), (128, 0), (0, 256)])
def test_tpu_kernel(m, s):
    """The Pallas kernel, interpreted: values and gradients, with dropped shared keys."""
    args = inputs(1, 2, 2, 128, m, s, heads=1, d=40)
    assert flash_fits(128, m + s, 40)

    def run(q, own, shared, keep):
        k, v = way.joined_keys(q.shape[1], own, shared)
        rows = [x.reshape(-1, *x.shape[2:]) for x in (q, k, v)]
        seen = None if keep is None else jnp.repeat(keep, q.shape[1])
        return flash_rows(*rows, m, seen).reshape(q.shape)

    with pltpu.force_tpu_interpret_mode():
        check(run, args, atol=1e-5)


def exact_gradient(q, own, shared, keep):
    """Of the loss of `value_and_gradient`, all in float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), (q, own, shared))
        seen = None if keep is None else np.asarray(keep)
        _, gradient = value_and_gradient(float64_attention, *wide, seen)
        return [np.asarray(leaf) for leaf in gradient]


def float64_attention(q, own, shared, keep):
    """The formula once more, in one piece and differentiable; masked keys get no weight."""
    groups = q.shape[1]
    repeated = [jnp.repeat(x[:, None], groups, axis=1) for x in shared or ()]
    k, v = (jnp.concatenate([*x], axis=2) for x in zip(*filter(None, (own, repeated)), strict=True))
    logits = jnp.einsum("bgnkd,bgmkd->bgknm", q, k) / np.sqrt(q.shape[-1])
    if keep is not None:
        hidden = ~keep[:, None] & (jnp.arange(k.shape[2]) >= own[0].shape[2])
        logits = jnp.where(hidden[:, None, None, None], -jnp.inf, logits)
    return jnp.einsum("bgknm,bgmkd->bgnkd", jax.nn.softmax(logits, axis=-1), v)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("budget", [2**20, 300])
@pytest.mark.parametrize(("m", "s"), [(5, 3), (7, 0), (0, 4)])
def test_both_ways_against_float64(monkeypatch, training, budget, m, s):
    """All keys at once, as to train, or in two parts: values, and gradients of both."""
    monkeypatch.setattr(way, "CPU_LOGIT_BYTES", budget)
    args = inputs(2, 3, 4, 6, m, s)
    compute = Compute(training=training)
    run = jax.jit(lambda *args: way.attend(*args, compute=compute))
    out, gradient = value_and_gradient(run, *args)
    np.testing.assert_allclose(out, plain(*args), atol=2e-6)
    for ours, theirs in zip(gradient, exact_gradient(*args), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6)


@pytest.mark.parametrize("scale", [1, 100])
@pytest.mark.parametrize(("m", "s"), [(4, 3), (1, 0), (0, 4)])
def test_parts_make_the_whole(scale, m, s):
    """Also with very unlike parts: queries a hundred times as long."""
    q, *keys = inputs(3, 2, 3, 5, m, s)
    out = jax.jit(functools.partial(in_parts, rows=dense_part))(scale * q, *keys)
    np.testing.assert_allclose(out, plain(scale * q, *keys), atol=1e-5)


@pytest.mark.parametrize(("n", "m", "s"), [(128, 128, 256), (200, 130, 0), (130, 0, 200)])
def test_tpu_kernel_in_parts(monkeypatch, n, m, s):
    """Splash attention, interpreted; lengths that fill no tile, long rows in pieces."""
    monkeypatch.setattr("realisdance_jax.models.kernels.SPLASH_QUERIES", 256)
    args = inputs(1, 2, 2, n, m, s, heads=1, d=40)
    with pltpu.force_tpu_interpret_mode():
        out = jax.jit(functools.partial(in_parts, rows=splash_part))(*args)
    np.testing.assert_allclose(out, plain(*args), atol=1e-5)


def largest(jaxpr) -> int:
    """Values in the largest array that a program makes outside its kernels."""
    made = [v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars]
    inner = (v.jaxpr for eqn in jaxpr.eqns for v in eqn.params.values() if hasattr(v, "jaxpr"))
    return max([*made, *(largest(j) for j in inner)])


@pytest.fixture
def absent_gpu(monkeypatch):
    """cuDNN attention may be traced, not run."""
    module = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{module}.check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(f"{module}.check_compute_capability", lambda wanted: False)
    monkeypatch.setattr(f"{module}.is_cuda_compute_capability_equal", lambda wanted: False)


@pytest.mark.usefixtures("absent_gpu")
@pytest.mark.parametrize(("platform", "kind"), [("tpu", "TPU v5 lite"), ("cuda", "NVIDIA H100")])
def test_inference_copies_no_shared_keys(platform, kind):
    """Nothing it makes is as large as the keys of all groups would be."""
    groups, n, s, heads, d = 16, 512, 4096, 2, 40
    half = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    q, k = half((1, groups, n, heads, d)), half((1, s, heads, d))

    def program(training: bool):
        compute = Compute(jnp.bfloat16, mesh=FakeMesh(platform, kind), training=training)
        run = functools.partial(way.attend, compute=compute)
        return jax.make_jaxpr(run)(q, (q, q), (k, k)).jaxpr

    copies = groups * k.size
    assert largest(program(False)) < copies / 2
    assert largest(program(True)) >= copies


@pytest.mark.usefixtures("absent_gpu")
def test_cudnn_gives_the_log_sum_exp_in_float32():
    """In bfloat16, as `jax.nn` gives it, the shares of two parts would be off by percents."""
    half = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    y, lse = jax.eval_shape(cudnn_part, half((3, 64, 2, 8)), *[half((3, 100, 2, 8))] * 2)
    assert (y.shape, y.dtype, lse.shape, lse.dtype) == (
        (3, 64, 2, 8),
        jnp.bfloat16,
        (3, 64, 2),
        jnp.float32,
    )


class Device:
    """A device that is only compiled for."""

    compute_capability: str

    def __init__(self, platform: str, kind: str):
        self.platform, self.device_kind = platform, kind


class FakeMesh:
    def __init__(self, platform: str, kind: str, capability: str | None = None):
        device = Device(platform, kind)
        if capability:
            device.compute_capability = capability
        self.devices, self.size = np.array([device], object), 1


LEVELS = {0: (6912, 40), 1: (1728, 80), 2: (432, 160), 3: (108, 160)}
"""Queries and head width at 768x576, by level."""


@pytest.mark.parametrize(
    ("platform", "kind", "expected"),
    [
        ("tpu", "TPU v5 lite", ("flash", "flash", "xla", "xla")),
        ("cuda", "NVIDIA H100 80GB HBM3", ("cudnn", "cudnn", "xla", "xla")),
        ("gpu", "NVIDIA A100-SXM4-40GB", ("cudnn", "cudnn", "xla", "xla")),
        ("cpu", "cpu", ("chunked",) * 4),
    ],
)
def test_choice_at_full_size(platform, kind, expected):
    """Self-attention with the reference, 16 frames."""
    compute = Compute(jnp.bfloat16, mesh=FakeMesh(platform, kind), training=True)  # type: ignore
    found = [
        way.choose(way.Sizes(1, 16, n, n, n, 8, width), compute) for n, width in LEVELS.values()
    ]
    assert tuple(found) == expected


def test_choice_for_inference():
    """Splash attention fills tiles, where flash attention to train finds no block that divides."""
    compute = Compute(jnp.bfloat16, mesh=FakeMesh("tpu", "TPU v5 lite"))  # type: ignore
    sizes = [way.Sizes(1, 16, n, n, n, 8, width) for n, width in LEVELS.values()]
    assert [way.choose(size, compute) for size in sizes] == ["flash", "flash", "xla", "xla"]
    odd = way.Sizes(1, 16, 1701, 1701, 1701, 8, 80)
    assert way.choose(odd, compute) == "flash"
    assert way.choose(odd, dataclasses.replace(compute, training=True)) == "chunked"
    assert not splash_fits(1728, 100, 1728, 40)


def test_choice_of_precision_and_parity():
    """cuDNN wants half precision, and even query counts to train."""
    mesh = FakeMesh("gpu", "NVIDIA H100")
    sizes = way.Sizes(1, 16, 6912, 6912, 6912, 8, 40)
    assert way.choose(sizes, Compute(jnp.float32, mesh=mesh)) == "chunked"  # type: ignore
    half = Compute(jnp.bfloat16, mesh=mesh, training=True)  # type: ignore
    assert way.choose(sizes._replace(n=6913), half) == "chunked"
    assert way.choose(sizes._replace(own=6913), half) == "cudnn"


@pytest.mark.parametrize(
    ("platform", "kind", "capability", "expected"),
    [
        ("gpu", "NVIDIA L4", "8.9", "cudnn"),
        ("gpu", "Tesla T4", "7.5", "chunked"),
        ("gpu", "Tesla V100-SXM2-16GB", None, "chunked"),
        ("gpu", "AMD Instinct MI250", "gfx90a", "chunked"),
        ("rocm", "AMD Instinct MI250", "gfx90a", "chunked"),
    ],
)
def test_only_gpus_that_have_cudnn_attention_run_it(platform, kind, capability, expected):
    mesh = FakeMesh(platform, kind, capability)
    sizes = way.Sizes(1, 16, 6912, 6912, 6912, 8, 40)
    assert way.choose(sizes, Compute(jnp.bfloat16, mesh=mesh)) == expected  # type: ignore
