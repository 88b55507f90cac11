"""What a weight file or folder is, in a few lines."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realisdance_jax.checkpoints.convert import infer
from realisdance_jax.checkpoints.convert.components import is_motion, model_table
from realisdance_jax.checkpoints.convert.engine import mismatches
from realisdance_jax.checkpoints.convert.legacy_names import LDM_UNET_PREFIX, MM_V2_HOMELESS
from realisdance_jax.checkpoints.convert.tensor_files import (
    TensorSource,
    open_component_folder,
    open_tensors,
)
from realisdance_jax.checkpoints.variables import check_sizes
from realisdance_jax.checkpoints.weights import (
    is_weights_folder,
    read_manifest,
    verify_component,
)
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.torch_files.lazy import LazyTensor, one_line, tensor_count

_PARTS = ("unet", "vae", "image_encoder")


def describe(path: Path, verify: bool = False) -> Iterator[str]:
    """Lines about `path`: a weights folder, or any file or folder that `convert to-jax` reads.

    `verify` compares all tensors of a weights folder with the hashes in its `config.json`.
    Raises `UserError` for anything else, and for tensors that are not those that were written.
    """
    if verify and not is_weights_folder(path):
        raise UserError(f"{path}: expected a weights folder to verify, found something else")
    if os.path.isdir(path) and is_weights_folder(path):
        yield from _weights_folder(path, verify)
    elif os.path.isdir(path) and (
        parts := [path / part for part in _PARTS if (path / part).is_dir()]
    ):
        for part in parts:
            yield from _tensors(open_component_folder(part))
    else:
        yield from _tensors(
            open_component_folder(path) if os.path.isdir(path) else open_tensors(path)
        )


def _tensors(source: TensorSource) -> Iterator[str]:
    bare = source.without_prefix("module.")
    names = list(bare.tensors)
    kind = _kind(names)
    yield f"{source.path}: {kind}"
    yield _totals(bare)
    if bare is not source:
        yield "prefix: module."
    for key, value in source.extra.items():
        yield one_line(f"{key!s:.80}: {_shown(value)}")
    for part, count in sorted(Counter(name.split(".")[0] for name in names).items()):
        yield f"  {one_line(part)}: {tensor_count(count)}"
    if kind.startswith("RealisDance"):
        yield from _completeness(bare)


def _shown(value: Any) -> str:
    """A scalar; of nested data kind and length only, since its text can be made to explode."""
    if isinstance(value, str | int | float | bool | None):
        return f"{value!s:.80}"
    if isinstance(value, LazyTensor):
        return f"a tensor of shape {list(value.shape)}"
    entries = f" of {len(value)}" if isinstance(value, dict | list | tuple | set) else ""
    return f"a {type(value).__name__}{entries}"


def _kind(names: list[str]) -> str:
    if any(name.startswith(tuple(f"{c}." for c in COMPONENTS)) for name in names):
        stage = 2 if any(is_motion(name) for name in names) else 1
        return f"RealisDance checkpoint, stage {stage}"
    if any(name.startswith(LDM_UNET_PREFIX) for name in names):
        return "single-file Stable Diffusion checkpoint"
    if any(name.endswith("embeddings.position_embeddings") for name in names):
        return "DINOv2 image encoder"
    if any(is_motion(name) for name in names):
        homeless = sum(name in MM_V2_HOMELESS for name in names)
        none_here = f", {tensor_count(homeless)} without a place here" * bool(homeless)
        return f"AnimateDiff motion modules{none_here}"
    if any("decoder.up" in name for name in names):
        return "Stable Diffusion VAE"
    if any(name.startswith("down_blocks.0.attentions") for name in names):
        return "Stable Diffusion UNet"
    return "tensors of an unknown kind"


def _totals(source: TensorSource) -> str:
    values = sum(math.prod(tensor.shape) for tensor in source.tensors.values())
    size = sum(tensor.nbytes for tensor in source.tensors.values())
    dtypes = Counter(tensor.dtype.name for tensor in source.tensors.values())
    kinds = ", ".join(f"{count} {dtype}" for dtype, count in dtypes.most_common())
    return f"{tensor_count(len(source.tensors))} ({kinds}), {values:,} values, {size / 1e9:.2f} GB"


def _completeness(source: TensorSource) -> Iterator[str]:
    where = str(source.path)
    try:
        config = infer.model_config(source.tensors, {}, where)
        check_sizes(config, where)
    except UserError as error:
        yield f"incomplete: {error}"
        return
    unet = config.unet
    yield f"UNet widths {unet.widths}, tokens {config.dino.width} -> {unet.context_dim}"
    pose = config.pose
    kind = "" if pose.kind == "gated" else f", {pose.kind}"
    names = ", ".join(pose.conditions)
    yield f"conditions {names}; encoders {pose.encoder_widths}{kind}"
    if config.motion:
        yield f"motion modules hold up to {config.motion.max_frames} frames"
    problems = mismatches(model_table(config), source.tensors)
    yield one_line("; ".join(problems)) if problems else "complete: every tensor has its place"


def _weights_folder(path: Path, verify: bool) -> Iterator[str]:
    manifest = read_manifest(path)
    stage = "video (stage 2)" if manifest.model.motion else "image (stage 1)"
    yield f"{path}: weights folder, {stage}, hash {manifest.weight_hash}"
    origin = ", ".join(manifest.sources) or "scratch"
    yield f"unconditional branch: {manifest.uncond}; from {origin}"
    yield f"epoch {manifest.origin.epoch}, global step {manifest.origin.global_step}"
    for component, digest in manifest.components.items():
        new = " (holds newly initialised tensors)" if component in manifest.fresh else ""
        if verify:
            verify_component(path, manifest, component)
        yield f"  {component}: sha256 {digest[:16]}{', verified' * verify}{new}"
