"""What accelerators can do at best, from their data sheets (dense bfloat16, no sparsity)."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chip:
    """flops: bfloat16 FLOP/s. memory: bytes. bandwidth: of memory, links: of all links to other
    chips, bytes/s."""

    name: str
    flops: float
    memory: float
    bandwidth: float
    links: float


GB = 2**30
CHIPS = (
    Chip("v5e", 197e12, 15.75 * GB, 819e9, 200e9),
    Chip("v5p", 459e12, 95.74 * GB, 2765e9, 600e9),
    Chip("v6e", 918e12, 31.25 * GB, 1640e9, 400e9),
    Chip("v4", 275e12, 31.25 * GB, 1228e9, 300e9),
    Chip("a100", 312e12, 80e9, 2039e9, 300e9),
    Chip("h100", 989e12, 80e9, 3350e9, 450e9),
    Chip("h200", 989e12, 141e9, 4800e9, 450e9),
    Chip("b200", 2250e12, 180e9, 8000e9, 900e9),
)
"""TPU memory is what the compiler lets a program use; links are one way."""

_KINDS = (
    *(("v5 lite", "v5e"), ("v5litepod", "v5e"), ("v5e", "v5e"), ("v5p", "v5p"), ("v5", "v5p")),
    *(("v6 lite", "v6e"), ("v6e", "v6e"), ("v4", "v4")),
    *(("a100", "a100"), ("h100", "h100"), ("h200", "h200"), ("b200", "b200")),
)


def chip_of(device_kind: str) -> Chip | None:
    """The chip that JAX calls `device_kind`, None if it is not in the table."""
    kind = device_kind.lower()
    name = next((name for part, name in _KINDS if part in kind), None)
    return next((chip for chip in CHIPS if chip.name == name), None)


def is_ampere_or_later(device: Any) -> bool:
    """Whether `device` is an NVIDIA GPU of compute capability 8.0 at least: with bfloat16 and the
    fused attention of cuDNN. One that is only compiled for goes by its name."""
    if device.platform not in ("gpu", "cuda"):
        return False
    said = getattr(device, "compute_capability", None)
    if said is None:
        # All GPUs of the table are.
        return chip_of(getattr(device, "device_kind", "")) is not None
    # Such as 9.0 or, with features of one architecture, 9.0a; AMD's are called such as gfx90a.
    found = re.fullmatch(r"(\d+\.\d+)[af]?", str(said))
    return found is not None and float(found[1]) >= 8
