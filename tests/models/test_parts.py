"""Laws of the parts: convolution of small pictures, nearest resize, position tables."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realisdance_jax.models.dinov2 import bicubic_matrix, resize_positions
from realisdance_jax.models.layers import convolution
from realisdance_jax.models.resnet import resize_nearest
from tests.examples import few


def by_taps(x: np.ndarray, kernel: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """Convolution in float64, tap by tap."""
    k, around = kernel.shape[0], (padding, padding)
    wide = np.pad(np.asarray(x, np.float64), ((0, 0), around, around, (0, 0)))
    rows, columns = ((size - k) // stride + 1 for size in wide.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i, j in np.ndindex(out.shape[1:3]):
        seen = wide[:, i * stride : i * stride + k, j * stride : j * stride + k]
        out[:, i, j] = np.einsum("bijc,ijco->bo", seen, kernel)
    return out


@pytest.mark.parametrize(
    ("height", "width", "k", "stride", "padding"),
    [(1, 1, 3, 1, 1), (2, 2, 3, 1, 1), (2, 1, 3, 2, 1), (4, 3, 7, 1, 3), (3, 3, 3, 1, 1)],
)
def test_small_pictures_under_a_larger_kernel(height, width, k, stride, padding):
    """Against taps in float64: values, and gradients, which are taps as well: it is bilinear."""
    random = np.random.default_rng(0)
    x = random.standard_normal((2, height, width, 4)).astype(np.float32)
    kernel = random.standard_normal((k, k, 4, 5)).astype(np.float32)
    sizes = stride, padding
    expected = by_taps(x, kernel, *sizes)
    np.testing.assert_allclose(convolution(x, kernel, *sizes), expected, atol=1e-4)
    weight = random.standard_normal(expected.shape)

    def loss(x, kernel):
        return jnp.sum(convolution(x, kernel, *sizes) * weight)

    for place, found in enumerate(jax.grad(loss, (0, 1))(x, kernel)):
        step = random.standard_normal(found.shape)
        moved = (step, kernel) if place == 0 else (x, step)
        change = np.sum(by_taps(*moved, *sizes) * weight)
        np.testing.assert_allclose(np.sum(found * step), change, rtol=1e-4)


@few(12)
@given(sizes=st.tuples(*[st.integers(1, 40)] * 4))
def test_nearest_resize_takes_the_floor(sizes):
    """Source index floor(i * in / out) on each axis (H17)."""
    h, w, height, width = sizes
    x = jnp.arange(h * w, dtype=jnp.float32).reshape(1, h, w, 1)
    rows = [Fraction(i * h, height).__floor__() for i in range(height)]
    columns = [Fraction(i * w, width).__floor__() for i in range(width)]
    expected = np.asarray(x)[:, rows][:, :, columns]
    np.testing.assert_array_equal(resize_nearest(x, height, width), expected)


def test_doubling_repeats_and_odd_sizes_shift():
    x = jnp.arange(3.0).reshape(3, 1, 1)
    assert resize_nearest(x, 6, 1).ravel().tolist() == [0, 0, 1, 1, 2, 2]
    assert resize_nearest(x[:2], 3, 1).ravel().tolist() == [0, 0, 1]
    assert resize_nearest(x, 5, 1).ravel().tolist() == [0, 0, 1, 1, 2]


@few(40)
@given(source=st.integers(1, 40), target=st.integers(1, 60))
def test_rows_of_the_position_resize_sum_to_one(source, target):
    """A constant table stays constant; the step is that of a target 0.1 larger (H9)."""
    matrix = bicubic_matrix(source, target, source / (target + 0.1))
    assert matrix.shape == (target, source)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    assert ((matrix != 0).sum(1) <= 4).all()


def test_position_table_is_kept_for_square_pictures_of_its_size_only():
    table = jnp.asarray(np.random.default_rng(0).standard_normal((26, 3)), jnp.float32)
    np.testing.assert_array_equal(resize_positions(table, 5, 5, True), table)
    stretched = resize_positions(table, 5, 5, False)
    np.testing.assert_array_equal(stretched[0], table[0])
    assert float(jnp.abs(stretched - table).max()) > 1e-2
    assert resize_positions(table, 4, 7, False).shape == (29, 3)
