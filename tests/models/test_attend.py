"""Attention by every way is the plain formula, on one device and spread over a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.pallas import tpu as pltpu

from realisdance_jax.models import attend as way
from realisdance_jax.models.compute import Compute
from realisdance_jax.models.kernels import flash_fits, flash_rows
from realisdance_jax.parallel.mesh import make_mesh


def few(count: int):
    return settings(max_examples=count, derandomize=True, deadline=None)


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
    monkeypatch.setattr(way, "LOGIT_BYTES", queries * 4 * 2 * (m + s))
    check(jax.jit(lambda *args: way.attend(*args)), inputs(queries, 2, 4, 7, m, s))


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
    monkeypatch.setattr(way, "LOGIT_BYTES", budget)
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


class Device:
    """A device that is only compiled for."""

    def __init__(self, platform: str, kind: str):
        self.platform, self.device_kind = platform, kind


class FakeMesh:
    def __init__(self, platform: str, kind: str):
        self.devices, self.size = np.array([Device(platform, kind)], object), 1


LEVELS = {0: (6912, 40), 1: (1728, 80), 2: (432, 160), 3: (108, 160)}
"""Queries and head width at 768x576, by level."""


@pytest.mark.parametrize(
    ("platform", "kind", "expected"),
    [
        ("tpu", "TPU v5 lite", ("flash", "flash", "xla", "xla")),
        ("cuda", "NVIDIA H100 80GB HBM3", ("cudnn", "cudnn", "xla", "xla")),
        ("gpu", "NVIDIA A100-SXM4-40GB", ("cudnn", "cudnn", "xla", "xla")),
        ("cpu", "cpu", ("chunked", "chunked", "xla", "xla")),
    ],
)
def test_choice_at_full_size(platform, kind, expected):
    """Self-attention with the reference, 16 frames."""
    compute = Compute(jnp.bfloat16, mesh=FakeMesh(platform, kind), training=True)  # type: ignore
    found = [
        way.choose(way.Sizes(1, 16, n, n, n, 8, width), compute) for n, width in LEVELS.values()
    ]
    assert tuple(found) == expected


def test_choice_of_precision_and_parity():
    """cuDNN wants half precision, and even query counts to train."""
    mesh = FakeMesh("gpu", "NVIDIA H100")
    sizes = way.Sizes(1, 16, 6912, 6912, 6912, 8, 40)
    assert way.choose(sizes, Compute(jnp.float32, mesh=mesh)) == "chunked"  # type: ignore
    half = Compute(jnp.bfloat16, mesh=mesh, training=True)  # type: ignore
    assert way.choose(sizes._replace(n=6913), half) == "chunked"
    assert way.choose(sizes._replace(own=6913), half) == "cudnn"
