"""What a weight file or folder is, in a few lines."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from realisdance_jax.checkpoints.convert import infer
from realisdance_jax.checkpoints.convert.components import is_motion, model_tables
from realisdance_jax.checkpoints.convert.engine import mismatches
from realisdance_jax.checkpoints.convert.legacy_names import LDM_UNET_PREFIX, MM_V2_HOMELESS
from realisdance_jax.checkpoints.convert.tensor_files import (
    TensorSource,
    open_component_folder,
    open_tensors,
)
from realisdance_jax.checkpoints.weights import CONFIG, read_manifest
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.utils.errors import UserError


def describe(path: Path) -> Iterator[str]:
    """Lines about `path`: a weights folder, or any file `convert to-jax` reads."""
    if path.is_dir() and (path / CONFIG).is_file() and "format" in infer.read_json(path / CONFIG):
        yield from _weights_folder(path)
        return
    source = open_component_folder(path) if path.is_dir() else open_tensors(path)
    bare = source.without_prefix("module.")
    names = list(bare.tensors)
    kind = _kind(names)
    yield f"{source.path}: {kind}"
    yield _totals(bare)
    if bare is not source:
        yield "prefix: module."
    for key, value in source.extra.items():
        yield f"{key}: {value!s:.80}"
    for part, count in sorted(Counter(name.split(".")[0] for name in names).items()):
        yield f"  {part}: {count} tensors"
    if kind.startswith("RealisDance"):
        yield from _completeness(bare)


def _kind(names: list[str]) -> str:
    if any(name.startswith(tuple(f"{c}." for c in COMPONENTS)) for name in names):
        stage = 2 if any(is_motion(name) for name in names) else 1
        return f"RealisDance checkpoint, stage {stage}"
    if any(name.startswith(LDM_UNET_PREFIX) for name in names):
        return "single-file Stable Diffusion checkpoint"
    if "embeddings.position_embeddings" in names:
        return "DINOv2 image encoder"
    if any(is_motion(name) for name in names):
        homeless = sum(name in MM_V2_HOMELESS for name in names)
        return "AnimateDiff motion modules" + (
            f", {homeless} without a place here" * bool(homeless)
        )
    if any(name.startswith("decoder.up") for name in names):
        return "Stable Diffusion VAE"
    if any(name.startswith("down_blocks.0.attentions") for name in names):
        return "Stable Diffusion UNet"
    return "tensors of an unknown kind"


def _totals(source: TensorSource) -> str:
    values = sum(math.prod(tensor.shape) for tensor in source.tensors.values())
    size = sum(tensor.nbytes for tensor in source.tensors.values())
    dtypes = Counter(tensor.dtype.name for tensor in source.tensors.values())
    kinds = ", ".join(f"{count} {dtype}" for dtype, count in dtypes.most_common())
    return f"{len(source.tensors)} tensors ({kinds}), {values:,} values, {size / 1e9:.2f} GB"


def _completeness(source: TensorSource) -> Iterator[str]:
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}

    def part(component: str) -> Mapping[str, tuple[int, ...]]:
        start = f"{component}."
        return {k.removeprefix(start): s for k, s in shapes.items() if k.startswith(start)}

    where = str(source.path)
    try:
        config = RealisDanceConfig(
            unet=infer.unet_config(part("unet_main"), {}, where),
            pose=infer.pose_config(part("pose_guider"), where),
            motion=infer.motion_config(part("unet_main")),
        )
        token_width = infer.shape_of(part("clip_projector"), "identity.weight", where)[1]
    except UserError as error:
        yield f"incomplete: {error}"
        return
    yield f"UNet widths {config.unet.widths}, tokens {token_width} -> {config.unet.context_dim}"
    yield f"conditions {', '.join(config.pose.conditions)}; encoders {config.pose.encoder_widths}"
    if config.motion:
        yield f"motion modules hold up to {config.motion.max_frames} frames"
    tables = model_tables(infer.with_token_width(config, token_width))
    problems = mismatches({k: leaf for t in tables.values() for k, leaf in t.items()}, shapes)
    yield "complete: every tensor has its place" if not problems else "; ".join(problems)


def _weights_folder(path: Path) -> Iterator[str]:
    manifest = read_manifest(path)
    stage = "video (stage 2)" if manifest.model.motion else "image (stage 1)"
    yield f"{path}: weights folder, {stage}, hash {manifest.weight_hash}"
    origin = ", ".join(manifest.sources) or "scratch"
    yield f"unconditional branch: {manifest.uncond}; from {origin}"
    yield f"epoch {manifest.origin.epoch}, global step {manifest.origin.global_step}"
    for component, digest in manifest.components.items():
        new = " (holds newly initialised tensors)" if component in manifest.fresh else ""
        yield f"  {component}: sha256 {digest[:16]}{new}"
