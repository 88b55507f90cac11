"""Where the driver stands against the reference picture: one similarity for all three conditions.

Everything is measured in pixels. A similarity takes pixels of the driver's frames to pixels of the
canvas on which the conditions are painted; applied to keypoints and to both cameras, it keeps them
in register exactly.
"""

from dataclasses import dataclass, replace

import numpy as np

from realisdance_jax.poses.clips import BodyClip, KeypointClip
from realisdance_jax.poses.raster import Camera
from realisdance_jax.shapes import Bool, Float, Int, typechecked
from realisdance_jax.utils.errors import UserError

TORSO = (1, 2, 5, 8, 11)
"""Neck, shoulders and hips in OpenPose-18 order: what hides and bends least."""

SMPLX_TORSO = (12, 17, 16, 2, 1)
"""The same joints of SMPL-X."""

FIRST_FRAMES = 12
"""How many frames with a torso, from the first on, tell where the driver stands."""

LARGEST_RATIO = 2.0
"""Torso lengths further apart than this are a known limit of the model (section 4 of the paper)."""

_FURTHEST = 15.0  # frame sizes; readers refuse keypoints beyond 16
_PAIRS = tuple((a, b) for a in range(len(TORSO)) for b in range(a))


@dataclass(frozen=True)
class Similarity:
    """Pixel (x, y) goes to `scale` * (x, y) + `shift`; (0, 0) is a picture's corner."""

    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def apply(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Points in pixels."""
        return self.scale * points + np.array(self.shift)

    def then(self, other: "Similarity") -> "Similarity":
        """This one, then `other`."""
        x, y = (other.scale * a + b for a, b in zip(self.shift, other.shift, strict=True))
        return Similarity(self.scale * other.scale, (x, y))


@dataclass(frozen=True, eq=False)
class Torso:
    """Pixels of the five joints of `TORSO` over f frames, and which are seen."""

    points: Float[np.ndarray, "f 5 2"]
    ok: Bool[np.ndarray, "f 5"]


@typechecked
def keypoint_torso(clip: KeypointClip, size: tuple[int, int]) -> Torso:
    """Torso of the person in slot 0 of frames of height and width `size`."""
    scale = np.array([size[1], size[0]], np.float64)
    return Torso(clip.body[:, 0, TORSO] * scale, clip.body_ok[:, 0, TORSO])


@typechecked
def body_torso(
    joints: Float[np.ndarray, "f 55 3"],
    present: Bool[np.ndarray, " f"],
    focal: Float[np.ndarray, "f 2"],
    princpt: Float[np.ndarray, "f 2"],
) -> Torso:
    """Torso of SMPL-X joints (camera axes, metres) as the camera sees it."""
    torso = joints[:, SMPLX_TORSO]
    ok = present[:, None] & (torso[..., 2] > 0.01)
    depth = np.where(ok, torso[..., 2], 1.0)[..., None]
    pixels = focal[:, None] * torso[..., :2] / depth + princpt[:, None]
    return Torso(pixels.astype(np.float64), ok)


@typechecked
def match_torsos(driver: Torso, reference: Torso, where: str = "driver") -> Similarity:
    """The similarity that puts the driver's torso on that of the reference (frame 0).

    The scale is the median, over all pairs of joints that both show, of the ratio of distances;
    the shift is the median over those joints. The driver's are medians over its first frames.
    Raises `UserError`, opening with `where`, when fewer than two joints are seen in both.
    """
    seen = _first_frames(driver)
    points, ok = driver.points[seen], driver.ok[seen]
    target, target_ok = reference.points[0], reference.ok[0]
    ratios = []
    for a, b in _PAIRS:
        both = ok[:, a] & ok[:, b]
        if both.any() and target_ok[a] and target_ok[b]:
            length = np.median(np.linalg.norm(points[both, a] - points[both, b], axis=-1))
            if length > 1.0:
                ratios.append(np.linalg.norm(target[a] - target[b]) / length)
    scale = float(np.median(ratios)) if ratios else 0.0
    if not scale > 0:
        raise UserError(
            f"{where}: expected neck, shoulders or hips (two of them) that the reference shows "
            "too, found none to align by; --align none keeps the framing"
        )
    shifts = [
        target[joint] - scale * np.median(points[ok[:, joint], joint], axis=0)
        for joint in range(len(TORSO))
        if target_ok[joint] and ok[:, joint].any()
    ]
    x, y = np.median(shifts, axis=0)
    return Similarity(scale, (float(x), float(y)))


def _first_frames(torso: Torso) -> Int[np.ndarray, " k"]:
    """Those that tell where the driver stands."""
    return np.flatnonzero(torso.ok.sum(axis=1) >= 2)[:FIRST_FRAMES]


@typechecked
def typical_frame(driver: Torso) -> int | None:
    """The frame that stands where `match_torsos` takes the driver to be: nearest to the medians.

    None where no frame shows two joints.
    """
    seen = _first_frames(driver)
    if not len(seen):
        return None
    points, ok = driver.points[seen], driver.ok[seen]
    joints = [joint for joint in range(len(TORSO)) if ok[:, joint].any()]
    distances = np.full(ok.shape, np.nan)
    for joint in joints:
        here = ok[:, joint]
        median = np.median(points[here, joint], axis=0)
        distances[here, joint] = np.linalg.norm(points[here, joint] - median, axis=-1)
    return int(seen[np.nanmean(distances, axis=1).argmin()])


@typechecked
def whole_frame(size: tuple[int, int], canvas: tuple[int, int]) -> Similarity:
    """A whole frame as large as fits on the canvas, in its middle; identity for equal sizes."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    x, y = ((b - scale * a) / 2 for a, b in zip(size[::-1], canvas[::-1], strict=True))
    return Similarity(scale, (x, y))


def compared(ratio: float) -> str:
    """In words: torso of the reference over that of the driver, in pictures of one height."""
    times, which = (ratio, "smaller") if ratio > 1 else (1 / ratio, "larger")
    return f"the driver's torso is {times:.2f} times {which} than the reference's"


def too_different(ratio: float) -> bool:
    """Whether torso lengths differ by more than the model copes with."""
    return not 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO


@typechecked
def move_keypoints(
    clip: KeypointClip, similarity: Similarity, size: tuple[int, int], canvas: tuple[int, int]
) -> KeypointClip:
    """The clip on the canvas. size: height and width of the driver's frames.

    Points further away than a file may hold are hidden; marks of hidden points stay marks.
    """
    before, after = (np.array([w, h], np.float64) for h, w in (size, canvas))
    changes = {}
    for name in ("body", "hands", "faces"):
        ok = getattr(clip, f"{name}_ok")
        points = similarity.apply(getattr(clip, name) * before) / after
        ok = ok & np.all(np.abs(points) <= _FURTHEST, axis=-1)
        changes |= {name: np.where(ok[..., None], points, 0.0), f"{name}_ok": ok}
    return replace(clip, size=canvas, **changes)


@typechecked
def move_body(clip: BodyClip, similarity: Similarity, canvas: tuple[int, int]) -> BodyClip:
    """The same body before a camera that sees it on the canvas; exact, the pose is untouched."""
    here = clip.present[:, None]
    return replace(
        clip,
        focal=np.where(here, clip.focal * similarity.scale, 0),
        princpt=np.where(here, similarity.apply(clip.princpt), 0),
        size=canvas,
    )


@typechecked
def move_camera(camera: Camera, similarity: Similarity) -> Camera:
    """A camera whose picture is that of `camera`, moved."""
    x, y = (float(value) for value in similarity.apply(np.array(camera.centre)))
    focal = camera.focal[0] * similarity.scale, camera.focal[1] * similarity.scale
    return replace(camera, focal=focal, centre=(x, y))
