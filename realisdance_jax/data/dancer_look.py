"""The film of a dancer: colours as functions of the place on the body, light, and a background."""

import cv2
import numpy as np

from realisdance_jax.data.dancer_body import (
    ARM,
    EAR,
    HAIR,
    HAND,
    HEAD,
    HEAD_RADII,
    LEG,
    NECK,
    NOSE,
    SKIRT,
    TORSO,
    Build,
    head_point,
)
from realisdance_jax.data.dancer_identity import Identity
from realisdance_jax.poses.meshes import normalised, vertex_normals
from realisdance_jax.poses.raster import Camera, Fragments, interpolate, rasterise
from realisdance_jax.shapes import Float, Int, UInt8, typechecked

_LIPS, _WHITE, _INK = (
    np.array([196.0, 84, 84]),
    np.array([250.0, 250, 250]),
    np.array([28.0, 22, 24]),
)
_EDGE = 0.025  # metres in depth that make an outline


@typechecked
def film_frame(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "n 3"],
    parts: Int[np.ndarray, " v"],
    rest: Float[np.ndarray, "v 3"],
    identity: Identity,
    camera: Camera,
    background: UInt8[np.ndarray, "H W 3"],
) -> UInt8[np.ndarray, "H W 3"]:
    """One frame of film, RGB with hard edges.

    Args:
        vertices: in camera axes. parts, rest: of each vertex, see `dressed`.
        background: what is behind the dancer, at the size of the frame.
    """
    size = background.shape[:2]
    fragments = rasterise(vertices, faces, camera, size)
    both = np.concatenate([rest, vertex_normals(vertices, faces, "area")], axis=1)
    seen = interpolate(both.astype(np.float32), faces, fragments)
    colours = surface_colours(seen[:, :3], parts[faces[fragments.faces, 0]], identity)
    lit = colours * _light(normalised(seen[:, 3:]), identity)
    lit *= _outlines(fragments, size)[:, None]
    picture = background.reshape(-1, 3).copy()
    picture[fragments.pixels] = np.clip(lit + 0.5, 0, 255).astype(np.uint8)
    return picture.reshape(*size, 3)


@typechecked
def part_masks(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "n 3"],
    parts: Int[np.ndarray, " v"],
    camera: Camera,
    size: tuple[int, int],
) -> UInt8[np.ndarray, "H W 3"]:
    """Where person, hands and face are seen (255) in the picture of `film_frame`."""
    fragments = rasterise(vertices, faces, camera, size)
    seen = parts[faces[fragments.faces, 0]]
    masks = np.zeros((size[0] * size[1], 3), np.uint8)
    face = np.isin(seen, (HEAD, NOSE, EAR))
    masks[fragments.pixels] = 255 * np.stack([seen >= 0, seen == HAND, face], axis=1)
    return masks.reshape(*size, 3)


def _light(normals: np.ndarray, identity: Identity) -> np.ndarray:
    """(k 3) soft light from one side, cooler shadows, darker where the surface turns away."""
    towards = identity.light / np.linalg.norm(identity.light)
    lambert = np.maximum(normals @ towards * 0.75 + 0.25, 0)
    rim = 0.72 + 0.28 * np.clip(-normals[:, 2] * 1.6, 0, 1)
    warm, cool = np.array([0.62, 0.6, 0.58]), np.array([0.5, 0.53, 0.58])
    return rim[:, None] * (cool + lambert[:, None] * warm)


def _outlines(fragments: Fragments, size: tuple[int, int]) -> np.ndarray:
    """(k) 1, less where something much nearer is next to the point: hands stand out from bodies."""
    depth = np.full(size[0] * size[1], np.inf)
    depth[fragments.pixels] = fragments.depth
    padded = np.pad(depth.reshape(size), 1, constant_values=np.inf)
    near = np.minimum(
        np.minimum(padded[:-2, 1:-1], padded[2:, 1:-1]),
        np.minimum(padded[1:-1, :-2], padded[1:-1, 2:]),
    )
    step = fragments.depth - near.ravel().take(fragments.pixels)
    return 1 - 0.45 * np.clip(step / _EDGE - 0.3, 0, 1)


def surface_colours(
    places: Float[np.ndarray, "k 3"], parts: Int[np.ndarray, " k"], identity: Identity
) -> Float[np.ndarray, "k 3"]:
    """Colour of points of the plain body in its T-pose, 0 to 255, before light."""
    colours = np.empty((len(places), 3))
    skin = np.isin(parts, (HAND, NECK, NOSE, EAR))
    colours[skin] = identity.skin * np.array([1.0, 0.96, 0.94])
    for part, paint in (
        (HEAD, _face),
        (TORSO, _shirt),
        (ARM, _sleeve),
        (HAIR, _hair),
        (LEG, _legs),
    ):
        chosen = np.flatnonzero(parts == part)
        if len(chosen):
            colours[chosen] = paint(places[chosen], identity)
    colours[parts == SKIRT] = identity.trousers
    return colours


