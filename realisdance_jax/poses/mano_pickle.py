"""MANO's pickle without chumpy or SciPy: inert stand-ins take their place, and nothing in it runs.

The licensed file is a Python 2 pickle in which `shapedirs` is a chumpy expression (a `Select` from
a `Ch`) and `J_regressor` a compressed-column matrix of SciPy.
"""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.safe_pickle import NUMPY_GLOBALS, Allowed, Guarded, load_pickle

_LARGEST = 1 << 24  # numbers in one array; MANO's posedirs has 315,090


class _Sealed(type):
    """Classes that a pickle may instantiate but not change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it tries to set {name!a} of a class")


class _StandIn(metaclass=_Sealed):
    """Keeps the state that its pickle carries, and does nothing."""

    __slots__ = ("state",)

    def __new__(cls, *arguments: object) -> "_StandIn":
        made = super().__new__(cls)
        object.__setattr__(made, "state", {})
        return made

    def __init__(self, *arguments: object):
        pass

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"a {type(self).__name__} without its values")
        object.__setattr__(self, "state", state)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it tries to set {name!a} of an object")


class Ch(_StandIn):
    """chumpy.ch.Ch: an array called x."""

    __slots__ = ()


class Select(_StandIn):
    """chumpy.reordering.Select: entries `idxs` of `a`, in the shape `preferred_shape`."""

    __slots__ = ()


class SparseColumns(_StandIn):
    """scipy.sparse.csc_matrix."""

    __slots__ = ()


def _object(cls: Any, base: object, state: object) -> _StandIn:
    """copy_reg._reconstructor, as pickles of protocol 0 and 1 make objects."""
    if cls not in (Ch, Select, SparseColumns) or base is not _OBJECT or state is not None:
        raise pickle.UnpicklingError("an object of a foreign class")
    return cls()


def _no_call(*arguments: object) -> object:
    raise pickle.UnpicklingError("object is called directly")


def _set(items: Iterable[object] = ()) -> None:
    """chumpy's bookkeeping, which nobody needs."""


_OBJECT = Guarded(_no_call)

MODEL_GLOBALS: Allowed = {
    **NUMPY_GLOBALS,
    ("chumpy.ch", "Ch"): Ch,
    ("chumpy", "Ch"): Ch,
    ("chumpy.reordering", "Select"): Select,
    ("scipy.sparse.csc", "csc_matrix"): SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): SparseColumns,
    ("copy_reg", "_reconstructor"): Guarded(_object),
    ("copyreg", "_reconstructor"): Guarded(_object),
    ("__builtin__", "object"): _OBJECT,
    ("builtins", "object"): _OBJECT,
    ("__builtin__", "set"): Guarded(_set),
    ("builtins", "set"): Guarded(_set),
}
"""Everything a body or hand model's pickle may mention."""


def read_model_pickle(path: str | Path, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of `keys` that the file has, as plain arrays of numbers.

    Raises `UserError` for a file that is no such pickle or mentions anything else.
    """
    content = load_pickle(path, MODEL_GLOBALS, "a MANO pickle")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dict of arrays, found {type(content).__name__}")
    return {key: _dense(f"{path}: {key}", content[key]) for key in keys if key in content}


def _dense(where: str, value: object) -> np.ndarray:
    try:
        if isinstance(value, Ch):
            return _numbers(value.state["x"])
        if isinstance(value, Select):
            return _selected(value.state)
        if isinstance(value, SparseColumns):
            return _columns(value.state)
        return _numbers(value)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{where}: expected an array, found {type(value).__name__} ({reason})"
        ) from None


def _numbers(value: object) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise ValueError("not an array of numbers")
    return np.array(value)


def _selected(state: Mapping[Any, Any]) -> np.ndarray:
    source = state["a"]
    source = _numbers(source.state["x"] if isinstance(source, Ch) else source).ravel()
    wanted = _numbers(state["idxs"])
    if wanted.size > _LARGEST:
        raise ValueError(f"{wanted.size} entries")
    shape = tuple(int(n) for n in state.get("preferred_shape", wanted.shape))
    return source[wanted.ravel().astype(np.int64)].reshape(shape)


def _columns(state: Mapping[Any, Any]) -> np.ndarray:
    rows, columns = (int(n) for n in state.get("_shape", state.get("shape")))
    data, indices, starts = (_numbers(state[key]) for key in ("data", "indices", "indptr"))
    if min(rows, columns) < 0 or rows * columns > _LARGEST:
        raise ValueError(f"shape {(rows, columns)}")
    counts = np.diff(starts.astype(np.int64))
    if starts.shape != (columns + 1,) or starts[0] != 0 or np.any(counts < 0):
        raise ValueError("bad column starts")
    if indices.shape != data.shape or data.shape != (int(starts[-1]),) or np.any(indices < 0):
        raise ValueError("bad row numbers")
    dense = np.zeros((rows, columns), data.dtype)
    np.add.at(dense, (indices, np.repeat(np.arange(columns), counts)), data)
    return dense
