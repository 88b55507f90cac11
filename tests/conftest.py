"""Eight simulated CPU devices, shape checks, a shared compilation cache; set before jax loads."""

import os
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little: without LLVM's optimisations they take two thirds the time.
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
    )
)
os.environ["REALISDANCE_TYPECHECK"] = "1"

import jax

CACHE = Path(tempfile.gettempdir()) / "realisdance_jax_test_cache"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def pytest_terminal_summary(terminalreporter):
    """The parity table: every array of the oracle with its error and bound."""
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == "parity" and getattr(report, "when", "") == "call"
    ]
    if not rows:
        return
    terminalreporter.section("parity with the official model (relative L2 error)")
    for key, error, bound in sorted(map(tuple, rows)):
        verdict = "ok" if error <= bound else "ABOVE"
        terminalreporter.write_line(f"{error:9.2e}  bound {bound:7.1e}  {verdict:5s} {key}")
    terminalreporter.write_line(f"{len(rows)} arrays")
