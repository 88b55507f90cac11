"""Pictures in and out: always uint8 RGB, H W 3."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageOps

from realisdance_jax.data.blobs import Blob, Source
from realisdance_jax.shapes import UInt8, typechecked
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output, existing_file

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
LABEL_HEIGHT = 24  # a multiple of 8, so that labelled panels still fit a video

# Pillow's EPS reader starts an external program; these decode in process.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "TGA")


@typechecked
def read_image(
    path: Source, alpha: Literal["white", "drop"] = "white"
) -> UInt8[np.ndarray, "H W 3"]:
    """One picture as RGB, turned upright by its EXIF orientation; 16-bit values keep the high byte.

    Args:
        path: PNG, JPEG, WebP, BMP, TIFF, GIF (first frame), PPM or TGA; a file, or one in memory.
        alpha: "white" composites transparent pixels over white; "drop" takes the stored RGB as it
            is, which is what the official code's OpenCV reader does.

    Raises `UserError` for a missing, damaged, oversized or floating-point picture.
    """
    if isinstance(path, Blob):
        path.seek(0)
    else:
        path = existing_file(path, "a picture")
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _to_rgb(ImageOps.exif_transpose(image), alpha, path)
    except UserError:
        raise
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(f"{path}: expected at most {limit} pixels, found more") from None
    except Exception as error:  # damaged files make Pillow raise nearly every class there is
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: expected a picture, found an unreadable file ({reason})"
        ) from None


def _to_rgb(image: Image.Image, alpha: str, path: Source) -> np.ndarray:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(f"{path}: expected 8 or 16 bits per channel, found mode {image.mode}")
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    rgba = np.array(image.convert("RGBA"))
    return rgba[..., :3].copy() if alpha == "drop" else _over_white(rgba)


def _over_white(rgba: np.ndarray) -> np.ndarray:
    colour, opacity = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((colour * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


@typechecked
def save_png(path: str | Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write `picture` (RGB) as PNG, whole or not at all. Raises `UserError` when it cannot."""
    with atomic_output(path) as partial:
        try:
            Image.fromarray(np.ascontiguousarray(picture)).save(partial, format="PNG")
        except OSError as error:
            raise UserError(f"{path}: cannot write the picture ({error.strerror})") from None


@typechecked
def hstack_panels(
    panels: Sequence[UInt8[np.ndarray, "H _ 3"]], labels: Sequence[str] | None = None
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Pictures of one height side by side, each under its label if `labels` are given."""
    if labels is not None:
        panels = [_labelled(*pair) for pair in zip(panels, labels, strict=True)]
    return np.concatenate(panels, axis=1)


@typechecked
def contact_sheet(
    rows: Sequence[Sequence[UInt8[np.ndarray, "H W 3"]]], labels: Sequence[str] | None = None
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Rows of equally sized pictures; short rows end in black, `labels` head the columns."""
    columns = max(len(row) for row in rows)
    black = np.zeros_like(rows[0][0])
    full = [[*row, *[black] * (columns - len(row))] for row in rows]
    first = hstack_panels(full[0], labels)
    return np.concatenate([first, *[hstack_panels(row) for row in full[1:]]], axis=0)


def _labelled(picture: np.ndarray, label: str) -> np.ndarray:
    strip = np.zeros((LABEL_HEIGHT, picture.shape[1], 3), np.uint8)
    cv2.putText(strip, label, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    return np.concatenate([strip, picture], axis=0)
