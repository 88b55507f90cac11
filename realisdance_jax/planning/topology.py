"""Devices for the compiler alone: `v5e:4x4`, `h100:8`, or `cpu:8` of this machine."""

import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from realisdance_jax.parallel.devices import CHIPS, Chip
from realisdance_jax.planning.gpu_target import GPUS, target_config
from realisdance_jax.utils.errors import UserError

TPU_HOST = {"v5e": ("v5litepod-4", "2x2"), "v6e": ("v6e-4", "2x2"), "v4": ("v4-8", "2x2x1")}
TPU_HOST["v5p"] = ("v5p-8", "2x2x1")
GPUS_PER_HOST = 8


@dataclass(frozen=True, eq=False)
class Topology:
    """Devices of one kind, in order; `compiler` is its version."""

    name: str
    chip: Chip | None
    devices: list[Any]
    compiler: str


@dataclass(frozen=True)
class StandIn:
    """A device to count bytes for; nothing can be compiled for it."""

    id: int
    process_index: int = 0
    platform: str = "none"
    device_kind: str = "stand-in"


def parse_topology(name: str, quick: bool = False) -> Topology:
    """`KIND:SHAPE`, KIND one of v5e, v5p, v6e, v4 (SHAPE as 4x4), a100, h100, h200 (a count), cpu.

    quick: stand-ins for devices, which need no compiler. Raises `UserError` for another name and
    when the compiler's package is not installed.
    """
    kind, _, shape = name.partition(":")
    chip = next((chip for chip in CHIPS if chip.name == kind), None)
    pattern = r"\d+(x\d+){1,2}" if kind in TPU_HOST else r"\d+"
    sizes = [int(size) for size in shape.split("x")] if re.fullmatch(pattern, shape) else [0]
    count = math.prod(sizes)
    if kind not in (*TPU_HOST, *GPUS, "cpu") or count < 1:
        kinds = ", ".join([*TPU_HOST, *GPUS, "cpu"])
        raise UserError(
            f"--topology: expected KIND:SHAPE such as v5e:4x4 or h100:8, KIND one of {kinds}, "
            f"found {name!r}"
        )
    if quick:
        return Topology(name, chip, [StandIn(n) for n in range(count)], f"jax {jax.__version__}")
    if kind in TPU_HOST:
        return Topology(name, chip, _tpus(kind, shape), _version("libtpu"))
    if kind in GPUS:
        return Topology(name, chip, _gpus(kind, count), _version("jax-cuda12-pjrt"))
    return Topology(name, None, _cpus(count), _version("jaxlib"))


def _cpus(count: int) -> list[Any]:
    devices = jax.devices("cpu")
    if len(devices) < count:
        flag = f"XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        raise UserError(f"cpu:{count}: expected {count} devices, found {len(devices)} (set {flag})")
    return devices[:count]


def _tpus(kind: str, shape: str) -> list[Any]:
    _require("libtpu", "tpu")
    host, _ = TPU_HOST[kind]
    for name, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": host,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }.items():
        os.environ.setdefault(name, value)
    smaller = shape in ("1x1", "1x1x1")  # refused as a topology; a chip of a host is not
    wanted = TPU_HOST[kind][1] if smaller else shape
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=f"{kind}:{wanted}")
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{kind}:{shape}: the TPU compiler refuses it ({reason})") from None
    return list(found.devices)[:1] if smaller else list(found.devices)


def _gpus(kind: str, count: int) -> list[Any]:
    _require("jax_cuda12_plugin", "cuda")
    hosts, rest = divmod(count, GPUS_PER_HOST)
    if count > GPUS_PER_HOST and rest:
        raise UserError(f"{kind}:{count}: expected up to 8 or a multiple of 8, found {count}")
    shape = f"1x{hosts}x8" if count >= GPUS_PER_HOST else f"1x1x{count}"
    try:
        found = topologies.get_topology_desc(
            platform="cuda",
            topology_name="",
            topology=shape,
            target_config=target_config(GPUS[kind]),
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{kind}:{count}: the GPU compiler refuses it ({reason})") from None
    return list(found.devices)


def prepare_compilers() -> None:
    """Environment that compilers without devices want; call before JAX looks for devices."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_autotune_level" not in flags and _installed("jax_cuda12_plugin"):
        # Nothing can be timed, and untimed Triton products do not always find a tiling.
        without = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
        os.environ["XLA_FLAGS"] = f"{flags} {without}".strip()
    for folder in sys.path:
        tools = Path(folder) / "nvidia" / "cuda_nvcc" / "bin"
        if tools.is_dir():
            os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"


def _installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _require(module: str, extra: str) -> None:
    if not _installed(module):
        raise UserError(
            f"--topology: expected the compiler's package, found none: pip install "
            f"'realisdance_jax[{extra}]' (or use --quick)"
        )


def _version(package: str) -> str:
    from importlib.metadata import version

    return f"jax {jax.__version__}, {package} {version(package)}"
