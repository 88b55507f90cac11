"""Names that a torch.save pickle may mention, and the plain value that stands for each."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from realisdance_jax.utils.torch_files.lazy import TORCH_DTYPES, TORCH_STORAGES


class Refused(Exception):
    """Something outside the allow-list; the text says what."""


class TorchName(str):
    """A name the file mentions, such as 'torch.float32': text, never the object."""


@dataclass(frozen=True)
class Storage:
    """One run of `nbytes` bytes called `key`; `dtype` None when its tensors carry their own."""

    key: str
    nbytes: int
    dtype: np.dtype | None


@dataclass(frozen=True)
class StoredTensor:
    """A view (offset, shape and strides in elements) of a storage."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class Unbuilt:
    """A NumPy dtype or array whose second half is still to come; `slot`: its place in the memo."""

    finish: Callable[[tuple], Any]
    slot: int | None = None


def shown(value: object) -> str:
    """Short text for messages; never the `repr` of nested data, which can be made to explode."""
    return repr(str(value)[:100]) if isinstance(value, str) else type(value).__name__


def checked_keys(items: Iterable[Any]) -> list[Any]:
    """`items` if all are plain scalars (nested tuples could take exponential time to hash)."""
    items = list(items)
    plain = (str, int, float, bool, bytes, TorchName, type(None))
    if not all(type(item) in plain for item in items):
        raise TypeError("a key that is not text or a number")
    return items


def storage_of(identifier: Any) -> Storage:
    """Persistent id ('storage', class, key, device, count) of torch.save.

    Before PyTorch 1.6 a sixth entry followed: None, or a part of another storage (before 0.4).
    """
    kind, name, key, _, count, *part = identifier
    if part not in ([], [None]):
        raise Refused("a storage that is part of another one")
    if type(kind) is not str or kind != "storage" or type(key) is not str:
        raise ValueError("bad storage")
    if type(name) is not TorchName or type(count) is not int or count < 0:
        raise ValueError("bad storage")
    if name == "torch.storage.UntypedStorage":
        return Storage(key, count, None)
    dtype = TORCH_STORAGES[name.removeprefix("torch.")]
    return Storage(key, count * dtype.itemsize, dtype)


def _sizes(values: Any) -> tuple[int, ...]:
    if type(values) not in (tuple, list) or any(type(v) is not int or v < 0 for v in values):
        raise TypeError("bad shape, stride or offset")
    return tuple(values)


def _view(storage: Any, dtype: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
    if type(storage) is not Storage or dtype is None:
        raise TypeError("a tensor without a typed storage")
    (offset,), shape, strides = _sizes((offset,)), _sizes(shape), _sizes(strides)
    if len(shape) != len(strides) or len(shape) > 32 or math.prod(filter(None, shape)) >= 1 << 59:
        raise ValueError("bad shape or stride")
    return StoredTensor(storage, dtype, offset, shape, strides)


def _flags(metadata: Any) -> None:
    if metadata:
        raise Refused("a tensor with a pending conjugation or negation")


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = False, hooks: Any = None,
    metadata: Any = None,
) -> StoredTensor:  # fmt: skip
    _flags(metadata)
    return _view(storage, storage.dtype, offset, shape, strides)


def _tensor_with_dtype(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any,
    metadata: Any = None,
) -> StoredTensor:  # fmt: skip
    _flags(metadata)
    return _view(storage, TORCH_DTYPES[dtype.removeprefix("torch.")], offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _tensor_of_class(function: Any, kind: Any, arguments: tuple, _: Any) -> Any:
    classes = ("torch.Tensor", "torch.nn.parameter.Parameter")
    if type(function) is not TorchName or function not in _REBUILD:
        raise Refused(f"a tensor made by {shown(function)}")
    if type(kind) is not TorchName or kind not in classes:
        raise Refused(f"a tensor of the class {shown(kind)}")
    return _REBUILD[function](*arguments)


def _dict(items: Any = ()) -> dict:
    pairs = list(items.items() if type(items) is dict else items)
    return dict(zip(checked_keys(key for key, _ in pairs), (v for _, v in pairs), strict=True))


def _device(*parts: Any) -> str:
    if not all(type(part) in (str, int) for part in parts):
        raise TypeError("bad device")
    return ":".join(str(part) for part in parts)


def _numpy_dtype(code: str, *_: Any) -> Unbuilt:
    if not re.fullmatch(r"b1|[iu][1248]|f[248]|c(8|16)", code):
        raise Refused(f"the NumPy dtype {shown(code)}")

    def finish(state: tuple) -> np.dtype:
        return np.dtype(code).newbyteorder(">" if state[1] == ">" else "<")

    return Unbuilt(finish)


def _numpy_values(dtype: Any, values: Any) -> np.ndarray:
    if not isinstance(dtype, np.dtype) or type(values) is not bytes:
        raise TypeError("bad NumPy values")
    return np.frombuffer(values, dtype)


def _numpy_scalar(dtype: Any, values: Any) -> bool | int | float | complex:
    (number,) = _numpy_values(dtype, values).tolist()
    return number


def _numpy_array(kind: Any, *_: Any) -> Unbuilt:
    if type(kind) is not TorchName or kind != "numpy.ndarray":
        raise Refused(f"a NumPy array of the class {shown(kind)}")

    def finish(state: tuple) -> np.ndarray:
        _, shape, dtype, fortran, values = state
        order = "F" if fortran is True else "C"
        return _numpy_values(dtype, values).reshape(_sizes(shape), order=order)

    return Unbuilt(finish)


def _bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    if type(text) not in (str, bytes) or encoding not in ("latin1", "latin-1"):
        raise TypeError("bytes in an unusual form")
    return text if type(text) is bytes else text.encode("latin-1")


_REBUILD: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}

CALLS: Mapping[str, Callable[..., Any]] = {
    **_REBUILD,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_class,
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "torch.Size": _sizes,
    "torch.device": _device,
    "numpy.dtype": _numpy_dtype,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray._reconstruct": _numpy_array,
    "_codecs.encode": _bytes,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.set": lambda items: set(checked_keys(items)),
    "builtins.complex": complex,
}
"""What a call of a name makes; everything is ours and only builds plain values."""

NAMES = frozenset(
    {f"torch.{name}" for name in (*TORCH_STORAGES, *TORCH_DTYPES)}
    | {"torch.storage.UntypedStorage", "torch.Tensor", "torch.nn.parameter.Parameter"}
    | {"numpy.ndarray"}
    # Lightning before 1.5 keyed the states of its callbacks by their classes.
    | {
        f"{package}.callbacks.{module}"
        for package in ("pytorch_lightning", "lightning.pytorch")
        for module in ("model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping")
    }
)
"""Names that may be mentioned but not called."""

REFUSED: Mapping[str, str] = {
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without data (device meta)",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a wrapper class",
}
"""Tensors that are no dense arrays, in words."""
