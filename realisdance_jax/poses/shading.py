"""The three looks of the rendered conditions: what light does to a colour, in closed form.

`sd` and `hamer` are pyrender's default material (metallic 0.2, roughness 0.8, a white base times
the vertex colour) under directional lights, brightened by gamma; `dit` is PyTorch3D's Phong shading
without a highlight's falloff. Normals and views are unit vectors in camera axes (z away from the
camera).
"""

from typing import Literal

import numpy as np

from realisdance_jax.shapes import Float, UInt8, typechecked

Look = Literal["sd", "dit", "hamer"]

METALLIC, ROUGHNESS = 0.2, 0.8
DIFFUSE = (1 - 0.04) * (1 - METALLIC) / np.pi
REFLECTANCE = 0.04 * (1 - METALLIC) + METALLIC  # of white, seen frontally
ALPHA2 = ROUGHNESS**4
SHADOWING = (ROUGHNESS + 1) ** 2 / 8
GAMMA = 1 / 2.2

_TILT = np.pi / 6
HEADLIGHT = (0.0, 0.0, -1.0)
_AZIMUTHS = (0.0, 2 * np.pi / 3, 4 * np.pi / 3)
RING = tuple(  # OpenGL's y points up
    (float(np.sin(_TILT) * np.cos(a)), float(-np.sin(_TILT) * np.sin(a)), float(-np.cos(_TILT)))
    for a in _AZIMUTHS
)
"""Unit vectors towards the lights: one beside the camera, three around it at 30 degrees."""

SD_LIGHTS, SD_INTENSITY, SD_AMBIENT = (HEADLIGHT,), 3.0, 0.4
HAMER_LIGHTS, HAMER_INTENSITY, HAMER_AMBIENT = (HEADLIGHT, *RING), 1.0, 0.3
DIT_AMBIENT, DIT_DIFFUSE, DIT_SPECULAR = 0.4, 0.3, 0.2


@typechecked
def shade(
    look: Look,
    colours: Float[np.ndarray, "k 3"],
    normals: Float[np.ndarray, "k 3"],
    views: Float[np.ndarray, "k 3"],
) -> UInt8[np.ndarray, "k 3"]:
    """Shaded RGB of points with colours in 0..1; views point to the camera."""
    if look == "dit":  # PyTorch truncates, OpenGL rounds
        return (np.clip(dit_light(colours, normals), 0, 1) * 255).astype(np.uint8)
    light = sd_light(normals, views) if look == "sd" else hamer_light(normals, views)
    bright = np.clip(light[:, None] * colours, 0, 1) ** GAMMA
    return (bright * 255 + 0.5).astype(np.uint8)


@typechecked
def sd_light(
    normals: Float[np.ndarray, "k 3"], views: Float[np.ndarray, "k 3"]
) -> Float[np.ndarray, " k"]:
    """Factor on the colour in the body condition of the SD model, before gamma."""
    return SD_AMBIENT + SD_INTENSITY * _reflected(normals, views, HEADLIGHT)


@typechecked
def hamer_light(
    normals: Float[np.ndarray, "k 3"], views: Float[np.ndarray, "k 3"]
) -> Float[np.ndarray, " k"]:
    """Factor on the colour in the hand condition, before gamma."""
    lit = np.stack([_reflected(normals, views, light) for light in HAMER_LIGHTS])
    return HAMER_AMBIENT + HAMER_INTENSITY * lit.sum(axis=0)


@typechecked
def dit_light(
    colours: Float[np.ndarray, "k 3"], normals: Float[np.ndarray, "k 3"]
) -> Float[np.ndarray, "k 3"]:
    """Colours of the body condition of the DiT model.

    Its highlight has exponent 0, which makes it a constant wherever the body is.
    """
    facing = np.maximum(-normals[:, 2:], 0)  # to the headlight
    return colours * (DIT_AMBIENT + DIT_DIFFUSE * facing) + DIT_SPECULAR


def _reflected(normals: np.ndarray, views: np.ndarray, light: tuple) -> np.ndarray:
    """(k) share of a light of intensity 1 that reaches the camera (GGX, Smith, Schlick)."""
    towards = np.asarray(light, normals.dtype)
    half = views + towards
    half /= np.sqrt(np.einsum("ki,ki->k", half, half))[:, None]
    n_l = np.clip(np.einsum("ki,i->k", normals, towards), 0.001, 1)
    n_v = np.clip(np.abs(np.einsum("ki,ki->k", normals, views)), 0.001, 1)
    n_h = np.clip(np.einsum("ki,ki->k", normals, half), 0, 1)
    v_h = np.clip(np.einsum("ki,ki->k", views, half), 0, 1)
    fresnel = REFLECTANCE + (1 - REFLECTANCE) * (1 - v_h) ** 5
    shadow = n_l / (n_l * (1 - SHADOWING) + SHADOWING) * n_v / (n_v * (1 - SHADOWING) + SHADOWING)
    spread = ALPHA2 / (np.pi * (n_h * n_h * (ALPHA2 - 1) + 1) ** 2)
    highlight = fresnel * shadow * spread / (4 * n_l * n_v + 0.001)
    return n_l * ((1 - fresnel) * DIFFUSE + highlight)
