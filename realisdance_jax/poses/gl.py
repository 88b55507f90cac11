"""The mesh painters on OpenGL, for long videos: the same faces, looks and pixels as in NumPy.

Needs moderngl (the extra `gl`) and a driver that offers EGL; no display. Corners are projected and
rounded here, in float64, exactly as raster.py does, so that the driver only fills. Pictures are
drawn upside down, so that pixels right on an edge fall to the same face. Shading repeats shading.py
in GLSL. Faces with a corner beyond the camera's range are left out whole.
"""

import functools
import importlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from realisdance_jax.poses import shading
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.surface import Surface
from realisdance_jax.shapes import UInt8, typechecked
from realisdance_jax.utils.errors import UserError

_UNITS = 256.0  # per pixel, as in raster.py
_GUARD = 2.0**17

_VERTEX = """#version 330
in vec4 place; in vec3 normal; in vec3 colour;
out vec3 facing; out vec3 paint;
void main() { gl_Position = place; facing = normal; paint = colour; }
"""

_FRAGMENT = """#version 330
in vec3 facing; in vec3 paint;
out vec4 pixel;
uniform int look;
uniform vec2 focal, centre;
const vec3 lights[4] = vec3[4](LIGHTS);
float reflected(vec3 n, vec3 v, vec3 l) {
    vec3 h = normalize(v + l);
    float nl = clamp(dot(n, l), 0.001, 1.0), nv = clamp(abs(dot(n, v)), 0.001, 1.0);
    float nh = clamp(dot(n, h), 0.0, 1.0), vh = clamp(dot(v, h), 0.0, 1.0);
    float fresnel = REFLECTANCE + (1.0 - REFLECTANCE) * pow(1.0 - vh, 5.0);
    float shadow = nl / mix(nl, 1.0, SHADOWING) * nv / mix(nv, 1.0, SHADOWING);
    float spread = nh * nh * (ALPHA2 - 1.0) + 1.0;
    float highlight = fresnel * shadow * ALPHA2 / (PI * spread * spread)
                    / (4.0 * nl * nv + 0.001);
    return nl * ((1.0 - fresnel) * DIFFUSE + highlight);
}
void main() {
    vec3 v = -normalize(vec3((gl_FragCoord.xy - centre) / focal, 1.0));
    vec3 n = normalize(facing);
    vec3 result;
    if (look == 1) {
        result = paint * (DIT_AMBIENT + DIT_DIFFUSE * max(-n.z, 0.0)) + DIT_SPECULAR;
        result = floor(clamp(result, 0.0, 1.0) * 255.0);
    } else {
        float light = SD_AMBIENT + SD_INTENSITY * reflected(n, v, lights[0]);
        if (look == 2) {
            light = 0.0;
            for (int k = 0; k < 4; k++) light += reflected(n, v, lights[k]);
            light = HAMER_AMBIENT + HAMER_INTENSITY * light;
        }
        result = floor(pow(clamp(light * paint, 0.0, 1.0), vec3(GAMMA)) * 255.0 + 0.5);
    }
    pixel = vec4(result / 255.0, 1.0);
}
"""
_LOOKS: dict[shading.Look, int] = {"sd": 0, "dit": 1, "hamer": 2}


