"""How many FLOPs a train step needs."""

from realisdance_jax.models.jaxpr_flops import count, total
from realisdance_jax.training.program import Program, batch_shapes, plain


def step_flops(program: Program, cached: bool) -> int:
    """FLOPs of a step's products and convolutions with nothing computed twice."""
    one = plain(program)
    found, _ = count(one.step, one.state, one.frozen, batch_shapes(one, cached))
    return total(found)
