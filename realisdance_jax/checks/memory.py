"""How much memory sampling takes, reckoned from shapes: nothing is compiled."""

import math
import os
from collections.abc import Iterator

import jax

from realisdance_jax.checkpoints.variables import ALL_COMPONENTS, abstract_component
from realisdance_jax.checks.case import Case
from realisdance_jax.checks.findings import Finding, note, warning
from realisdance_jax.models.config import RealisDanceConfig
from realisdance_jax.models.realisdance import COMPONENTS

GIB = 2**30

_OVERHEAD = 1.3
"""Programs, buffers of the loader, what does not fit exactly: a full-width run of 36 frames of
128 x 96 in float32 takes 14.8 GB on a CPU, of which its weights are 10.5."""

_WORKING = 16  # tensors of the widest level alive within one transformer block, its GEGLU mostly
_DECODER = 7  # tensors of the decoder's widest level alive at once: 1.5 GiB per 768 x 576 frame
_LOGITS = 3 * 256 * 2**20  # attention works in pieces; logits, their softmax, what feeds them


def weight_bytes(config: RealisDanceConfig, dtype_bytes: int) -> int:
    """Parameters on the device; DINOv2 and the VAE stay in float32."""
    total = 0
    for name in ALL_COMPONENTS:
        leaves = jax.tree.leaves(abstract_component(config, name))
        count = sum(math.prod(leaf.shape) for leaf in leaves)
        total += count * (dtype_bytes if name in COMPONENTS else 4)
    return total


def activation_bytes(case: Case, config: RealisDanceConfig, frames: int, dtype_bytes: int) -> int:
    """The most that one device holds beside weights, in denoising or in decoding."""
    options, (height, width) = case.config, case.config.size
    window = 1 if config.motion is None else min(options.window_size, max(frames, 1))
    batch = -(-options.window_batch // len(jax.devices()))
    levels = [
        (height // 8 >> i) * (width // 8 >> i) * channels
        for i, channels in enumerate(config.unet.widths)
    ]
    per_level = config.unet.layers_per_block + 2  # skips, and the pose guidance
    skips = sum(per_level * level for level in levels)
    keys = sum(2 * 2 * level for level in levels)  # keys and values, own and the reference's
    denoising = batch * window * (skips + keys + _WORKING * levels[0]) * dtype_bytes + _LOGITS
    chunk = min(options.chunk, max(frames, 1))
    decoding = chunk * _DECODER * height * width * config.vae.widths[0] * 4
    return max(denoising, decoding)


def host_bytes(case: Case, conditions: int, frames: int) -> int:
    """Pictures kept until the video is written: conditions as bytes, the result in float32."""
    height, width = case.config.size
    return frames * height * width * (3 * conditions + 2 * 3 * 4)


def available_bytes() -> int | None:
    """Memory of the first device; on a CPU that of the machine. None where nothing tells."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if device.platform == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def check_memory(case: Case, config: RealisDanceConfig, frames: int) -> Iterator[Finding]:
    """The estimate against what there is."""
    dtype_bytes = 2 if case.dtype == "bfloat16" else 4
    weights = weight_bytes(config, dtype_bytes)
    work = activation_bytes(case, config, frames, dtype_bytes)
    host = host_bytes(case, len(config.pose.conditions), frames)
    on_host = case.memory is None and jax.local_devices()[0].platform == "cpu"
    need = int(_OVERHEAD * (weights + work)) + (host if on_host else 0)
    limit = available_bytes() if case.memory is None else case.memory
    found = (
        f"about {need / GIB:.1f} GiB needed (weights {weights / GIB:.1f}, work {work / GIB:.1f}, "
        f"pictures on the host {host / GIB:.1f})"
    )
    if limit is None:
        yield note("memory", "device", found)
    elif need > limit:
        advice = _smaller(case)
        yield warning("memory", "device", f"{found}, {limit / GIB:.1f} GiB there", advice)
    else:
        yield note("memory", "device", f"{found} of {limit / GIB:.1f} GiB")


def _smaller(case: Case) -> str:
    """Options that need less."""
    ways = ["--dtype bfloat16"] if case.dtype != "bfloat16" else []
    ways += ["--chunk 1"] if case.config.chunk > 1 else []
    ways += ["--window-batch 1"] if case.config.window_batch > 1 else []
    return "try " + ", ".join([*ways, "a smaller --size"])
