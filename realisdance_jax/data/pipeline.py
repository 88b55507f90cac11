"""Batches by step: random access, rows by host, worker processes, unreadable clips replaced.

Everything in a batch is a function of (configuration, seed, step), so a run that starts at step n
sees what an uninterrupted one sees, with any number of workers and hosts.
"""

import ctypes
import hashlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grain
import numpy as np
from absl import flags

from realisdance_jax.data.cached import CachedSource
from realisdance_jax.data.catalogue import fingerprint_of, open_sources
from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.loader import Loader, read_failures
from realisdance_jax.data.sources import Source
from realisdance_jax.data.stored import encoder_name
from realisdance_jax.utils.errors import UserError

_STEPS = 2**40
"""Length of an endless run; grain computes with lengths in floating point."""

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def schedule(config: DataConfig, sizes: list[int], seed: int) -> grain.MapDataset:
    """Endless (source, clip) pairs by position: shuffled anew each epoch, mixed by weight."""
    parts = []
    for number, size in enumerate(sizes):
        clips = grain.MapDataset.range(size)
        if config.shuffle:
            # Grain adds the epoch to the seed: neighbouring seeds would share their epochs.
            digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=4).digest()
            clips = clips.shuffle(seed=int.from_bytes(digest, "little"))
        parts.append(clips.repeat().map(partial(_pair, number)))
    if len(parts) == 1:
        return parts[0]
    return grain.MapDataset.mix(parts, weights=config.weights or [float(size) for size in sizes])


def _pair(source: int, clip: int) -> tuple[int, int]:
    return source, clip


@dataclass(frozen=True)
class HostRows:
    """Positions of one host's rows: the same ones of every global batch, step after step."""

    order: Any
    batch: int
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return _STEPS * len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, int, int]:
        step, row = divmod(index, len(self.rows))
        position = step * self.batch + self.rows[row]
        return position, *self.order[position]


class Batches:
    """Iterator over batches of one host; close it, or use it in a `with`.

    unreadable: clips replaced so far, name -> why; entries of an earlier run may be given.
    clips: in all sources.
    """

    def __init__(
        self,
        iterator: Iterator[dict[str, np.ndarray]],
        sources: list[Source],
        config: DataConfig,
        unreadable: dict[str, str],
    ):
        self._iterator, self._sources, self._config = iterator, sources, config
        self.clips = sum(len(source) for source in sources)
        self.unreadable = dict(unreadable)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch.

        Raises `UserError` when several clips in turn are unreadable.
        """
        try:
            batch = {key: np.asarray(value) for key, value in next(self._iterator).items()}
        except UserError as error:  # Grain appends lines about its traceback
            raise UserError(str(error).splitlines()[0]) from None
        for number, reason in read_failures(batch):
            self.unreadable.setdefault(self.name(number), reason)
        return batch

    def check(self, unreadable: Mapping[str, str]) -> None:
        """Raise `UserError` if these, name -> why, are more than `max_unreadable` of all clips.

        Of all hosts together: each reads a share, and all are to stop at the same step.
        """
        count, limit = len(unreadable), self._config.max_unreadable
        if count > limit * self.clips:
            name, reason = list(unreadable.items())[-1]
            raise UserError(
                f"{count} of {self.clips} clips are unreadable, more than {limit:.0%}; "
                f"the last one: {name}: {reason}"
            )

    @property
    def cached(self) -> bool:
        """Whether batches hold latents and tokens instead of pictures."""
        return all(isinstance(source, CachedSource) for source in self._sources)

    def check_encoder(self, hashes: Mapping[str, str]) -> None:
        """Raise `UserError` for a cache that other networks made than those with these `hashes`.

        hashes: of the components of the weights that a run starts from, by name.
        """
        expected = encoder_name(hashes)
        for label, source in zip(self._config.sources, self._sources, strict=True):
            if isinstance(source, CachedSource) and source.index.encoder != expected:
                found = source.index.encoder or "none named"
                raise UserError(
                    f"{label}: expected a cache made by the run's own networks ({expected}), "
                    f"found one by {found}; prepare it again with the weights of the run"
                )

    def name(self, sample_id: int) -> str:
        """Which clip a `sample_id` is; with its source if there are several."""
        for label, source in zip(self._config.sources, self._sources, strict=True):
            if sample_id < len(source):
                name = source.name(sample_id)
                return name if len(self._sources) == 1 else f"{label}: {name}"
            sample_id -= len(source)
        raise ValueError(f"expected a clip below {self.clips}, got {sample_id}")

    def fingerprint(self) -> str:
        """`dataset_fingerprint` of the configuration, without opening the sources again."""
        return fingerprint_of(self._sources)

    def close(self) -> None:
        """Stop the workers."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def make_batches(
    config: DataConfig,
    *,
    seed: int,
    start_step: int = 0,
    rows: Sequence[int] | None = None,
    workers: int = 0,
    unreadable: dict[str, str] | None = None,
) -> Batches:
    """Endless batches from `start_step` on, float32 NumPy arrays unless said otherwise.

    Pictures: `video` (b f H W 3) and `reference` (b H W 3) in [-1, 1], `encoder_image` (b h w 3)
    normalised, `conditions` (b f H W c) in [0, 1]. Cached: `latent_mean`, `latent_std` (b f h w 4)
    and `reference_mean`, `reference_std` (b h w 4) unscaled, `tokens` (b m c), `conditions` uint8.
    Always: int64 `sample_id` (b), which clip, and `draw_hash` (b), a hash of the
    clip and of all that was drawn.

    Args:
        rows: of each global batch, which ones this host loads, in this order; all by default.
        workers: processes; 0 reads in a thread. They need `if __name__ == "__main__"` in scripts,
            and each holds up to three batches (pictures at 768x576: 255 MB per example of 16
            frames; cached: 70 MB).
        unreadable: what an earlier part of the run found unreadable, counted on.

    Raises `UserError` for bad input.
    """
    chosen = tuple(range(config.batch) if rows is None else rows)
    if not chosen or not set(chosen) <= set(range(config.batch)):
        raise ValueError(f"rows: expected some from 0 to {config.batch - 1}, got {chosen}")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed: expected 0 to {2**32 - 1}, found {seed}")
    sources = open_sources(config)
    order = schedule(config, [len(source) for source in sources], seed)
    positions = grain.MapDataset.source(HostRows(order, config.batch, chosen))
    batches = positions.map(Loader(config, seed, sources)).batch(len(chosen))
    # Grain's own defaults would read 500 batches ahead.
    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    dataset = batches[start_step:].to_iter_dataset(ahead)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads flags, which only absl's `run` parses
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        dataset = dataset.mp_prefetch(options, worker_init_fn=partial(die_with_parent, os.getpid()))
    return Batches(iter(dataset), sources, config, unreadable or {})


def die_with_parent(parent: int, worker: int, workers: int) -> None:
    """Have the kernel kill this process when `parent` ends in whatever way (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
