"""Array types for public signatures: `Float[Array, "b f h w c"]`, checked in tests, else free.

Letters: b batch, f frames, h w height and width, c channels, n queries (own tokens), m context
tokens, k attention heads, d head size; t is diffusion time. Upper-case H W are pixels.
"""

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jaxtyping import Bool, Float, Int, UInt8, jaxtyped

__all__ = ["Array", "Bool", "Float", "Int", "UInt8", "typechecked"]

F = TypeVar("F", bound=Callable)

if TYPE_CHECKING:
    from jax import Array


def __getattr__(name: str) -> Any:
    """`Array` to those who ask for it: processes that paint start in a third of the time."""
    if name == "Array":
        return importlib.import_module("jax").Array
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def typechecked(function: F) -> F:
    """Check shapes and types at every call if REALISDANCE_TYPECHECK=1 (tests), else do nothing."""
    if os.environ.get("REALISDANCE_TYPECHECK") != "1":
        return function
    beartype = importlib.import_module("beartype").beartype
    return cast(F, jaxtyped(function, typechecker=beartype))
