"""One example by position, with what to do about unreadable clips."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from realisdance_jax.data.config import DataConfig
from realisdance_jax.data.samples import Sample, Streams, with_clip
from realisdance_jax.data.sources import Source
from realisdance_jax.utils.errors import UserError

TRIES = 10
"""Clips tried for one example before the run stops."""

_REASON = 200  # bytes of a reason that travel with the batch


@dataclass(frozen=True)
class Loader:
    """(position, source, clip) -> example; runs in the workers."""

    config: DataConfig
    seed: int
    sources: list[Source]

    def __call__(self, row: tuple[int, int, int]) -> Sample:
        """An example of the clip or, if it is unreadable, of others of its source.

        Which ones is a function of (seed, position). `failed` and `reasons` tell what was wrong;
        `read_failures` takes them out again.
        Raises `UserError` when `TRIES` clips in turn are unreadable.
        """
        position, which, clip = row
        source, streams = self.sources[which], Streams(self.seed, position)
        offset = sum(len(other) for other in self.sources[:which])
        failed = np.full(TRIES, -1, np.int64)
        reasons = np.zeros((TRIES, _REASON), np.uint8)
        message = ""
        for attempt in range(TRIES):
            try:
                sample = source.sample(clip, self.config, streams)
            except UserError as error:
                message = str(error)
                failed[attempt] = offset + clip
                text = message.encode()[:_REASON]
                reasons[attempt, : len(text)] = np.frombuffer(text, np.uint8)
                clip = int(streams.generator("replace", attempt).integers(len(source)))
                continue
            number = np.array(offset + clip, np.int64)
            drawn = with_clip(sample["draw_hash"], offset + clip, attempt)
            told = {"sample_id": number, "failed": failed, "reasons": reasons}
            return {**sample, **told, "draw_hash": drawn}
        raise UserError(f"{TRIES} clips in turn are unreadable, the last one: {message}")


def read_failures(batch: dict[str, np.ndarray]) -> Iterator[tuple[int, str]]:
    """Take what `Loader` says about unreadable clips out of `batch`: their numbers and why."""
    failed, reasons = batch.pop("failed"), batch.pop("reasons")
    for place in zip(*np.nonzero(failed >= 0), strict=True):
        text = reasons[place].tobytes().rstrip(b"\0")
        yield int(failed[place]), text.decode("utf-8", "replace")
