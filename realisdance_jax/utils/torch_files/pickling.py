"""The pickle inside a torch zip file, written opcode by opcode (protocol 2, no torch needed)."""

import math
import pickle
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from realisdance_jax.utils.torch_files.lazy import TORCH_STORAGES, LazyTensor

_STORAGE_OF = {dtype: name for name, dtype in TORCH_STORAGES.items()}


def pickle_state(state: Mapping[str, Any]) -> tuple[bytes, dict[str, LazyTensor]]:
    """Pickle of nested plain data, and its tensors by storage key ("0", "1", ...) in that order.

    Raises `TypeError` for a value that torch.load(weights_only=True) would not take back.
    """
    tensors: dict[str, LazyTensor] = {}
    out = bytearray(pickle.PROTO + b"\x02")
    _write(out, state, "", tensors)
    return bytes(out + pickle.STOP), tensors


def _write(out: bytearray, value: Any, name: str, tensors: dict[str, LazyTensor]) -> None:
    if isinstance(value, np.ndarray):
        value = LazyTensor.of(value)
    if isinstance(value, LazyTensor):
        key = str(len(tensors))
        out += _tensor(value, name, key)
        tensors[key] = value
    elif isinstance(value, Mapping):
        out += pickle.EMPTY_DICT + pickle.MARK
        for key, item in value.items():
            out += _scalar(key, name)
            _write(out, item, f"{name}.{key}", tensors)
        out += pickle.SETITEMS
    elif isinstance(value, list | tuple):
        out += pickle.MARK if isinstance(value, tuple) else pickle.EMPTY_LIST + pickle.MARK
        for index, item in enumerate(value):
            _write(out, item, f"{name}.{index}", tensors)
        out += pickle.TUPLE if isinstance(value, tuple) else pickle.APPENDS
    else:
        out += _scalar(value, name)


def _scalar(value: Any, name: str) -> bytes:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None:
        return pickle.NONE
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return pickle.BINFLOAT + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
    raise _unfit(name, f"a {type(value).__name__}")


def _unfit(name: str, what: str) -> TypeError:
    return TypeError(f"{name.removeprefix('.')}: {what} cannot go into a torch file")


def _integer(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return pickle.BININT + struct.pack("<i", value)
    digits = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(digits)]) + digits


def _integers(values: tuple[int, ...]) -> bytes:
    return pickle.MARK + b"".join(map(_integer, values)) + pickle.TUPLE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tensor(tensor: LazyTensor, name: str, key: str) -> bytes:
    """A call of torch._utils._rebuild_tensor_v2 for a dense tensor that owns storage `key`."""
    if tensor.dtype not in _STORAGE_OF:
        raise _unfit(name, f"the dtype {tensor.dtype}")
    shape = tensor.shape
    strides = tuple(math.prod(max(n, 1) for n in shape[i + 1 :]) for i in range(len(shape)))
    storage = (
        pickle.MARK
        + _scalar("storage", name)
        + _global("torch", _STORAGE_OF[tensor.dtype])
        + _scalar(key, name)
        + _scalar("cpu", name)
        + _integer(math.prod(shape))
        + pickle.TUPLE
        + pickle.BINPERSID
    )
    no_hooks = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    view = _integer(0) + _integers(shape) + _integers(strides)
    arguments = pickle.MARK + storage + view + pickle.NEWFALSE + no_hooks + pickle.TUPLE
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE
