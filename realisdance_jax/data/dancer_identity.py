"""Who dances: random proportions, skin, hair, face and clothes, and what is worn as a mesh."""

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from realisdance_jax.data.dancer_body import (
    ARM,
    HAIR,
    HEAD_RADII,
    LEG,
    SKIRT,
    TORSO,
    TWINS,
    Body,
    Build,
    head_point,
    plain_body,
)
from realisdance_jax.data.dancer_mesh import Mesh, Tube, assembled, elliptic, mirrored
from realisdance_jax.poses.meshes import vertex_normals

Pattern = Literal["plain", "stripes", "bars", "checks", "dots", "panel", "chevron"]
HairStyle = Literal["short", "bob", "long", "bun", "tails", "curly", "cap"]
PATTERNS: tuple[Pattern, ...] = ("plain", "stripes", "bars", "checks", "dots", "panel", "chevron")
HAIR_STYLES: tuple[HairStyle, ...] = ("short", "bob", "long", "bun", "tails", "curly", "cap")

_CUTS = {
    "short": (1.12, 1.2, 0.6),
    "bob": (1.24, 1.2, 0.42),
    "long": (1.2, 1.18, 0.66),
    "bun": (1.1, 1.14, 0.62),
    "tails": (1.12, 1.16, 0.48),
    "curly": (1.36, 1.34, 0.55),
    "cap": (1.14, 1.2, 0.5),
}
"""Thickness and height against the head, and the hairline, per style."""

_SKINS = (
    (255, 224, 196),
    (245, 205, 170),
    (229, 178, 138),
    (198, 140, 100),
    (150, 98, 66),
    (104, 66, 46),
)
_HAIRS = (
    (40, 30, 28),
    (84, 52, 34),
    (140, 84, 44),
    (214, 170, 96),
    (170, 66, 36),
    (196, 196, 200),
    (52, 60, 96),
    (190, 84, 130),
)
_IRISES = ((70, 44, 28), (52, 92, 140), (60, 120, 74), (96, 96, 104))


@dataclass(frozen=True)
class Identity:
    """Colours are RGB 0 to 255; lengths in metres of the plain body.

    sleeve: where sleeves end, from the middle of the body. light: direction towards the light.
    """

    build: Build
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    shirt: np.ndarray
    second: np.ndarray
    trousers: np.ndarray
    pattern: Pattern
    pitch: float
    sleeve: float
    loose: float
    hair_style: HairStyle
    skirt: bool
    beard: bool
    light: np.ndarray


def make_identity(seed: int) -> Identity:
    """One person, a function of the seed."""
    rng = np.random.default_rng([1, seed])
    build = Build(
        rng.uniform(1.12, 1.28),
        rng.uniform(1.3, 1.42),
        rng.uniform(0.94, 1.06),
        rng.uniform(0.88, 1.14),
        rng.uniform(0.88, 1.18),
        rng.uniform(0.88, 1.15),
    )
    tone = rng.uniform(0, len(_SKINS) - 1.001)
    skins = np.array(_SKINS, np.float64)
    skin = skins[int(tone)] + (tone % 1) * (skins[int(tone) + 1] - skins[int(tone)])
    hue = rng.random()
    style = HAIR_STYLES[rng.integers(len(HAIR_STYLES))]
    return Identity(
        build,
        skin,
        np.array(_HAIRS[rng.integers(len(_HAIRS))]) * rng.uniform(0.85, 1.1),
        np.array(_IRISES[rng.integers(len(_IRISES))], np.float64),
        _cloth(hue, rng.uniform(0.45, 0.9), rng.uniform(0.5, 0.95)),
        _cloth(hue + rng.uniform(0.25, 0.75), rng.uniform(0.05, 0.8), rng.uniform(0.75, 1.0)),
        _cloth(rng.random(), rng.uniform(0.15, 0.7), rng.uniform(0.25, 0.7)),
        PATTERNS[rng.integers(len(PATTERNS))],
        rng.uniform(0.05, 0.085),
        rng.choice([0.2, 0.3, 0.42, 0.66]) + rng.uniform(-0.02, 0.02),
        rng.uniform(0.008, 0.018),
        style,
        bool(rng.random() < 0.35),
        bool(rng.random() < 0.2 and style in ("short", "bun", "cap")),
        np.array([rng.uniform(-0.6, 0.6), -rng.uniform(0.35, 0.75), -0.8]),
    )