@typechecked
def fill(surface: Surface, camera: Camera, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The `Fill` on the graphics card. Raises `UserError` without moderngl or a driver."""
    places, drawn = _clip_places(surface.vertices, camera, size, surface.faces)
    corners = surface.faces[drawn].ravel()
    facing = (
        surface.normals[corners] if surface.smooth else surface.normals[drawn].repeat(3, axis=0)
    )
    columns = [places[corners], facing, surface.colours[corners]]
    return _board(size).draw(np.concatenate(columns, axis=1, dtype="f4"), camera, surface.look)


def check_driver() -> None:
    """Raise `UserError` without moderngl or a driver."""
    _board((2, 2))


def _clip_places(
    vertices: np.ndarray, camera: Camera, size: tuple[int, int], faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(v 4) clip coordinates on the 1/256 pixel grid, and which faces are in range whole."""
    x, y, z = vertices.T.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        ahead = (z >= camera.near) & (z <= camera.far)
        depth = np.where(ahead, z, 1.0)
        u = camera.focal[0] * x / depth + camera.centre[0]
        v = camera.focal[1] * y / depth + camera.centre[1]
        ahead &= (np.abs(u) < _GUARD) & (np.abs(v) < _GUARD)
    u, v = (np.rint(np.where(ahead, pixels, 0) * _UNITS) / _UNITS for pixels in (u, v))
    inverse = 1 / np.where(ahead, depth, np.inf)
    near, far = inverse.max(initial=0), inverse[ahead].min(initial=np.inf)
    # The range of this mesh: hands stand hundreds of metres away, a fixed one would merge them.
    depth_share = (near - inverse) / max(near - far, 1e-30) if near else inverse
    places = np.stack(
        [
            2 * u / size[1] - 1,
            2 * v / size[0] - 1,
            1.8 * depth_share - 0.9,
            np.ones_like(depth),
        ],
        axis=1,
    )
    weight = depth * near if near else depth
    return places * weight[:, None], ahead[faces].all(axis=1)


@dataclass(frozen=True, eq=False)
class _Board:
    """A context with a picture to draw on."""

    context: Any
    program: Any
    target: Any
    size: tuple[int, int]

    def draw(self, corners: np.ndarray, camera: Camera, look: shading.Look) -> np.ndarray:
        height, width = self.size
        self.target.use()
        self.target.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        if len(corners):
            for name, value in (
                ("look", _LOOKS[look]),
                ("focal", camera.focal),
                ("centre", camera.centre),
            ):
                if name in self.program:
                    self.program[name].value = value
            buffer = self.context.buffer(corners.tobytes())
            layout = [(buffer, "4f 3f 3f", "place", "normal", "colour")]
            array = self.context.vertex_array(self.program, layout)
            array.render()
            array.release()
            buffer.release()
        pixels = np.frombuffer(self.target.read(components=3, alignment=1), np.uint8)
        return pixels.reshape(height, width, 3).copy()


@functools.lru_cache(maxsize=2)
def _board(size: tuple[int, int]) -> _Board:
    """One per process and size: contexts take a while to make and cannot be sent anywhere."""
    try:
        moderngl = importlib.import_module("moderngl")
    except ImportError:
        raise UserError(
            "renderer gl: expected the package moderngl (pip install 'realisdance_jax[gl]'), found "
            "none; the default renderer needs nothing"
        ) from None
    try:
        context = moderngl.create_context(standalone=True, backend="egl")
        program = context.program(vertex_shader=_VERTEX, fragment_shader=_fragment_shader())
        shape = size[::-1]
        picture, depth = context.renderbuffer(shape, 3), context.depth_renderbuffer(shape)
        target = context.framebuffer([picture], depth)
    except Exception as error:  # drivers and their loaders raise what they like
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"renderer gl: expected an EGL driver for {size[1]} x {size[0]} pixels, found none "
            f"({reason}); the default renderer needs nothing"
        ) from None
    context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
    context.front_face, context.cull_face, context.depth_func = "cw", "back", "<"
    return _Board(context, program, target, size)


def _fragment_shader() -> str:
    """With the numbers of shading.py in it."""
    lights = ", ".join(
        f"vec3({x!r}, {y!r}, {z!r})" for x, y, z in (shading.HEADLIGHT, *shading.RING)
    )
    numbers = {
        "LIGHTS": lights,
        "REFLECTANCE": shading.REFLECTANCE,
        "ALPHA2": shading.ALPHA2,
        "DIT_DIFFUSE": shading.DIT_DIFFUSE,
        "DIFFUSE": shading.DIFFUSE,
        "GAMMA": shading.GAMMA,
        "SHADOWING": shading.SHADOWING,
        "PI": float(np.pi),
        "SD_AMBIENT": shading.SD_AMBIENT,
        "SD_INTENSITY": shading.SD_INTENSITY,
        "HAMER_AMBIENT": shading.HAMER_AMBIENT,
        "HAMER_INTENSITY": shading.HAMER_INTENSITY,
        "DIT_AMBIENT": shading.DIT_AMBIENT,
        "DIT_SPECULAR": shading.DIT_SPECULAR,
    }
    names = "|".join(numbers)
    return re.sub(rf"\b({names})\b", lambda found: str(numbers[found[1]]), _FRAGMENT)
