"""The body condition: an SMPL-X mesh whose colours name its parts, in the `sd` or the `dit` look.

Either model wants its own look. The official colours come from a file that is not free to share
(`smplx_color.pt`); without it, nineteen of its values are interpolated over the user's mesh.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from realisdance_jax.poses.array_files import why_unreadable
from realisdance_jax.poses.harmonic import harmonic
from realisdance_jax.poses.landmarks import SCALE, landmark_vertices
from realisdance_jax.poses.meshes import face_normals, vertex_normals
from realisdance_jax.poses.raster import Camera
from realisdance_jax.poses.surface import Fill, Surface, fill
from realisdance_jax.shapes import Float, Int, UInt8, typechecked
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file

BodyLook = Literal["sd", "dit"]
TORCH_SUFFIXES = (".pt", ".pth")


@typechecked
def paint_smpl_cs(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "n 3"],
    colours: UInt8[np.ndarray, "v 3"],
    camera: Camera,
    size: tuple[int, int],
    look: BodyLook,
    fill: Fill = fill,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw one body on black, RGB, hard edges.

    Args:
        vertices: in camera axes (translation included), metres.
        faces: counter-clockwise seen from outside.
        colours: from `read_vertex_colours` or `harmonic_colours`.
        camera: focal lengths and principal point for a picture of `size`.
        size: height and width of the source frames.
        look: `sd` (flat faces, bright) or `dit` (smooth, pastel).
        fill: what paints; it may raise `UserError` when it lacks what it needs.
    """
    smooth = look == "dit"
    normals = vertex_normals(vertices, faces, "area") if smooth else face_normals(vertices, faces)
    paints = colours.astype(np.float32) / 255
    return fill(Surface(vertices, faces, normals, smooth, paints, look), camera, size)


@typechecked
def harmonic_colours(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "n 3"],
    landmarks: Int[np.ndarray, " m"] | None = None,
) -> UInt8[np.ndarray, "v 3"]:
    """Colours close to the official ones (correlation of the scale 0.986), made from the mesh.

    Args:
        vertices: rest pose. faces: of the same model.
        landmarks: vertex numbers in the order of `LANDMARKS`; those of SMPL-X by default.
    Raises `UserError` for a mesh that has no such vertices.
    """
    landmarks = landmark_vertices() if landmarks is None else landmarks
    if len(landmarks) != len(SCALE) or landmarks.max() >= len(vertices):
        raise UserError(
            f"body model: expected {len(SCALE)} landmarks below {len(vertices)} vertices, found "
            f"{len(landmarks)} up to {landmarks.max(initial=0)}"
        )
    return jet(harmonic(vertices, faces, landmarks, SCALE).round().clip(0, 255).astype(np.uint8))


@typechecked
def jet(scale: UInt8[np.ndarray, " v"]) -> UInt8[np.ndarray, "v 3"]:
    """OpenCV's jet colours of 0..255, RGB."""
    return cv2.applyColorMap(scale[:, None], cv2.COLORMAP_JET)[:, 0, ::-1].copy()


def read_vertex_colours(
    path: str | Path, vertices: int, read_torch: Callable[[Path], Any] | None = None
) -> UInt8[np.ndarray, "v 3"]:
    """Read the user's colour file: `.npy`, `.npz` with one entry, or the official torch file.

    Args:
        path: file of v x 3 whole numbers 0..255.
        vertices: how many the body model has.
        read_torch: what a `.pt` file holds, without running anything in it; refused when absent.
    """
    what = f"colours, {vertices} x 3 whole numbers 0 to 255"
    path = existing_file(path, what)
    if path.suffix.lower() in TORCH_SUFFIXES and read_torch is not None:
        content = read_torch(path)
    else:
        content = _read_numpy(path, what)
    found = type(content).__name__
    if isinstance(content, np.ndarray):
        whole = content.dtype.kind in "iu" and np.all((content >= 0) & (content <= 255))
        if whole and content.shape == (vertices, 3):
            return content.astype(np.uint8)
        found = f"{content.dtype} of shape {content.shape}"
    raise UserError(f"{path}: expected {what}, found {found}")


def _read_numpy(path: Path, what: str) -> Any:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as archive:
            names = archive.files
            return archive[names[0]] if len(names) == 1 else tuple(names)
    except Exception as error:  # damaged archives raise nearly every class there is
        reason = why_unreadable(error)
        raise UserError(f"{path}: expected {what}, found an unreadable file ({reason})") from None
