"""Entries of docs/parity.md beyond the official arrays and the laws of test_properties.py."""

import jax
import jax.numpy as jnp
import numpy as np

from realisdance_jax.models.config import MotionConfig
from realisdance_jax.models.motion import BUFFERS, MotionModule
from realisdance_jax.models.projector import Projector


def test_windows_start_at_position_zero():
    """H5: two frames use rows 0 and 1 of the table and no others."""
    x = jax.random.normal(jax.random.key(1), (1, 2, 2, 2, 16))
    module = MotionModule(MotionConfig(), groups=8)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    # A fresh module adds nothing: give its output projection some weight.
    params = jax.tree.map(lambda p: p + 0.1, variables["params"])

    def run(row: slice) -> np.ndarray:
        tables = jax.tree.map(lambda table: table.at[:, row].set(7.0), variables[BUFFERS])
        return np.asarray(module.apply({"params": params, BUFFERS: tables}, x))

    plain = run(slice(0, 0))
    np.testing.assert_array_equal(run(slice(2, None)), plain)
    assert all(np.abs(run(slice(row, row + 1)) - plain).max() > 1e-4 for row in (0, 1))


def test_fresh_projectors_are_zero_and_trained_ones_map_zero_to_a_constant():
    """H23, H4: zero tokens are an input like any other to a trained projector."""
    tokens = jax.random.normal(jax.random.key(0), (1, 3, 48))
    projector = Projector(32)
    fresh, variables = projector.init_with_output(jax.random.key(0), tokens)
    assert not np.any(fresh)
    noise = jax.random.normal(jax.random.key(2), (48,))
    trained = jax.tree.map(lambda p: p + 0.1 * jnp.resize(noise, p.shape), variables)
    constant = np.asarray(projector.apply(trained, jnp.zeros_like(tokens)))
    assert np.abs(constant).max() > 0.01
    np.testing.assert_allclose(constant, np.broadcast_to(constant[:, :1], constant.shape))
