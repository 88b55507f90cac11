"""What the GPU compiler must know of a GPU that is not there (public data-sheet figures)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Figures of one model; memory and bandwidth in bytes (per second), clock in GHz."""

    name: str
    major: int
    cores: int
    units_per_core: int
    clock: float
    memory: int
    bandwidth: int
    cache: int
    shared_per_core: int
    shared_per_block: int
    features: str = "NONE"


GPUS = {
    "a100": Gpu(
        "NVIDIA A100-SXM4-80GB",
        8,
        108,
        64,
        1.41,
        85_100_068_864,
        2_039_040_000_000,
        40 * 2**20,
        167_936,
        166_912,
    ),
    "h100": Gpu(
        "NVIDIA H100 80GB HBM3",
        9,
        132,
        128,
        1.98,
        84_942_979_072,
        3_352_320_000_000,
        50 * 2**20,
        233_472,
        232_448,
        "ACCELERATED_FEATURES",
    ),
    "h200": Gpu(
        "NVIDIA H200 141GB HBM3e",
        9,
        132,
        128,
        1.98,
        151_397_597_184,
        4_800_000_000_000,
        50 * 2**20,
        233_472,
        232_448,
        "ACCELERATED_FEATURES",
    ),
}


def target_config(gpu: Gpu) -> str:
    """XLA's GpuTargetConfigProto of `gpu` in text form."""
    info = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49_152,
        "shared_memory_per_core": gpu.shared_per_core,
        "shared_memory_per_block_optin": gpu.shared_per_block,
        "threads_per_core_limit": 2048,
        "core_count": gpu.cores,
        "fpus_per_core": gpu.units_per_core,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65_535,
        "block_dim_limit_z": 65_535,
        "thread_dim_limit_x": 1024,
        "thread_dim_limit_y": 1024,
        "thread_dim_limit_z": 64,
        "registers_per_core_limit": 65_536,
        "registers_per_block_limit": 65_536,
        "memory_bandwidth": gpu.bandwidth,
        "l2_cache_size": gpu.cache,
        "clock_rate_ghz": gpu.clock,
        "device_memory_size": gpu.memory,
    }
    rows = "\n".join(f"  {name}: {value}" for name, value in info.items())
    capability = f"major: {gpu.major} feature_extension: {gpu.features}"
    return f"""gpu_device_info {{
{rows}
  cuda_compute_capability {{ {capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{gpu.name}"
"""
