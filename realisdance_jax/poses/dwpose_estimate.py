"""DWPose keypoints with scores from the frames of a film, one frame in memory at a time."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from tqdm import tqdm

from realisdance_jax.poses.clips import KeypointClip
from realisdance_jax.poses.dwpose_detect import Detector
from realisdance_jax.poses.dwpose_people import Person, largest, main_track
from realisdance_jax.poses.dwpose_pose import POINTS, PoseNetwork
from realisdance_jax.shapes import Float, UInt8, typechecked
from realisdance_jax.utils.errors import UserError

LEAST_SCORE = 0.3
"""Body joints are seen above it, points of hands and faces from it on, as released."""

SHOULDERS = (5, 6)
NECK = POINTS
"""COCO has no neck: it is put between the shoulders, as point 133."""

BODY = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""OpenPose-18 joints among the points of COCO-WholeBody."""

FACE, LEFT_HAND, RIGHT_HAND = slice(23, 91), slice(91, 112), slice(112, 133)

Frame = UInt8[np.ndarray, "H W 3"]
Frames = Callable[[], Iterable[np.ndarray]]
"""Opens the film anew: `lambda: read_frames(path)`."""


@typechecked
def with_neck(
    points: Float[np.ndarray, "133 2"], scores: Float[np.ndarray, "133"]
) -> tuple[Float[np.ndarray, "134 2"], Float[np.ndarray, "134"]]:
    """The points and the middle of the shoulders, whose score is 1 if both are seen, else 0."""
    neck = points[SHOULDERS, :].mean(axis=0, keepdims=True)
    seen = (scores[SHOULDERS,] > LEAST_SCORE).all(keepdims=True)
    return np.concatenate([points, neck]), np.concatenate([scores, seen.astype(np.float64)])


@typechecked
def keypoint_clip(
    points: Float[np.ndarray, "f 133 2"],
    scores: Float[np.ndarray, "f 133"],
    size: tuple[int, int],
    fps: float | None = None,
) -> KeypointClip:
    """The clip of one person.

    Args:
        points: x, y of COCO-WholeBody points in pixels of frames of height and width `size`.
        scores: of the points, kept; those of frames without the person are zero.
        size, fps: of the film.
    """
    joined = [with_neck(*frame) for frame in zip(points, scores, strict=True)]
    scale = np.array([size[1], size[0]], np.float64)
    places = np.stack([frame[0] for frame in joined])[:, None] / scale
    scores = np.stack([frame[1] for frame in joined])[:, None]

    def part(chosen: tuple | slice) -> tuple[np.ndarray, np.ndarray]:
        return places[:, :, chosen], scores[:, :, chosen]

    body, body_score = part(BODY)
    sides = [part(side) for side in (LEFT_HAND, RIGHT_HAND)]
    hands, hands_score = (np.stack(arrays, axis=2) for arrays in zip(*sides, strict=True))
    faces, faces_score = part(FACE)
    body_ok = body_score > LEAST_SCORE
    hands_ok, faces_ok = hands_score >= LEAST_SCORE, faces_score >= LEAST_SCORE
    return KeypointClip(
        body=np.where(body_ok[..., None], body, 0),
        body_ok=body_ok,
        hands=np.where(hands_ok[..., None], hands, 0),
        hands_ok=hands_ok,
        faces=np.where(faces_ok[..., None], faces, 0),
        faces_ok=faces_ok,
        size=size,
        fps=fps,
        body_score=body_score,
        hands_score=hands_score,
        faces_score=faces_score,
    )


def estimate_dwpose(
    frames: Frames,
    detector: Detector,
    network: PoseNetwork,
    person: Person = "largest",
    fps: float | None = None,
    total: int | None = None,
    progress: bool = False,
) -> KeypointClip:
    """Keypoints of one person of a film, with scores.

    Args:
        frames: opens the film, RGB frames of one size; called twice for a track.
        detector, network: from `open_detector` and `open_pose_network`.
        person: `largest` takes the largest box of each frame, and the whole frame where there is
            none, as released; `track` the person who takes most room in the whole film, who is
            absent from a frame where the detector has lost him or her.
        fps: of the film, if known. total: number of frames, for the bars; progress: show them.
    Raises `UserError` for a film without frames.
    """

    def opened(label: str) -> Iterator[np.ndarray]:
        yield from tqdm(frames(), label, total, disable=None if progress else True, unit="frame")

    points, scores, size = [], [], None
    for picture, box in _people(opened, detector, person):
        size = picture.shape[:2]
        if box is None:
            points.append(np.zeros((POINTS, 2)))
            scores.append(np.zeros(POINTS))
        else:
            found = network.points(picture, box)
            points.append(found[0])
            scores.append(found[1])
    if size is None:
        raise UserError("DWPose: expected a film, found no frame in it")
    return keypoint_clip(np.stack(points), np.stack(scores), size, fps)


def _people(
    opened: Callable[[str], Iterator[np.ndarray]], detector: Detector, person: Person
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Every frame with the box of the person, None for an absent one."""
    if person == "track":
        boxes, seen = main_track([detector.people(f)[0] for f in opened("finding people")])
        for number, picture in enumerate(opened("keypoints")):
            yield picture, boxes[number] if seen[number] else None
        return
    for picture in opened("keypoints"):
        box = largest(detector.people(picture)[0])
        whole = np.array([0, 0, picture.shape[1], picture.shape[0]], np.float64)
        yield picture, whole if box is None else box
