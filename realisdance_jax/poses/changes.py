"""What repair did to a clip, as data."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from realisdance_jax.poses.tracks import frames_of
from realisdance_jax.shapes import Bool, typechecked

Stream = Literal["dwpose", "smpl", "hamer"]
Kind = Literal["outlier", "gap", "smoothed"]


@dataclass(frozen=True)
class Change:
    """What was done to one track, in frames `first` to `last`."""

    stream: Stream
    track: str
    kind: Kind
    first: int
    last: int


def as_record(changes: list[Change]) -> dict[str, Any]:
    """For a JSON file: how many changes of each kind, and every one of them."""
    kinds = [f"{change.stream} {change.kind}" for change in changes]
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    return {"counts": counts, "changes": [asdict(change) for change in changes]}


@typechecked
def found(
    stream: Stream, names: list[str], kind: Kind, mask: Bool[np.ndarray, "f n"]
) -> list[Change]:
    """One change per stretch of frames in which `mask` holds for a track; `names` of the tracks."""
    return [Change(stream, names[k], kind, first, last) for k, first, last in frames_of(mask)]


@typechecked
def smoothed(stream: Stream, frames: int) -> list[Change]:
    """All tracks of a stream over all frames."""
    return [Change(stream, "all", "smoothed", 0, frames - 1)] if frames else []
