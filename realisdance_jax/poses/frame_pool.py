"""Pictures of many frames, in order, painted by several processes in constant memory."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from realisdance_jax.shapes import UInt8, typechecked

T = TypeVar("T")


@typechecked
def paint_frames(
    paint: Callable[[T], UInt8[np.ndarray, "H W 3"]],
    frames: Iterable[T],
    processes: int = 1,
    label: str | None = None,
    total: int | None = None,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """`paint` of every frame in turn; the first error ends it.

    Args:
        paint: a pure function that pickle can name, or a `functools.partial` of one.
        frames: read no further ahead than the processes need.
        processes: 1 paints here, without starting any.
        label: of a progress bar, shown on terminals; none by default.
        total: number of frames, for the bar.
    """
    pictures = map(paint, frames) if processes == 1 else _in_pool(paint, frames, processes)
    yield from tqdm(pictures, label, total, disable=True if label is None else None, unit="frame")


def _in_pool(
    paint: Callable[[T], np.ndarray], frames: Iterable[T], processes: int
) -> Iterator[np.ndarray]:
    """At most two frames per process are under way; spawned, since JAX does not survive a fork."""
    source, waiting = iter(frames), deque[Future]()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            for frame in islice(source, 2 * processes):
                waiting.append(pool.submit(paint, frame))
            while waiting:
                picture = waiting.popleft().result()
                for frame in islice(source, 1):
                    waiting.append(pool.submit(paint, frame))
                yield picture
        finally:
            pool.shutdown(cancel_futures=True)
