"""Limb by limb to the proportions of the reference: what a similarity alone cannot do.

After the similarity of align.py, every limb of the keypoints keeps its direction and takes the
length that it has in the reference, outwards from the neck: a child joint moves with its parent.
Hands hang on the wrists, eyes, ears and face points on the nose. Meshes cannot follow limb by limb
in a picture: the SMPL-X body takes the reference's shape coefficients where they are known, and
each HaMeR hand moves to the wrist of the keypoints and grows with their hands.
"""

from dataclasses import replace

import numpy as np

from realisdance_jax.poses.clips import HandClip, KeypointClip
from realisdance_jax.poses.raster import Camera
from realisdance_jax.shapes import Float, typechecked

# Name, pairs of joints that have it (left and right): the same ratio serves both sides.
LIMBS = {
    "neck": ((1, 0),),
    "shoulders": ((1, 2), (1, 5)),
    "upper arms": ((2, 3), (5, 6)),
    "lower arms": ((3, 4), (6, 7)),
    "torso": ((1, 8), (1, 11)),
    "upper legs": ((8, 9), (11, 12)),
    "lower legs": ((9, 10), (12, 13)),
    "face": ((0, 14), (0, 15), (14, 16), (15, 17)),
}
HANDS = "hands"
_KNUCKLES = (5, 9, 13, 17)
_WRISTS = (7, 4)  # of the left hand, of the right one
_LIMITS = (0.5, 2.0)  # a limb that points at the camera says nothing about its length


@typechecked
def limb_ratios(
    driver: KeypointClip,
    reference: KeypointClip,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    scale: float,
) -> dict[str, float]:
    """Length in the reference over length in the driver, of every limb, beyond the similarity.

    Args:
        driver, reference: keypoints, of the person in slot 0; of the reference frame 0 counts.
        sizes: height and width of the frames of both.
        scale: of the similarity, driver to reference.

    Of the driver the upper quartile over all frames counts, since limbs are foreshortened most of
    the time; of the reference the longer side. Limits are 0.5 and 2; what is not seen has ratio 1.
    """
    ours = _lengths(driver, sizes[0])
    theirs = _lengths(_first(reference), sizes[1])
    ratios = {}
    for name, lengths in ours.items():
        usual = np.nanquantile(lengths, 0.75) if np.isfinite(lengths).any() else np.nan
        wanted = np.nanmax(theirs[name]) if np.isfinite(theirs[name]).any() else np.nan
        ratio = wanted / (scale * usual) if usual > 0 and wanted > 0 else 1.0
        ratios[name] = float(np.clip(ratio, *_LIMITS))
    return ratios


def _first(clip: KeypointClip) -> KeypointClip:
    names = ("body", "body_ok", "hands", "hands_ok", "faces", "faces_ok")
    scores = dict.fromkeys(("body_score", "hands_score", "faces_score"))
    return replace(clip, **{name: getattr(clip, name)[:1] for name in names}, **scores)


