"""Compiled programs are kept between runs."""

import functools
import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import jax

SHORTEST_SECONDS = 0.1
"""Programs that compile faster are not worth a file."""


_LOADS_FAST: dict[str, Mapping[str, str]] = {
    # XLA's loader searches all instructions for each product that it gave to YNNPACK: kept programs
    # of ours take two thirds of their loading time for that.
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": ""},
}


def cache_folder(name: str) -> Path:
    """A folder of this project in the user's cache; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "realisdance_jax" / name


def keep_compiled() -> None:
    """Keep what takes long to compile in the user's cache, for the next start.

    Left as it is where `JAX_COMPILATION_CACHE_DIR` names a folder;
    `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache_folder("compiled") / _processor()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_SECONDS)


@functools.cache
def loads_fast() -> Mapping[str, str]:
    """Compiler options for the default back end with which kept programs load faster.

    Empty where there are none, or where this version of the compiler does not know them.
    """
    options = _LOADS_FAST.get(jax.default_backend(), {})
    try:
        jax.jit(lambda x: x).lower(0.0).compile(dict(options))
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def _processor() -> str:
    """Alike on processors with the same instructions: a home may be shared by several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    flags = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    known = " ".join([platform.machine(), platform.processor(), *flags])
    return hashlib.sha256(known.encode()).hexdigest()[:12]
