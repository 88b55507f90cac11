"""Weights wherever they are: a folder, a training run, or packed into one file."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.packed import unpack_weights

PACKED = ".npz"


@contextmanager
def weights_folder(path: Path) -> Iterator[Path]:
    """`path`, the weights of the run that it is, or what was packed into it, for a while."""
    if path.suffix != PACKED:
        yield weights_of(path)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        unpack_weights(path, Path(folder) / "weights")
        yield Path(folder) / "weights"