def _face(places: np.ndarray, who: Identity) -> np.ndarray:
    centre = head_point(Build(), np.zeros(3))
    x, y, z = ((places - centre) / (HEAD_RADII * Build().head)).T
    across, front = np.abs(x), z > 0.1
    colours = np.tile(who.skin, (len(places), 1))

    def paint(inside: np.ndarray, colour: np.ndarray) -> None:
        colours[inside & front] = colour

    def oval(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((across - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    paint(oval(0.52, -0.3, 0.2, 0.14), who.skin * 0.85 + np.array([230.0, 90, 90]) * 0.15)
    if who.beard:
        paint((y < -0.36) & ~oval(0, -0.5, 0.22, 0.1), who.hair)
    paint(oval(0.38, 0.05, 0.235, 0.2), _INK)
    paint(oval(0.38, 0.025, 0.205, 0.16), _WHITE)
    paint(oval(0.36, 0.03, 0.125, 0.15), who.iris)
    paint(oval(0.36, 0.03, 0.065, 0.085), _INK)
    arch = 0.36 - 0.5 * (across - 0.38) ** 2
    paint((np.abs(y - arch) < 0.045) & (np.abs(across - 0.38) < 0.24), who.hair * 0.8)
    smile = -0.53 + 0.5 * across**2
    paint(
        (np.abs(y - smile) < 0.05 - 0.1 * across**2) & (across < 0.32), _LIPS * 0.7 + who.skin * 0.3
    )
    return colours


def _pattern(u: np.ndarray, v: np.ndarray, who: Identity) -> np.ndarray:
    """(k 3) cloth by two lengths in metres along it."""
    p = who.pitch
    u, v = u / p, v / p
    match who.pattern:
        case "plain":
            second = np.zeros(len(u), bool)
        case "stripes":
            second = v % 1 < 0.45
        case "bars":
            second = (u + 0.5) % 1 < 0.4
        case "checks":
            second = (np.floor(u * 1.2) + np.floor(v * 1.2)) % 2 == 0
        case "dots":
            row = np.floor(v * 1.1)
            second = ((u * 1.1 + 0.5 * (row % 2)) % 1 - 0.5) ** 2 + (v * 1.1 % 1 - 0.5) ** 2 < 0.1
        case "panel":
            second = np.abs(v + 0.4) < 0.9
        case "chevron":
            second = (v + np.abs(u % 2 - 1)) % 1.4 < 0.6
    return np.where(second[:, None], who.second, who.shirt)


def _shirt(places: np.ndarray, who: Identity) -> np.ndarray:
    x, y, z = places.T
    colours = _pattern(x, y, who)
    neck = (x / 0.085) ** 2 + ((y - 0.17) / (0.075 if who.loose > 0.013 else 0.11)) ** 2 < 1
    colours[neck & (z > 0)] = who.skin
    colours[y < -0.4] = who.trousers
    colours[(y < -0.375) & (y > -0.4)] = who.trousers * 0.5
    return colours


def _sleeve(places: np.ndarray, who: Identity) -> np.ndarray:
    x, y, z = np.abs(places[:, 0]), places[:, 1], places[:, 2]
    colours = _pattern(np.arctan2(y - 0.12, z + 0.02) * 0.055, x, who)
    colours[x > who.sleeve - 0.022] = who.second * 0.85
    colours[x > who.sleeve] = who.skin
    return colours


def _hair(places: np.ndarray, who: Identity) -> np.ndarray:
    x, y, z = places.T
    if who.hair_style == "cap":
        peak = (y < 0.405) & (z > 0.02)
        return np.where(
            peak[:, None],
            who.second * 0.9,
            np.where((y > 0.33)[:, None], who.shirt * 0.9, who.hair),
        )
    strands = 1 + 0.12 * np.sin(np.arctan2(x, z) * 22) * np.clip((0.5 - y) * 8, 0, 1)
    return who.hair * strands[:, None]


def _legs(places: np.ndarray, who: Identity) -> np.ndarray:
    bare = places[:, 1] < (-0.62 if who.skirt else -1.19)
    return np.where(bare[:, None], who.skin, who.trousers)


@typechecked
def make_background(seed: int, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """A wall with a soft texture, a pattern, perhaps pictures or a window, and a floor."""
    rng = np.random.default_rng([3, seed])
    height, width = size
    y, x = np.mgrid[:height, :width] / height
    wall, trim, other = (rng.uniform(70, 235, 3) for _ in range(3))
    wall = wall * 0.6 + wall.mean() * 0.4
    picture = np.broadcast_to(wall, (height, width, 3)) * (1.12 - 0.3 * y[..., None])
    pitch, kind = rng.uniform(0.06, 0.16), rng.integers(5)
    waves = (
        (x / pitch) % 1 < 0.5,
        (y / pitch) % 1 < 0.08,
        (np.floor(x / pitch) + np.floor(y / pitch)) % 2 == 0,
        ((x / pitch) % 1 - 0.5) ** 2 + ((y / pitch) % 1 - 0.5) ** 2 < 0.05,
        ((x + y) / pitch) % 1 < 0.3,
    )[kind]
    picture = picture * (1 - 0.1 * waves[..., None])
    for _ in range(rng.integers(0, 4)):
        left, top = rng.uniform(-0.1, 0.65), rng.uniform(-0.05, 0.5)
        wide, high = rng.uniform(0.12, 0.3, 2)
        inner = np.maximum(np.abs(x - left - wide / 2) / wide, np.abs(y - top - high / 2) / high)
        shade = rng.uniform(60, 240, 3)
        picture[inner < 0.5] = trim * 0.8
        picture[inner < 0.43] = (shade + (other - shade) * (y[..., None] - top) / high)[
            inner < 0.43
        ]
    floor = rng.uniform(0.82, 1.1)
    picture[y > floor] = trim * 0.55
    noise = np.zeros(size)
    for cells, weight in ((6, 10.0), (14, 6.0), (48, 4.0)):
        coarse = rng.normal(size=(cells, cells)).astype(np.float32)
        noise += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = picture + noise[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)
