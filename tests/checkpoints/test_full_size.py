"""The released stage-2 size, 9.2 GB, there and back: memory, time and every bit.

By hand: `python -m pytest -m slow -s tests/checkpoints/test_full_size.py` (28 GB of disk, minutes).
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from realisdance_jax.checkpoints.convert.tensor_files import LazyTensor, open_tensors
from realisdance_jax.utils.torch_files.torchzip import write_torch_zip
from tests.golden_files import load_keys

pytestmark = pytest.mark.slow

LIMIT = 14.0  # GiB of memory at the peak


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers that depend on the name."""
    generator = np.random.Generator(np.random.SFC64(zlib.crc32(name.encode())))
    return generator.random(shape, np.float32)


def convert(*arguments: object) -> float:
    """Run the converter; the peak of its resident memory (VmHWM) in GiB."""
    started = time.monotonic()
    line = [sys.executable, "-m", "realisdance_jax.convert", *map(str, arguments)]
    _, status, usage = os.wait4(subprocess.Popen(line).pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    peak, seconds = usage.ru_maxrss / 2**20, time.monotonic() - started
    print(f"{arguments[0]}: {peak:.1f} GiB at the peak, {seconds:.0f} s")
    return peak


def digests(path: Path) -> dict[str, str]:
    tensors = open_tensors(path).tensors.items()
    return {name: hashlib.sha256(tensor.dense_bytes(name)).hexdigest() for name, tensor in tensors}


def test_the_full_size_checkpoint_comes_back():
    keys, dtype = load_keys("stage2"), np.dtype(np.float32)
    state = {
        f"module.{name}": LazyTensor(shape, dtype, partial(values, name, shape))
        for name, shape in keys.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        official, weights, back = (Path(folder, name) for name in ("a.ckpt", "weights", "b.ckpt"))
        write_torch_zip(official, {"epoch": 7, "global_step": 100_000, "state_dict": state})
        assert convert("to-jax", "--checkpoint", official, "--out", weights) < LIMIT
        assert convert("to-torch", "--weights", weights, "--out", back) < LIMIT
        assert digests(official) == digests(back)
        assert open_tensors(back).extra == {"epoch": 7, "global_step": 100_000}
