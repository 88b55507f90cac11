"""The largest sum of intermediates that live at once, on cases known by hand and compiled ones."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from realisdance_jax.models.jaxpr_memory import intermediate_bytes, tree_bytes

N = 64
SQUARE = jax.ShapeDtypeStruct((N, N), jnp.float32)
ONE = 4 * N * N


def chain(x):
    """Each result is needed once: two live at a time."""
    for _ in range(5):
        x = x @ x
    return x


def skip(x):
    first = x @ x
    return chain(first) + first


def loop(x):
    return lax.scan(lambda c, _: (chain(c), c[:1]), x, length=7)[0]


def stacked(x):
    """Five results, while the sixth is made of its part of the input."""
    return lax.map(chain, jnp.zeros((5, *x.shape)) + x)


def endless(x):
    return lax.while_loop(lambda c: c[0, 0] > 0, chain, x)


def branch(x):
    return lax.cond(x[0, 0] > 0, chain, lambda y: y, x)


@pytest.mark.parametrize(
    ("function", "squares"),
    [
        (chain, 2),
        (skip, 3),
        (loop, 3),
        (stacked, 5 + 5 + 1 + 2),
        (endless, 3),
        (branch, 2),
        (jax.jit(chain), 2),
        (lambda x: x, 0),
    ],
)
def test_squares(function, squares):
    """Beside them there are rows and numbers."""
    found = intermediate_bytes(function, SQUARE)
    assert squares * ONE <= found <= squares * ONE + ONE // 4


def test_types_and_trees():
    half = jax.ShapeDtypeStruct((N, N), jnp.bfloat16)
    assert intermediate_bytes(chain, half) == ONE
    assert tree_bytes({"a": SQUARE, "b": (half, jnp.int32(0))}) == ONE + ONE // 2 + 4


def test_what_the_compiler_says():
    """Of attention, whose logits outweigh the rest."""

    def attention(q, k, v):
        return jnp.einsum("hnm,hmd->hnd", jax.nn.softmax(jnp.einsum("hnd,hmd->hnm", q, k)), v)

    x = jax.ShapeDtypeStruct((4, 256, 16), jnp.float32)
    compiled = jax.jit(attention).lower(x, x, x).compile().memory_analysis()
    assert compiled is not None
    actual = compiled.temp_size_in_bytes + compiled.output_size_in_bytes
    assert actual <= intermediate_bytes(attention, x, x, x) <= 4 * actual
