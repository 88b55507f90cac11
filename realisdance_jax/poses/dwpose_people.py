"""Whom to follow in a film with several people: the largest of each frame, or one by its track."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from realisdance_jax.poses.dwpose_detect import areas, overlaps
from realisdance_jax.shapes import Bool, Float, typechecked

Person = Literal["largest", "track"]

LEAST_OVERLAP = 0.2
"""Boxes of one person in two frames overlap at least so much (intersection over union)."""

PATIENCE = 30
"""Frames without a matching box after which a track has ended."""


@dataclass
class Track:
    """Boxes of one person by frame number, ascending."""

    boxes: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The last frame it was seen in."""
        return next(reversed(self.boxes))

    @property
    def size(self) -> float:
        """Box areas of all frames, added up."""
        return float(areas(np.stack(list(self.boxes.values()))).sum())


@typechecked
def largest(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "4"] | None:
    """The box of the greatest area, as released; None when there is none."""
    return boxes[np.argmax(areas(boxes))] if len(boxes) else None


def link(frames: Sequence[Float[np.ndarray, "n 4"]]) -> list[Track]:
    """Join the boxes of successive frames into tracks, greatest overlap first."""
    tracks: list[Track] = []
    for number, boxes in enumerate(frames):
        active = [track for track in tracks if number - track.last <= PATIENCE]
        table = np.zeros((len(active), len(boxes)))
        for row, track in enumerate(active):
            table[row] = overlaps(track.boxes[track.last], boxes)
        new = set(range(len(boxes)))
        while table.size and table.max() >= LEAST_OVERLAP:
            row, column = np.unravel_index(table.argmax(), table.shape)
            active[row].boxes[number] = boxes[column]
            new.discard(int(column))
            table[row], table[:, column] = 0, 0
        tracks += [Track({number: boxes[column]}) for column in sorted(new)]
    return tracks


@typechecked
def main_track(
    frames: Sequence[Float[np.ndarray, "_ 4"]],
) -> tuple[Float[np.ndarray, "f 4"], Bool[np.ndarray, " f"]]:
    """Boxes of the person who takes most room in the whole film, and the frames he or she is in.

    frames: boxes of every frame. Where the detector loses the person for at most `PATIENCE` frames,
    boxes are interpolated.
    """
    boxes, seen = np.zeros((len(frames), 4)), np.zeros(len(frames), bool)
    tracks = link(frames)
    if tracks:
        track = max(tracks, key=lambda track: track.size)
        numbers = np.array(list(track.boxes))
        between = np.arange(numbers[0], numbers[-1] + 1)
        corners = np.stack(list(track.boxes.values()))
        for k in range(4):
            boxes[between, k] = np.interp(between, numbers, corners[:, k])
        seen[between] = True
    return boxes, seen