def _lengths(clip: KeypointClip, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """(f) pixels of every limb, the longer side of both; NaN where neither is seen."""
    scale = np.array([size[1], size[0]], np.float64)
    body, ok = clip.body[:, 0] * scale, clip.body_ok[:, 0]
    found = {}
    for name, pairs in LIMBS.items():
        found[name] = _longest(
            [np.linalg.norm(body[:, a] - body[:, b], axis=-1) for a, b in pairs],
            [ok[:, a] & ok[:, b] for a, b in pairs],
        )
    hands, hands_ok = clip.hands[:, 0] * scale, clip.hands_ok[:, 0]
    reach = np.linalg.norm(hands[:, :, _KNUCKLES] - hands[:, :, :1], axis=-1).mean(axis=-1)
    whole = hands_ok[:, :, 0] & hands_ok[:, :, _KNUCKLES].all(axis=-1)
    found[HANDS] = _longest([*reach.T], [*whole.T])
    return found


def _longest(lengths: list[np.ndarray], ok: list[np.ndarray]) -> np.ndarray:
    longest = np.max([np.where(o, length, -1.0) for length, o in zip(lengths, ok, strict=True)], 0)
    return np.where(longest >= 0, longest, np.nan)


@typechecked
def retarget(clip: KeypointClip, ratios: dict[str, float], canvas: tuple[int, int]) -> KeypointClip:
    """Every limb times its ratio, from the neck outwards; persons without a neck are left alone.

    Args:
        clip: on the canvas already (`move_keypoints`). canvas: height and width in pixels.
        ratios: from `limb_ratios`.
    """
    scale = np.array([canvas[1], canvas[0]], np.float64)
    old, ok, neck = clip.body * scale, clip.body_ok, clip.body_ok[..., 1]
    new = _grown(old, ok, ratios)
    new = np.where(neck[..., None, None], new, old)
    hands, faces = clip.hands * scale, clip.faces * scale
    for side, wrist in enumerate(_WRISTS):
        hung = neck & ok[..., wrist]
        start, end = old[..., wrist, None, :], new[..., wrist, None, :]
        moved = end + ratios[HANDS] * (hands[..., side, :, :] - start)
        hands[..., side, :, :] = np.where(hung[..., None, None], moved, hands[..., side, :, :])
    hung = neck & ok[..., 0]
    moved = new[..., :1, :] + ratios["face"] * (faces - old[..., :1, :])
    faces = np.where(hung[..., None, None], moved, faces)
    points = {"body": new, "hands": hands, "faces": faces}
    kept = {
        name: np.where(getattr(clip, f"{name}_ok")[..., None], value / scale, 0.0)
        for name, value in points.items()
    }
    return replace(clip, **kept)


def _grown(old: np.ndarray, ok: np.ndarray, ratios: dict[str, float]) -> np.ndarray:
    """Body joints in pixels; what hangs on a hidden joint hangs on that joint's parent instead."""
    start, end = old.copy(), old.copy()
    for name, pairs in LIMBS.items():
        for parent, child in pairs:
            moved = end[..., parent, :] + ratios[name] * (
                old[..., child, :] - start[..., parent, :]
            )
            seen = ok[..., child, None]
            end[..., child, :] = np.where(seen, moved, end[..., parent, :])
            start[..., child, :] = np.where(seen, old[..., child, :], start[..., parent, :])
    return end


@typechecked
def follow_wrists(
    hands: HandClip,
    camera: Camera,
    before: KeypointClip,
    after: KeypointClip,
    canvas: tuple[int, int],
    grow: float,
) -> HandClip:
    """Each hand moved as the wrist of its side of person 0 moved, and `grow` times as large.

    A hand comes nearer to grow, and shifts across the picture; it stays rigid. Hands whose wrist is
    hidden stay where the similarity put them.

    Args:
        hands: meshes. camera: theirs on the canvas.
        before, after: keypoints on the canvas without and with `retarget`.
    """
    scale = np.array([canvas[1], canvas[0]], np.float64)
    translation = hands.translation.astype(np.float64)
    for side, wrist in enumerate(_WRISTS):
        start, end = (clip.body[:, 0, wrist] * scale for clip in (before, after))
        hung = hands.present & (hands.right == bool(side)) & before.body_ok[:, 0, wrist, None]
        moved = _moved_to(translation, camera, start[:, None], end[:, None], grow)
        translation = np.where(hung[..., None], moved, translation)
    return replace(hands, translation=translation)


def _moved_to(
    translation: np.ndarray, camera: Camera, start: np.ndarray, end: np.ndarray, grow: float
) -> Float[np.ndarray, "f n 3"]:
    """Translations that put pixel `start` of a hand at `end` and scale it there."""
    focal, centre = np.array(camera.focal), np.array(camera.centre)
    depth = np.where(translation[..., 2:] > 0, translation[..., 2:], 1.0)
    pixels = focal * translation[..., :2] / depth + centre
    wanted = end + grow * (pixels - start)
    nearer = depth / grow
    return np.concatenate([(wanted - centre) * nearer / focal, nearer], axis=-1)
