"""Pictures of many frames, in order, made by several processes in constant memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from realisdance_jax.shapes import UInt8, typechecked
from realisdance_jax.utils.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


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
        paint: a pure function that pickle can name, or a `functools.partial` of one; sent to each
            process once.
        frames: read no further ahead than the processes need.
        processes: 1 paints here, without starting any.
        label: of a progress bar, shown on terminals; none by default.
        total: number of frames, for the bar.
    Raises `UserError` when a process is killed. The processes leave Ctrl-C to this one, and end
    when it is killed.
    """
    pictures = map(paint, frames) if processes == 1 else in_pool(paint, frames, processes)
    yield from tqdm(pictures, label, total, disable=True if label is None else None, unit="frame")


def in_pool(paint: Callable[[T], R], frames: Iterable[T], processes: int) -> Iterator[R]:
    """`paint` of every frame, or whatever it takes, in order, by processes of a pool.

    At most two frames per process are under way; spawned, since JAX does not survive a fork.
    Raises `UserError` when a process is killed.
    """
    source, waiting = iter(frames), deque[Future]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _Painter.prepare, (paint,)) as pool:

        def submit(count: int) -> None:
            for frame in islice(source, count):
                with _deaf_children():  # the pool starts its processes as frames come
                    waiting.append(pool.submit(_Painter.picture, frame))

        try:
            submit(2 * processes)
            while waiting:
                picture = waiting.popleft().result()
                submit(1)
                yield picture
        except BrokenProcessPool:
            hint = "out of memory? --workers 1 needs least"
            raise UserError(f"painting: a process was killed ({hint})") from None
        finally:
            pool.shutdown(cancel_futures=True)


class _Painter:
    """What a process of the pool paints with; a pool gives its processes things in no other way."""

    paint: Callable[[Any], Any]

    @classmethod
    def prepare(cls, paint: Callable[[Any], Any]) -> None:
        """Called once in each process."""
        cls.paint = staticmethod(paint)
        threading.Thread(target=_end_with_parent, daemon=True).start()

    @classmethod
    def picture(cls, frame: Any) -> Any:
        return cls.paint(frame)


def _end_with_parent() -> None:
    """A pool's processes would wait for ever for the next frame of one that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started in this block never hear Ctrl-C; this one hears it after the block."""
    resource_tracker.ensure_running()  # it would unblock the signal when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
