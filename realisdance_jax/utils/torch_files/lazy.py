"""A tensor that stays in its file until asked for, and the dtype names of the file formats."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from realisdance_jax.utils.errors import UserError

# torch.save names a storage after its class; the newer dtypes have no class of their own.
TORCH_STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
    "ComplexFloatStorage": np.dtype(np.complex64),
    "ComplexDoubleStorage": np.dtype(np.complex128),
}

TORCH_DTYPES: dict[str, np.dtype] = {
    **{dtype.name: dtype for dtype in TORCH_STORAGES.values()},
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}

SAFETENSORS_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
    "C64": np.dtype(np.complex64),
}


@dataclass(frozen=True)
class LazyTensor:
    """Shape and dtype of a tensor, and `read()`, which fetches its values anew at each call."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> "LazyTensor":
        """`array` behind the same interface."""
        return cls(array.shape, array.dtype, lambda: array)

    @property
    def nbytes(self) -> int:
        """Bytes of the values laid out densely."""
        return math.prod(self.shape) * self.dtype.itemsize

    def dense_bytes(self, name: str) -> memoryview:
        """Row-major bytes of `read()`; `ValueError` when it does not return what was declared."""
        array = np.asarray(self.read())
        if array.shape != self.shape or array.dtype != self.dtype:
            declared, found = (self.shape, self.dtype.name), (array.shape, array.dtype.name)
            raise ValueError(f"{name}: declared as {declared} but its reader returned {found}")
        # Through uint8: the buffer protocol does not know bfloat16.
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def tensor_of_bytes(raw: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Little-endian bytes (uint8, dense) as an array; a boolean is any byte that is not zero."""
    flat = raw != 0 if dtype == np.bool_ else raw.view(dtype)
    return flat.reshape(shape)


def shapes_of(tensors: Mapping[str, LazyTensor], prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors whose names start with `prefix`, by the rest of their names."""
    return {
        name.removeprefix(prefix): tensor.shape
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def tensor_count(count: int) -> str:
    """`1 tensor`, `3 tensors`."""
    return f"{count} tensor{'s' * (count != 1)}"


def one_line(text: object) -> str:
    """`text` without line breaks and unprintable letters; names in files may hold anything."""
    joined = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in joined)


def unexpected(path: str | Path, expected: str, found: object) -> UserError:
    """The error for a file that is not what it should be, in one printable line."""
    return UserError(f"{path}: expected {expected}, found {one_line(str(found)[:400])}")
