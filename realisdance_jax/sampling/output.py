"""An animation on disk: video, side-by-side video, frames, gate heat maps, sheet, latents."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from realisdance_jax.data.images import contact_sheet, hstack_panels, save_png
from realisdance_jax.data.sound import add_sound
from realisdance_jax.data.video_io import VideoWriter
from realisdance_jax.sampling.sampler import Animation
from realisdance_jax.sampling.targets import check_frames, latents_paths, output_paths
from realisdance_jax.shapes import Float, UInt8
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

LABELS = {"dwpose": "DWPose", "hamer": "HaMeR", "smpl": "SMPL-CS"}


def tags(animation: Animation) -> dict[str, str]:
    """What reproduces a video: seed, all options, hash of the weights."""
    return {
        "realisdance_seed": str(animation.settings["seed"]),
        "realisdance_config": json.dumps(animation.settings),
        "realisdance_weights": str(animation.settings["weights"]),
    }


def panels(animation: Animation, i: int) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Reference, the conditions and the result of frame i."""
    conditions = np.split(animation.pictures[i], len(animation.conditions), axis=-1)
    return [animation.reference, *conditions, animation.frame(i)]


def gate_map(animation: Animation, i: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Gate weights of frame i as heat maps at picture size, side by side, each under its name and
    its mean over the frame; dark for 0, yellow for 1."""
    height, width = animation.reference.shape[:2]
    maps, labels = [], []
    for name, weight in zip(
        animation.conditions, np.moveaxis(animation.gates[i], -1, 0), strict=True
    ):
        level = cv2.resize((weight * 255).astype(np.uint8), (width, height))
        heat = cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)
        maps.append(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB))
        labels.append(f"{LABELS[name]} {weight.mean():.2f}")
    return hstack_panels(maps, labels)


def write_outputs(
    out: Path,
    animation: Animation,
    *,
    side_by_side: bool = True,
    gates: bool = False,
    frames: bool = False,
    audio: Path | None = None,
) -> list[Path]:
    """Write the video and, beside it, what else was asked for; each whole or not at all.

    audio: film or sound file whose sound the video gets, copied as it is; not the others. It comes
        last: if it cannot be had, all is there without it, and `UserError` says why.
    Returns the paths: `out`, `*_side_by_side.mp4`, `*_gates.mp4`, the folder `*_frames`.
    """
    paths = output_paths(out, side_by_side=side_by_side, gates=gates, frames=frames)
    _write_video(out, animation, animation.frame)
    if side_by_side:
        _write_video(
            paths["side_by_side"], animation, lambda i: hstack_panels(panels(animation, i))
        )
    if gates:
        _write_video(paths["gates"], animation, lambda i: gate_map(animation, i))
    if frames:
        _write_frames(paths["frames"], animation)
    if audio is not None:
        with atomic_output(out) as partial:
            add_sound(out, audio, partial, tags(animation))
    return list(paths.values())


def _write_video(
    path: Path, animation: Animation, picture: Callable[[int], UInt8[np.ndarray, "H W 3"]]
) -> None:
    size = picture(0).shape[:2]
    with VideoWriter(path, animation.fps, size, tags(animation)) as writer:
        for i in range(len(animation.video)):
            writer.write(picture(i))


def _write_frames(folder: Path, animation: Animation) -> None:
    check_frames(folder)
    with atomic_output(folder) as partial:
        partial.mkdir()
        for i in range(len(animation.video)):
            save_png(partial / f"{i:06d}.png", animation.frame(i))


def write_sheet(path: Path, animation: Animation, rows: int) -> None:
    """A contact sheet of evenly spaced frames: reference, conditions, result."""
    count = len(animation.video)
    chosen = np.unique(np.linspace(0, count - 1, min(rows, count)).round().astype(int))
    labels = ["reference", *(LABELS[name] for name in animation.conditions), "result"]
    save_png(path, contact_sheet([panels(animation, i) for i in chosen], labels))


def load_latents(path: Path) -> Float[np.ndarray, "f h w c"]:
    """Initial latents from a .npy of shape (1, c, f, h, w), the layout of the official pipeline.

    Raises `UserError` for anything else, objects to unpickle among it.
    """
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "none"
        raise UserError(f"{path}: expected a .npy of numbers, found {reason}") from None
    if array.ndim != 5 or array.shape[0] != 1 or not array.size:
        raise UserError(f"{path}: expected latents of shape (1, c, f, h, w), found {array.shape}")
    if array.dtype.kind != "f":
        raise UserError(f"{path}: expected floats, found {array.dtype}")
    with np.errstate(over="ignore"):
        latents = array.astype(np.float32)
    if not np.isfinite(latents).all():
        raise UserError(f"{path}: expected finite values in float32, found non-finite ones")
    return np.moveaxis(latents[0], 0, -1)


def save_latents(path: Path, animation: Animation) -> list[Path]:
    """Initial latents at `path`, denoised ones at `*_final.npy`, as `load_latents` reads them."""
    paths = latents_paths(path)
    for target, latents in zip(paths, (animation.initial, animation.latents), strict=True):
        with atomic_output(target) as partial, open(partial, "wb") as file:
            np.save(file, np.moveaxis(latents, -1, 0)[None])
    return list(paths)