def _cloth(hue: float, saturation: float, value: float) -> np.ndarray:
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def dressed(body: Body, identity: Identity) -> tuple[Mesh, np.ndarray]:
    """The mesh to be filmed, and where its vertices rest on the plain body.

    The body itself, its clothed parts somewhat thicker, then hair and skirt.
    """
    mesh, plain = body.mesh, plain_body().mesh
    worn = (plain.parts == TORSO) | (plain.parts == LEG)
    worn |= (plain.parts == ARM) & (np.abs(plain.vertices[:, 0]) < identity.sleeve + 0.02)
    normals = vertex_normals(mesh.vertices, mesh.faces, "area")
    thick = mesh._replace(vertices=mesh.vertices + normals * worn[:, None] * identity.loose)
    extras = assembled(_extras(body.build, identity))
    flat = assembled(_extras(Build(), identity))
    count = len(thick.vertices)
    joined = [np.concatenate(pair) for pair in zip(thick, extras, strict=True)]
    joined[1][len(thick.faces) :] += count
    return Mesh(*joined), np.concatenate([plain.vertices, flat.vertices])


def _extras(build: Build, identity: Identity) -> list[tuple[Tube, bool]]:
    tubes = [(_hair(build, identity.hair_style), False)]
    if identity.hair_style == "bun":
        tubes.append((_ball(build, (0, 1.12, -0.35), 0.42), False))
    if identity.hair_style == "tails":
        tail = _tail(build)
        tubes += [(tail, False), (mirrored(tail, TWINS), True)]
    if identity.hair_style == "cap":
        tubes.append((_brim(build), False))
    if identity.skirt:
        tubes.append((_skirt(build), False))
    return tubes


def _hair(build: Build, style: HairStyle) -> Tube:
    """A shell around the head that dips under the skin where the face is."""
    lowest = {"bob": -1.0, "long": -1.75, "curly": -0.6}.get(style, -0.5)
    heights = np.linspace(lowest, 1.0, 15)[:, None]
    turn = 2 * np.pi * np.arange(22) / 22
    front = -np.sin(turn)[None]  # 1 where the face is, -1 behind
    thick, top, line = _CUTS[style]
    round_ = np.sqrt(1 - np.clip(heights, -0.45, 0.999) ** 2) ** 0.85
    width = thick * round_ * np.where(heights < -0.75, 1 - 0.25 * _step(-heights, 0.75, 1.8), 1)
    if style == "curly":
        width = width * (1 + 0.06 * np.sin(5 * turn + 11 * heights))
    hairline = line - 0.45 * _step(-front, -0.95, -0.2)
    width = width * (
        1 - 0.45 * _step(front, 0.1, 0.4) * _step(-heights, -hairline, 0.06 - hairline)
    )
    up = np.where(heights > 0, heights * top, heights) + 0 * turn
    share = np.stack([width * np.cos(turn), up, width * front - 0.07], axis=-1)
    share[..., 2] -= 0.3 * _step(-heights, 0.6, 1.1) * np.maximum(front, 0)
    joints = tuple({15: 1.0, 9: 0.6} if height < -1.2 else {15: 1.0} for height in heights[:, 0])
    return Tube(HAIR, head_point(build, share), joints)


def _step(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    share = np.clip((x - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def _ball(build: Build, centre: tuple[float, float, float], radius: float) -> Tube:
    height = np.sin(np.linspace(-1.5, 1.5, 7))
    points = head_point(build, np.array(centre) + np.outer(height, [0, radius, 0]))
    radii = np.sqrt(1 - height**2)[:, None] * radius * 0.1 * build.head * np.ones(2)
    return Tube(HAIR, elliptic(points, (1, 0, 0), radii, 10), ({15: 1},) * 7)


def _tail(build: Build) -> Tube:
    places = [
        (0.95, 0.35, -0.3),
        (1.3, 0.4, -0.3),
        (1.55, 0.0, -0.3),
        (1.6, -0.6, -0.25),
        (1.5, -1.1, -0.2),
    ]
    radii = np.array([0.02, 0.045, 0.052, 0.042, 0.012])[:, None] * build.head * np.ones(2)
    points = head_point(build, np.array(places))
    return Tube(HAIR, elliptic(points, (0, 0, 1), radii, 9), ({15: 1},) * 5)


def _brim(build: Build) -> Tube:
    points = head_point(
        build, np.array([(0, 0.42, 0.6), (0, 0.42, 1.0), (0, 0.36, 1.45), (0, 0.33, 1.6)])
    )
    radii = np.array([(1.0, 0.06), (0.95, 0.06), (0.7, 0.05), (0.3, 0.04)])
    radii = radii * HEAD_RADII[:2] * build.head
    return Tube(HAIR, elliptic(points, (1, 0, 0), radii, 12), ({15: 1},) * 4)


def _skirt(build: Build) -> Tube:
    rows = np.array(
        [(-0.7, 0.27, 0.2), (-0.58, 0.235, 0.17), (-0.47, 0.205, 0.145), (-0.385, 0.19, 0.134)]
    )
    points = np.stack([0 * rows[:, 0], rows[:, 0], 0 * rows[:, 0] - 0.005], axis=1)
    radii = rows[:, 1:] * (0.5 + 0.5 * build.trunk)
    return Tube(SKIRT, elliptic(points, (1, 0, 0), radii, 18), ({0: 1},) * 4)
