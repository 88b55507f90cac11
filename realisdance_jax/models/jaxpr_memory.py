"""How many bytes a function's intermediates take at most, from its jaxpr: nothing is compiled.

An estimate from above: operations in the order in which they were traced, each result whole from
where it is made to where it is last used. Compilers fuse some of them away.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


def tree_bytes(tree: Any) -> int:
    """Of all arrays or shapes in `tree`."""
    return sum(_size(leaf) for leaf in jax.tree.leaves(tree))


def _size(shaped: Any) -> int:
    if not hasattr(shaped, "shape") or not hasattr(shaped.dtype, "itemsize"):
        return 0
    return math.prod(shaped.shape) * shaped.dtype.itemsize


def _inner(value: Any) -> list[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    return [j for v in value for j in _inner(v)] if isinstance(value, list | tuple) else []


def peak_of(jaxpr: Jaxpr) -> int:
    """Bytes of what lives at once, results included, arguments and constants not.

    Calls, loops and branches need what their body needs beyond what they return.
    """
    last = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if not _literal(v)}
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if not _literal(v)}
    live: dict[Any, int] = {}
    peak = 0
    for i, eqn in enumerate(jaxpr.eqns):
        made = {v: _size(v.aval) for v in eqn.outvars}
        inner = [peak_of(body) for value in eqn.params.values() for body in _inner(value)]
        most = max([sum(made.values()), *inner])
        peak = max(peak, sum(live.values()) + most)
        live |= {v: size for v, size in made.items() if v in last}
        for v in {v for v in eqn.invars if not _literal(v)}:
            if last[v] == i:
                live.pop(v, None)
    return peak


def _literal(v: Any) -> bool:
    return isinstance(v, Literal)


def intermediate_bytes(function: Callable, *args: Any) -> int:
    """At most of `function(*args)`; arguments may be trees of `jax.ShapeDtypeStruct`."""
    return peak_of(jax.make_jaxpr(function)(*args).jaxpr)
