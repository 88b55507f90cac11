"""From videos to the clips whose features FID-VID and FVD compare, as DisCo cuts them.

Two numbers go under each of these names. `overlapping` makes a sample of every frame that has 15
successors: thousands of samples that share frames. `per_video` makes one sample per video, far
fewer than there are features: such distances are biased and unstable, and n has to be told.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image

from realisdance_jax.shapes import Float, UInt8, typechecked

Sampling = Literal["overlapping", "per_video"]
Network = Literal["resnet3d", "i3d"]

CLIP = 16
SIZES: dict[str, int] = {"resnet3d": 112, "i3d": 224}
_CHANNEL_MEANS = np.array([114.7748, 107.7354, 99.4750], np.float32)  # of the training of ResNet


@typechecked
def network_frames(
    network: Network, frames: UInt8[np.ndarray, "f H W 3"]
) -> Float[np.ndarray, "f h w 3"]:
    """Frames as a network takes them: Pillow's bicubic resize in float32, not clipped, then scaled.

    resnet3d: 112 x 112, 0 to 255 less the channel means. i3d: 224 x 224, -1 to 1.
    """
    size = SIZES[network]
    resized = np.stack([_resize(frame, size) for frame in frames])
    return resized - _CHANNEL_MEANS if network == "resnet3d" else resized / np.float32(127.5) - 1


def _resize(frame: np.ndarray, size: int) -> np.ndarray:
    planes = [Image.fromarray(frame[..., c].astype(np.float32)) for c in range(3)]
    resized = [np.asarray(p.resize((size, size), Image.Resampling.BICUBIC)) for p in planes]
    return np.stack(resized, axis=-1)


@typechecked
def video_features(
    network: Network,
    sampling: Sampling,
    features: Callable[[Float[np.ndarray, "n t h w 3"]], Float[np.ndarray, "n d"]],
    frames: UInt8[np.ndarray, "f H W 3"],
    batch: int = 8,
) -> Float[np.ndarray, "n d"]:
    """Samples of one video.

    features: the network, of at most `batch` clips at a time.
    overlapping: f - 15 clips of 16 frames at stride 1.
    per_video: a single sample. resnet3d: mean over successive clips of 16 frames, the last one
    filled up with the last frame. i3d: the whole video in one pass, of whatever length.
    Raises `ValueError` for a video that has no such clip.
    """
    if sampling == "overlapping" and len(frames) < CLIP:
        raise ValueError(f"expected at least {CLIP} frames, found {len(frames)}")
    frames = network_frames(network, frames)
    if sampling == "overlapping":
        starts = np.arange(len(frames) - CLIP + 1)[:, None]
        rows = [starts[i : i + batch] + np.arange(CLIP) for i in range(0, len(starts), batch)]
        return np.concatenate([features(frames[row]) for row in rows])
    if network == "i3d":
        return features(frames[None])
    missing = -len(frames) % CLIP
    clips = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
    clips = clips.reshape(-1, CLIP, *clips.shape[1:])
    parts = [features(clips[i : i + batch]) for i in range(0, len(clips), batch)]
    return np.concatenate(parts).mean(axis=0, keepdims=True)
