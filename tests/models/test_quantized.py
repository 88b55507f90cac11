"""Kernels in eight bits: how far they are off, which become so, and that networks run on them."""

from typing import get_args

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.presets import TINY, make_pipeline
from realisdance_jax.models import quantized
from realisdance_jax.models.layers import Conv, Linear
from realisdance_jax.models.quantized import (
    QuantizedKernel,
    QuantizedType,
    quantize_kernel,
    quantize_kernels,
)
from realisdance_jax.sampling.exported import export_program
from tests.examples import few

TYPES = get_args(QuantizedType)


def kernel(seed: int, scale: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (scale * random.standard_normal((3, 3, 4, 6))).astype(np.float32)


@few(20)
@given(seed=st.integers(0, 99), power=st.integers(-20, 20))
def test_no_weight_is_off_by_more_than_half_a_step(seed, power):
    """int8 has equal steps in a channel, fp8 four significant bits down to its smallest numbers."""
    exact = kernel(seed, 2.0**power)
    largest = np.abs(exact).max((0, 1, 2))
    error = {kind: np.abs(quantize_kernel(exact, kind).unbox() - exact) for kind in TYPES}
    assert np.all(error["int8"] <= largest / 254 * 1.001)
    assert np.all(error["fp8"] <= np.maximum(np.abs(exact) / 16, largest / 448 * 2.0**-10) * 1.001)


@pytest.mark.parametrize("kind", TYPES)
def test_channels_have_scales_of_their_own_and_zeros_stay(kind):
    exact = kernel(0) * np.float32([1, 1e-6, 1e6, 0, 1, 1])
    found = quantize_kernel(exact, kind)
    assert (found.values.dtype.itemsize, found.scale.shape) == (1, (6,))
    wide = np.asarray(found.unbox())
    assert not wide[..., 3].any()
    error = np.abs(wide - exact).max((0, 1, 2))
    assert np.all(error <= np.abs(exact).max((0, 1, 2)) / 16)


@pytest.mark.parametrize("kind", TYPES)
def test_layers_find_the_wide_kernel(kind):
    layers = [(Conv(8), (1, 5, 4, 4)), (Linear(8, ("embed", "mlp")), (3, 4))]
    for layer, shape in layers:
        x = jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)
        params = jax.tree.map(jnp.asarray, dict(layer.init(jax.random.key(0), x)["params"]))
        params = {name: getattr(leaf, "value", leaf) for name, leaf in params.items()}
        small = params | {"kernel": quantize_kernel(params["kernel"], kind)}
        wide = params | {"kernel": small["kernel"].unbox()}
        found, wanted = (layer.apply({"params": p}, x) for p in (small, wide))
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_programs_with_them_go_through_a_file(kind):
    small = quantize_kernel(kernel(2), kind)
    blob = export_program(jax.jit(lambda v: v["k"].unbox() * 2), {"k": small}).serialize()
    again = jax.export.deserialize(bytearray(blob)).call({"k": small})
    np.testing.assert_array_equal(again, small.unbox() * 2)


def test_only_large_kernels(monkeypatch):
    monkeypatch.setattr(quantized, "LEAST", 216)
    flat = {"kernel": kernel(0), "scale": kernel(1)}
    layers = {"large": flat, "small": {"kernel": kernel(2)[..., :5]}}
    found = quantize_kernels({"params": layers, "buffers": layers}, "int8")
    assert isinstance(found["params"]["large"]["kernel"], QuantizedKernel)
    np.testing.assert_array_equal(found["params"]["large"]["scale"], kernel(1))
    np.testing.assert_array_equal(found["params"]["small"]["kernel"], kernel(2)[..., :5])
    assert found["buffers"] is layers


def test_a_pipeline_runs_on_them(monkeypatch):
    """On the host or the device; near the exact one, and smaller."""
    monkeypatch.setattr(quantized, "LEAST", 0)
    picture = np.random.default_rng(0).random((1, 1, 32, 32, 9), np.float32)
    exact = make_pipeline(TINY, offload=False)
    wanted = exact.call("model", "encode_pose", picture)[0]
    for kind in TYPES:
        run = make_pipeline(TINY, offload=True, quantize=kind)
        assert run.quantize == kind
        resting = jax.tree.leaves(run.variables["params"]["unet_ref"])
        assert {type(leaf) for leaf in resting} == {np.ndarray}
        found = run.call("model", "encode_pose", picture)[0]
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert 1e-4 < error < {"int8": 0.03, "fp8": 0.2}[kind]
        parts = (run.variables["params"]["unet_main"], exact.variables["params"]["unet_main"])
        small, large = (sum(x.nbytes for x in jax.tree.leaves(part)) for part in parts)
        assert small < 0.6 * large
