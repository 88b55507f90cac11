"""Pickles from strangers: only allow-listed globals are ever looked up, so nothing else can run.

Three layers: the opcodes are read once without executing them (sizes, memo indices, nesting), every
global must be a key of the caller's table, and the numpy entries are checked stand-ins, so that no
crafted dtype or shape reaches numpy's own unpickling code.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file

Allowed = Mapping[tuple[str, str], object]

# Hashing a tuple recurses in C over everything inside it: an unbounded one overflows the stack, and
# one that repeats itself fifty levels deep takes years. Honest files stay below a hundred.
MAX_TUPLE_WEIGHT = 10_000
_UNHASHABLE = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "LIST", "DICT"}
_UNHASHABLE |= {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"}


class Guarded:
    """A callable that a pickle may call but not change (the BUILD opcode sets attributes)."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]):
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it tries to set {name!a} of a function")


class _Dtype:
    """What `numpy.dtype` becomes while unpickling: a plain number type and nothing else."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, *flags: object):
        if isinstance(code, bytes):
            code = code.decode("latin1")
        if not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248])", code):
            raise pickle.UnpicklingError(f"arrays of type {code!a:.40} are not allowed")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order, fields = state[1], state[2:5]
        if order not in tuple("<>|=") or any(entry is not None for entry in fields):
            raise pickle.UnpicklingError("structured arrays are not allowed")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """An array whose pickled state is checked before numpy sees it."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, raw = state
        dtype, raw = _checked(kind, shape, raw)
        np.ndarray.__setstate__(self, (1, shape, dtype, bool(fortran), raw))  # type: ignore

    def __reduce_ex__(self, protocol):
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _checked(kind: Any, shape: Any, raw: Any) -> tuple[np.dtype, bytes]:
    if not isinstance(kind, _Dtype):
        raise pickle.UnpicklingError("an array without a number type")
    if isinstance(raw, str):  # Python 2 pickles
        raw = raw.encode("latin1")
    sizes = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**31 for n in shape)
    if not sizes or len(shape) > 16 or not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("an array with a bad shape or without bytes")
    if math.prod(shape) * kind.dtype.itemsize != len(raw):
        raise pickle.UnpicklingError(f"an array of shape {shape} in {len(raw)} bytes")
    return kind.dtype, bytes(raw)


class _Objects:
    """What `numpy.dtype("O")` becomes where arrays of objects are allowed."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


def _any_dtype(code: str, *flags: object) -> _Objects | _Dtype:
    return _Objects() if code in ("O", "O4", "O8") else _Dtype(code, *flags)


class _AnyArray(_Array):
    """Like `_Array`, but may also hold one row of whatever else the pickle may hold."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, _, items = state
        if not isinstance(kind, _Objects):
            super().__setstate__(state)
            return
        # numpy reads as many items as the shape says, whatever the list has.
        if type(items) is not list or not isinstance(shape, tuple) or shape != (len(items),):
            raise pickle.UnpicklingError("an array of objects that is no plain row")
        np.ndarray.__setstate__(self, (1, shape, np.dtype(object), False, items))  # type: ignore


def _reconstruct(made: type[_Array], cls: object, shape: object, code: object) -> _Array:
    if cls is not _NDARRAY:
        raise pickle.UnpicklingError("an array of a foreign class")
    return np.ndarray.__new__(made, (0,), np.int8)


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Array:
    dtype, raw = _checked(kind, shape, raw)
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"an array in order {order!a:.40}")
    array = np.ndarray(shape, dtype, raw, order=order)
    return array.astype(dtype.newbyteorder("=")).view(_Array)


def _scalar(kind: object, raw: object) -> Any:
    dtype, raw = _checked(kind, (), raw)
    return np.ndarray((), dtype, raw)[()]


