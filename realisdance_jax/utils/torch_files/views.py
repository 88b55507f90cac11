"""Tensors as views of storages: whether they fit, and their values when asked for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from realisdance_jax.utils.torch_files.globals import StoredTensor
from realisdance_jax.utils.torch_files.lazy import LazyTensor, tensor_of_bytes, unexpected

_REPEAT_LIMIT = 256 << 20  # bytes of a tensor whose strides repeat a smaller storage

Read = Callable[[int, int], np.ndarray]
"""(start, length) -> that many bytes of a storage, uint8."""


def lazy_view(path: Path, where: str, stored: StoredTensor, read: Read) -> LazyTensor:
    """A tensor that is read when asked for; `UserError` when it does not lie inside its storage.

    where: what the file calls the storage, for messages.
    """
    nbytes = stored.storage.nbytes
    last = (stored.offset + _extent(stored)) * stored.dtype.itemsize
    tensor = LazyTensor(stored.shape, stored.dtype, partial(_read_view, stored, read))
    if last > nbytes or tensor.nbytes > max(nbytes, _REPEAT_LIMIT):
        raise unexpected(path, f"a tensor inside {where!r}", "one that does not fit in it")
    return tensor


def _extent(stored: StoredTensor) -> int:
    """Elements from the first to the last one used."""
    if 0 in stored.shape:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(stored.shape, stored.strides, strict=True))


def _read_view(stored: StoredTensor, read: Read) -> np.ndarray:
    extent, item = _extent(stored), stored.dtype.itemsize
    raw = read(stored.offset * item, extent * item)
    flat = tensor_of_bytes(raw, stored.dtype, (extent,))
    if extent == 0:
        return flat.reshape(stored.shape)
    steps = [0 if n == 1 else d * item for n, d in zip(stored.shape, stored.strides, strict=True)]
    view = np.ndarray(stored.shape, stored.dtype, flat.view(np.uint8).data, strides=steps)
    return view if view.flags.c_contiguous else np.array(view, order="C")
