"""What a clip needs before and after denoising: conditions, reference and pictures."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from realisdance_jax.models.dinov2 import zero_image
from realisdance_jax.sampling.denoise import ClipState
from realisdance_jax.sampling.pipeline import Pipeline, jitted
from realisdance_jax.shapes import Array, Float, UInt8


@dataclass(frozen=True, eq=False)
class Clip:
    """Inputs at the target size.

    reference: `H W 3` in [-1, 1]. encoder_image: `h w 3`, normalised for DINOv2. conditions: stacked
    pictures `H W c` in [0, 1], one per frame, consumed once.
    """

    reference: Float[np.ndarray, "H W 3"]
    encoder_image: Float[np.ndarray, "h w 3"]
    conditions: Iterable[Float[np.ndarray, "H W c"]]


@dataclass(frozen=True, eq=False)
class EncodedConditions:
    """features: `f h w c` on the device. gates: `f h w k` in (0, 1). pictures: `f H W c`."""

    features: Array
    gates: Float[np.ndarray, "f h w k"]
    pictures: UInt8[np.ndarray, "f H W c"]


def _chunks(items: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield np.stack(group)


def _filled(batch: np.ndarray | Array, size: int) -> Array:
    """`batch` with its last entry repeated up to `size`, so that every chunk has one shape."""
    batch = jnp.asarray(batch)
    return jnp.concatenate([batch, jnp.repeat(batch[-1:], size - len(batch), axis=0)])


def encode_conditions(
    pipeline: Pipeline, conditions: Iterable[np.ndarray], chunk: int
) -> EncodedConditions:
    """Run the pose encoders and the gate over frames, `chunk` at a time."""
    encode = jitted(pipeline.model, "encode_pose")
    features, gates, pictures = [], [], []
    for batch in _chunks(conditions, chunk):
        inputs = pipeline.everywhere(_filled(batch, chunk)[None])
        part, gate = encode(pipeline.variables, inputs)
        features.append(part[0, : len(batch)])
        gates.append(np.asarray(gate[0, : len(batch)]))
        pictures.append((batch * 255).astype(np.uint8))
    joined = pipeline.everywhere(jnp.concatenate(features))
    return EncodedConditions(joined, np.concatenate(gates), np.concatenate(pictures))


def encode_reference(pipeline: Pipeline, clip: Clip, uncond: str, pose: Array) -> ClipState:
    """Image tokens of both guidance branches and the reference K/V (parity.md: H4)."""
    model, variables = pipeline.model, pipeline.variables
    image, reference = pipeline.everywhere((clip.encoder_image[None], clip.reference[None]))
    encode_image = jitted(pipeline.dino, "__call__")
    tokens = encode_image(pipeline.dino_variables, image)
    absent = jnp.zeros_like(tokens)
    if uncond == "image":
        zeros = pipeline.everywhere(zero_image(*image.shape[:3]))
        absent = encode_image(pipeline.dino_variables, zeros)
    project = jitted(model, "project")
    context = project(variables, tokens)
    latents = jitted(pipeline.vae, "encode")(pipeline.vae_params, reference)
    features = jitted(model, "encode_reference")(variables, latents, context)
    kv = jitted(model, "reference_kv")(variables, features)
    return pipeline.everywhere(ClipState(context, project(variables, absent), kv, pose))


def decode_frames(
    pipeline: Pipeline, latents: Array, chunk: int
) -> Iterator[Float[np.ndarray, "f H W 3"]]:
    """Pictures of latents `f h w c`, not clamped, in chunks on the host."""
    decode = jitted(pipeline.vae, "decode")
    for start in range(0, len(latents), chunk):
        group = latents[start : start + chunk]
        decoded = decode(pipeline.vae_params, pipeline.everywhere(_filled(group, chunk)))
        yield np.asarray(decoded)[: len(group)]