def _encode(text: object, codec: object) -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1", "iso-8859-1"):
        raise pickle.UnpicklingError(f"text in the codec {codec!a:.40}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


def _no_call(*arguments: object) -> object:
    raise pickle.UnpicklingError("numpy.ndarray is called directly")


_NDARRAY = Guarded(_no_call)

#: Arrays of plain numbers, as every numpy (1 or 2) and every pickle protocol writes them.
NUMPY_GLOBALS: Allowed = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Guarded(_Dtype),
    ("_codecs", "encode"): Guarded(_encode),
    ("builtins", "bytes"): Guarded(_empty_bytes),  # protocols 0 to 2 write b"" as bytes()
    ("__builtin__", "bytes"): Guarded(_empty_bytes),
    **{
        (f"{package}.{module}", name): Guarded(function)
        for package in ("numpy.core", "numpy._core")
        for module, name, function in (
            ("multiarray", "_reconstruct", partial(_reconstruct, _Array)),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}

#: The same, and rows of anything else allowed, as `numpy.save` pickles a list of dicts.
OBJECT_ARRAY_GLOBALS: Allowed = {
    **NUMPY_GLOBALS,
    ("numpy", "dtype"): Guarded(_any_dtype),
    **{
        (f"{package}.multiarray", "_reconstruct"): Guarded(partial(_reconstruct, _AnyArray))
        for package in ("numpy.core", "numpy._core")
    },
}


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        data: bytes,
        name: str,
        allowed: Allowed,
        what: str,
        persistent_load: Callable[[object], object] | None,
    ):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._name, self._allowed, self._what = name, allowed, what
        self._persistent_load = persistent_load

    def find_class(self, module: str, name: str) -> object:
        try:
            return self._allowed[module, name]
        except KeyError:
            culprit = ascii(f"{module}.{name}")[:100]
            raise UserError(
                f"{self._name}: expected {self._what}, found the global {culprit}, which is "
                "refused because it could run code"
            ) from None

    def persistent_load(self, pid: object) -> object:
        if self._persistent_load is None:
            raise pickle.UnpicklingError("it refers to objects outside the file")
        return self._persistent_load(pid)


def load_pickle(
    path_or_file: str | Path | BinaryIO,
    allowed: Allowed,
    what: str,
    persistent_load: Callable[[object], object] | None = None,
) -> object:
    """Unpickle without running anything but the values of `allowed`.

    Args:
        path_or_file: a path, or an open binary file.
        allowed: (module, name) as written in the file -> stand-in. `NUMPY_GLOBALS` covers arrays
            of numbers. Wrap functions in `Guarded`; a class given here can be called with any
            arguments and, unless guarded, have attributes set by the file.
        what: what the file should be, for messages ("a DWPose pickle").
        persistent_load: resolves persistent ids (torch files); refused when absent.

    Raises `UserError` naming the global for anything else, and for whatever is damaged or absurd.
    """
    if isinstance(path_or_file, str | Path):
        name, read = str(path_or_file), existing_file(path_or_file, what).read_bytes
    else:
        name, read = str(getattr(path_or_file, "name", "pickle")), path_or_file.read
    try:
        data = read()
        _check_opcodes(data)
        return _Unpickler(data, name, allowed, what, persistent_load).load()
    except UserError:
        raise
    except Exception as error:  # damaged pickles raise nearly every class there is
        reason = " ".join(str(error).split())[:160] or "no more data"
        kind = "" if isinstance(error, pickle.UnpicklingError) else f"{type(error).__name__}: "
        raise UserError(
            f"{name}: expected {what}, found an unreadable or unsafe pickle ({kind}{reason})"
        ) from None


def _check_opcodes(data: bytes) -> None:
    """Follow the stack without executing; refuse wild memo indices and overgrown tuples."""
    stack: list[int | None] = []  # weight of each object, None for a mark
    memo: dict[int, int | None] = {}
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        kind = opcode.name
        if kind in ("EXT1", "EXT2", "EXT4"):  # could reach a cached object past the table
            raise pickle.UnpicklingError("extension codes are not allowed")
        if kind == "MARK":
            stack.append(None)
        elif kind == "POP":
            stack.pop()
        elif kind == "DUP":
            stack.append(stack[-1])
        elif kind in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif kind in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if kind == "MEMOIZE" else argument
            if index > count:  # the C code would allocate that many slots
                raise pickle.UnpicklingError(f"memo index {index} after {count} opcodes")
            memo[index] = stack[-1]
        else:
            inside = _popped(stack, opcode.stack_before)
            if opcode.stack_after:
                weight = 1 if kind in _UNHASHABLE else 1 + sum(inside)
                if weight > MAX_TUPLE_WEIGHT:
                    raise pickle.UnpicklingError(f"more than {MAX_TUPLE_WEIGHT} nested values")
                stack.append(weight)


def _popped(stack: list[int | None], before: list) -> list[int]:
    """Take from `stack` what an opcode with this `stack_before` takes."""
    taken = []
    if pickletools.markobject in before:
        while (weight := stack.pop()) is not None:
            taken.append(weight)
        before = before[: before.index(pickletools.markobject)]
    return taken + [stack.pop() for _ in before]
