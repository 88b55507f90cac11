"""What a clip needs before and after denoising: conditions, reference and pictures.

What grows with the clip stays on the host; the devices hold one chunk of frames at a time.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np

from realisdance_jax.models.dinov2 import zero_image
from realisdance_jax.models.transformer import Context
from realisdance_jax.sampling.caches import ALL, Caches
from realisdance_jax.sampling.pipeline import Pipeline
from realisdance_jax.sampling.programs import ClipState, RawReference
from realisdance_jax.shapes import Array, Float, UInt8, typechecked


@typechecked
@dataclass(frozen=True, eq=False)
class Clip:
    """Inputs at the target size.

    reference: `H W 3` in [-1, 1]. encoder_image: `h w 3`, normalised for DINOv2. conditions:
    stacked pictures `H W c` in [0, 1], one per frame, consumed once.
    """

    reference: Float[np.ndarray, "H W 3"]
    encoder_image: Float[np.ndarray, "h w 3"]
    conditions: Iterable[Float[np.ndarray, "H W c"]]


@typechecked
@dataclass(frozen=True, eq=False)
class EncodedConditions:
    """features: in the compute dtype. gates: in (0, 1). pictures: 0..255. All on the host."""

    features: Float[np.ndarray, "f h w d"]
    gates: Float[np.ndarray, "f h w k"]
    pictures: UInt8[np.ndarray, "f H W c"]


def _chunks(frames: Iterable[np.ndarray], size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Stacked groups of `size` frames, or of all if fewer, and how many of them are real.

    The last group repeats its last frame until it has the shape of the others.
    """
    iterator, full = iter(frames), None
    while group := list(itertools.islice(iterator, size)):
        full = full or len(group)
        yield np.stack(group + group[-1:] * (full - len(group))), len(group)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts as one array; empties the list, so that nothing is held twice."""
    parts.reverse()
    joined = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    done = 0
    while parts:
        part = parts.pop()
        joined[done : done + len(part)] = part
        done += len(part)
    return joined


def encode_conditions(
    pipeline: Pipeline, conditions: Iterable[np.ndarray], chunk: int
) -> EncodedConditions:
    """Run the pose encoders and the gate over frames, `chunk` at a time."""
    features, gates, pictures = [], [], []
    for batch, count in _chunks(conditions, chunk):
        part, gate = pipeline.call("model", "encode_pose", pipeline.everywhere(batch[None]))
        # A copy: the array's own memory would keep that of the padding.
        features.append(pipeline.on_host(part)[0, :count].copy())
        gates.append(pipeline.on_host(gate)[0, :count].astype(np.float32))
        pictures.append((batch[:count] * 255).astype(np.uint8))
    return EncodedConditions(_joined(features), _joined(gates), _joined(pictures))


def _unconditional(
    pipeline: Pipeline, tokens: Array, image: Array | None, caches: Caches
) -> Context:
    """Of the tokens of an absent picture (parity.md: H4).

    image: what DINOv2 is shown. Without it the tokens are zeros, so that projected they are all
    alike, and cross-attention gives the same to every query.
    """
    if image is None:
        absent = jnp.zeros_like(tokens[:, :1] if caches.fold else tokens)
    else:
        absent = pipeline.call(
            "dino", "__call__", pipeline.everywhere(zero_image(*image.shape[:3]))
        )
    context = pipeline.call("model", "project", absent)
    if image is None and caches.fold:
        return pipeline.call("model", "fold_context", context)
    return pipeline.call("model", "context_kv", context) if caches.context else context


@typechecked
def encode_reference(
    pipeline: Pipeline,
    clip: Clip,
    uncond: Literal["fake", "image"],
    pose: Float[np.ndarray, "f h w d"],
    caches: Caches = ALL,
) -> ClipState:
    """Image tokens of both guidance branches and the reference K/V.

    pose: features, or pictures if `caches` has none of them.
    """
    image, reference = pipeline.everywhere((clip.encoder_image[None], clip.reference[None]))
    tokens = pipeline.call("dino", "__call__", image)
    absent = _unconditional(pipeline, tokens, image if uncond == "image" else None, caches)
    context = projected = pipeline.call("model", "project", tokens)
    if caches.context:
        context = pipeline.call("model", "context_kv", projected)
    kv = RawReference(pipeline.call("vae", "encode", reference), projected)
    if caches.reference:
        kv = pipeline.call("model", "reference_kv", pipeline.call("model", "encode_reference", *kv))
    context, absent, kv = pipeline.everywhere((context, absent, kv))
    return ClipState(context, absent, kv, pose)


@typechecked
def decode_frames(
    pipeline: Pipeline, latents: Float[np.ndarray, "f h w c"], chunk: int
) -> Iterator[Float[np.ndarray, "f H W 3"]]:
    """Pictures of latents, not clamped, in chunks on the host."""
    for batch, count in _chunks(latents, chunk):
        pictures = pipeline.call("vae", "decode", pipeline.everywhere(batch))
        yield pipeline.on_host(pictures)[:count]
