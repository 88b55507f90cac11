"""Whom to follow in a film with several people: the largest of each frame, or one by its track."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.dwpose_detect import areas, overlaps
from realisdance_jax.shapes import Bool, Float, Int, typechecked

Person = Literal["largest", "track"]

LEAST_OVERLAP = 0.2
"""Boxes of one person in two frames overlap at least so much (intersection over union)."""

PATIENCE = 30
"""Frames without a matching box after which a track has ended."""


@dataclass
class Track:
    """Boxes of one person by frame number, ascending, and their places among those of the frame."""

    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)

    def add(self, number: int, place: int, box: np.ndarray) -> None:
        """Where frame `number` shows the person."""
        self.boxes[number], self.places[number] = box, place

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
            active[row].add(number, int(column), boxes[column])
            new.discard(int(column))
            table[row], table[:, column] = 0, 0
        for column in sorted(new):
            tracks.append(Track())
            tracks[-1].add(number, column, boxes[column])
    return tracks


def main_person(frames: Sequence[Float[np.ndarray, "n 4"]]) -> Track:
    """The track of the person who takes most room in the whole film; empty if nobody does."""
    return max(link(frames), key=lambda track: track.size, default=Track())


@typechecked
def main_track(
    frames: Sequence[Float[np.ndarray, "_ 4"]],
) -> tuple[Float[np.ndarray, "f 4"], Bool[np.ndarray, " f"]]:
    """Boxes of the person who takes most room in the whole film, and the frames he or she is in.

    frames: boxes of every frame. Where the detector loses the person for at most `PATIENCE` frames,
    boxes are interpolated.
    """
    boxes, seen = np.zeros((len(frames), 4)), np.zeros(len(frames), bool)
    track = main_person(frames)
    if track.boxes:
        numbers = np.array(list(track.boxes))
        between = np.arange(numbers[0], numbers[-1] + 1)
        corners = np.stack(list(track.boxes.values()))
        for k in range(4):
            boxes[between, k] = np.interp(between, numbers, corners[:, k])
        seen[between] = True
    return boxes, seen


@typechecked
def person_boxes(clip: KeypointClip) -> tuple[Float[np.ndarray, "f p 4"], Bool[np.ndarray, "f p"]]:
    """Boxes (left, top, right, bottom, fractions of the frame) around all visible points."""
    hands, hands_ok = (
        array.reshape(clip.frames, clip.persons, 42, *array.shape[4:])
        for array in (clip.hands, clip.hands_ok)
    )
    ok = np.concatenate([clip.body_ok, hands_ok, clip.faces_ok], axis=2)
    points = np.concatenate([clip.body, hands, clip.faces], axis=2)
    seen = ok[..., None]
    corners = (
        np.where(seen, points, np.inf).min(axis=2),
        np.where(seen, points, -np.inf).max(axis=2),
    )
    here = np.any(ok, axis=2)
    return np.where(here[..., None], np.concatenate(corners, axis=-1), 0.0), here


@typechecked
def one_person(clip: KeypointClip, person: Person) -> KeypointClip:
    """The clip with one person, in slot 0; a clip that never had more is returned as it is.

    person: as of `estimate_dwpose`, but judged by boxes around the visible points: `largest` takes
        the largest of each frame; `track` the person who takes most room in the whole film, who is
        absent from frames in which he or she was not found.
    """
    if clip.persons <= 1:
        return clip
    boxes, here = person_boxes(clip)
    slots = np.full(clip.frames, -1)
    if person == "largest":
        room = areas(boxes.reshape(-1, 4)).reshape(here.shape)
        slots = np.where(here.any(axis=1), np.where(here, room, -1.0).argmax(axis=1), -1)
    else:
        present = [np.flatnonzero(row) for row in here]
        track = main_person([boxes[k, slot] for k, slot in enumerate(present)])
        for number, place in track.places.items():
            slots[number] = present[number][place]
    return _only(clip, slots)


def _only(clip: KeypointClip, slots: Int[np.ndarray, " f"]) -> KeypointClip:
    """Of every frame the person in one slot, nobody where that is -1."""
    chosen = {}
    for part in fields(clip):
        array = getattr(clip, part.name)
        if isinstance(array, np.ndarray):
            picked = array[np.arange(clip.frames), slots][:, None]
            known = (slots >= 0).reshape(-1, *[1] * (picked.ndim - 1))
            chosen[part.name] = np.where(known, picked, np.zeros((), array.dtype))
    return replace(clip, **chosen)


def crowded(clip: KeypointClip) -> Bool[np.ndarray, " f"]:
    """Frames that show more than one person."""
    return person_boxes(clip)[1].sum(axis=1) > 1
