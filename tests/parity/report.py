"""One row of the parity table: measure, record for the summary at the end of the run, assert.

And the table as a whole: whether it has a row for every array of the oracle.
"""

import functools
from collections.abc import Callable, Iterable

import numpy as np

from tests import oracle

FORWARD, SAMPLING, GRADIENT, LOSS = 2e-5, 5e-5, 1e-4, 3e-6
PROPERTY = "parity"

FILES = ("test_forward.py", "test_sampling.py", "test_train.py")
"""What has to run, in this folder, for a row of every array."""
GIVEN = ("unit_in", "unit_temb", "unit_bank")
"""Arrays beside the results of `stage1.npz` and `stage2.npz` that are fed to the single layers."""

Record = Callable[[str, object], None]


class Table:
    """Collects rows in a test; `verify` fails the test with every row above its bound."""

    def __init__(self, record: Record, file: str, bound: float):
        self.record, self.file, self.bound = record, file, bound
        self.failures: list[str] = []

    def row(self, name: str, ours: np.ndarray, theirs: np.ndarray | None = None) -> None:
        """Relative L2 error of `ours` (official layout) against array `name` of the oracle file."""
        theirs = oracle.arrays(self.file)[name] if theirs is None else theirs
        key = f"{self.file}/{name}"
        self.measured(key, oracle.relative_error(ours, theirs), oracle.tolerance(key, self.bound))

    def measured(self, key: str, error: float, bound: float) -> None:
        self.record(PROPERTY, [key, error, bound])
        if not error <= bound:
            self.failures.append(f"{key}: {error:.2e} > {bound:.2e}")

    def verify(self) -> None:
        assert not self.failures, "\n".join(self.failures)


@functools.cache
def results() -> frozenset[str]:
    """FILE/NAME of every array of the oracle that a row has to be about."""
    files = sorted(path.stem for path in oracle.FOLDER.glob("*.npz") if path.stem != "inputs")
    names = [(file, name) for file in files for name in oracle.arrays(file)]
    return frozenset(f"{file}/{name}" for file, name in names if name not in GIVEN)


def without_row(keys: Iterable[str]) -> list[str]:
    """Arrays of the oracle that no row is about; `NAME (absolute)` is about NAME.

    A row from official intermediates (`NAME from ...`) is not: it leaves out what comes before.
    """
    return sorted(results() - {key.partition(" (")[0] for key in keys})


def channels_last(array: np.ndarray) -> np.ndarray:
    """N C ... -> N ... C."""
    return np.moveaxis(array, 1, -1)


def channels_first(array: np.ndarray) -> np.ndarray:
    """N ... C -> N C ...."""
    return np.moveaxis(np.asarray(array), -1, 1)


def images(array: np.ndarray) -> np.ndarray:
    """`b 1 h w c` -> N C H W; `b f h w c` -> N C F H W."""
    array = channels_first(array)
    return array[:, :, 0] if array.shape[2] == 1 else array


def folded(array: np.ndarray) -> np.ndarray:
    """`b f h w c` -> (N F) C H W, the layout of per-frame networks."""
    array = np.asarray(array)
    return np.moveaxis(array.reshape(-1, *array.shape[2:]), -1, 1)


def clip(array: np.ndarray) -> np.ndarray:
    """N C H W or N C F H W -> `b f h w c`."""
    array = channels_last(array)
    return array[:, None] if array.ndim == 4 else array
