"""How the tests run JAX; importing this does not load it."""


def xla_flags(devices: int) -> str:
    """Simulated CPU devices and quick compilation.

    Tests compile much and compute little: without LLVM's optimisations, and with one module of code
    per program, they take under two thirds of the time.
    """
    return (
        f"--xla_force_host_platform_device_count={devices} "
        "--xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true "
        "--xla_cpu_parallel_codegen_split_count=1"
    )
