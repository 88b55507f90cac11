"""How many bytes a function's intermediates take at most, from its jaxpr: nothing is compiled.

Operations in the order in which they were traced, each result whole from where it is made to where
it is last used. Compilers fuse some of them away, and may have others at once or copied.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal


def tree_bytes(tree: Any) -> int:
    """Of all arrays or shapes in `tree`."""
    return sum(_size(leaf) for leaf in jax.tree.leaves(tree))


def _size(shaped: Any) -> int:
    if not hasattr(shaped, "shape") or not hasattr(shaped.dtype, "itemsize"):
        return 0
    return math.prod(shaped.shape) * shaped.dtype.itemsize


def inner_jaxprs(value: Any) -> list[Jaxpr]:
    """All of a parameter of an operation: bodies of calls, loops and branches."""
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    if not isinstance(value, list | tuple):
        return []
    return [body for part in value for body in inner_jaxprs(part)]


def peak_of(jaxpr: Jaxpr) -> int:
    """Bytes of what lives at once, results included, arguments and constants not.

    Calls and branches need what their body needs, whose results are theirs. Loops need their
    results beside that, and what a turn of a scan is given of its inputs.
    """
    last = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if not _literal(v)}
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if not _literal(v)}
    live: dict[Any, int] = {}
    peak = 0
    for i, eqn in enumerate(jaxpr.eqns):
        made = {v: _size(v.aval) for v in eqn.outvars}
        peak = max(peak, sum(live.values()) + _most(eqn, sum(made.values())))
        live |= {v: size for v, size in made.items() if v in last}
        for v in {v for v in eqn.invars if not _literal(v)}:
            if last[v] == i:
                live.pop(v, None)
    return peak


def _most(eqn: JaxprEqn, made: int) -> int:
    """Bytes while one operation runs that makes `made` bytes."""
    bodies = [body for value in eqn.params.values() for body in inner_jaxprs(value)]
    inner = max(map(peak_of, bodies), default=0)
    name = eqn.primitive.name
    if name == "scan":
        whole = eqn.params["num_consts"] + eqn.params["num_carry"]
        given = sum(_size(v.aval) for v in bodies[0].invars[whole:])
        return made + given + inner
    return made + inner if name == "while" else max(made, inner)


def _literal(v: Any) -> bool:
    return isinstance(v, Literal)


def intermediate_bytes(function: Callable, *args: Any) -> int:
    """At most of `function(*args)`; arguments may be trees of `jax.ShapeDtypeStruct`."""
    return peak_of(jax.make_jaxpr(function)(*args).jaxpr)
