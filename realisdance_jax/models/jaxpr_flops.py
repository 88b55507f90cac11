"""FLOPs of any function, counted from its jaxpr: nothing is computed, shapes suffice.

Counted: 2 x multiply-adds of convolutions (taps that fall on padding or dilation included), of
products with weights (matmul) and of products of activations (attention, the two einsums of
`attend`). Norms, softmax and other elementwise work are not.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import Jaxpr, JaxprEqn

from realisdance_jax.models.jaxpr_memory import inner_jaxprs
from realisdance_jax.models.realisdance import COMPONENTS

KINDS = ("convolution", "matmul", "attention")
OPAQUE = ("shard_map", "pallas_call", "custom_partitioning")
"""Primitives whose inner jaxpr says nothing about how often it runs."""

LAYERS = (
    ("motion module", r"motion_modules\.\d"),
    ("self-attention", r"attn1|self_attention"),
    ("cross-attention", r"attn2|cross_attention"),
    ("feed-forward", r"(^|/)ff(/|$)"),
    ("transformer 1x1", r"attentions\.\d+/proj_(in|out)"),
    ("resnet", r"resnets\.\d"),
    ("resampling", r"(down|up)samplers\.\d"),
)
"""Sorts of layer and how their module names look."""
OTHER = "other"


class Operation(NamedTuple):
    """A convolution or product: what, in which module (names joined by slashes), how much."""

    kind: str
    path: str
    flops: int

    @property
    def component(self) -> str:
        """Which part of the model it belongs to."""
        names = [part.split(".")[0] for part in self.path.split("/")]
        return next((name for name in names if name in COMPONENTS), OTHER)

    @property
    def layer(self) -> str:
        """Which sort of layer it belongs to."""
        return next((name for name, rule in LAYERS if re.search(rule, self.path)), OTHER)


def _dot(eqn: Any) -> tuple[str, int]:
    (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    terms = math.prod(shape[axis] for axis in contracted)
    # A weight has no axis in common with its input but the contracted ones.
    kind = "attention" if batch else "matmul"
    return kind, 2 * eqn.outvars[0].aval.size * terms


def _convolution(eqn: Any) -> tuple[str, int]:
    kernel, out = eqn.invars[1].aval.shape, eqn.outvars[0].aval
    features = eqn.params["dimension_numbers"].rhs_spec[0]
    # The kernel's input axis is already that of one group.
    return "convolution", 2 * out.size * math.prod(kernel) // kernel[features]


def _nested(eqn: JaxprEqn, path: str, times: int) -> Iterator[Operation]:
    """Operations inside a call, loop or branch."""
    name = eqn.primitive.name
    inner = [list(operations(j, path, times)) for v in eqn.params.values() for j in inner_jaxprs(v)]
    if name == "cond":
        yield from max(inner, key=lambda branch: sum(op.flops for op in branch))
        return
    found = [op for part in inner for op in part]
    if found and (name == "while" or name in OPAQUE):
        raise ValueError(f"{name} at {path or 'top level'}: how often it runs is not in the jaxpr")
    yield from found


def operations(jaxpr: Jaxpr, path: str = "", times: int = 1) -> Iterator[Operation]:
    """Every convolution and product of `jaxpr`, run `times` times inside module `path`.

    A scan counts as often as it is long, a conditional as its dearest branch.

    Raises:
      ValueError: products inside a while loop or a kernel, where their number cannot be known.
    """
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        here = "/".join(filter(None, (path, str(eqn.source_info.name_stack))))
        if name == "dot_general":
            kind, flops = _dot(eqn)
            yield Operation(kind, here, times * flops)
        elif name == "conv_general_dilated":
            kind, flops = _convolution(eqn)
            yield Operation(kind, here, times * flops)
        else:
            length = eqn.params["length"] if name == "scan" else 1
            yield from _nested(eqn, here, times * length)


def count(function: Callable, *args: Any) -> tuple[list[Operation], Any]:
    """Operations of `function(*args)` and the shapes it returns.

    Arguments may be trees of `jax.ShapeDtypeStruct`.
    """
    jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    return list(operations(jaxpr.jaxpr)), shapes


def total(found: list[Operation]) -> int:
    """FLOPs of all of `found`."""
    return sum(op.flops for op in found)
