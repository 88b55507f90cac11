"""Eight simulated CPU devices, shape checks, a shared compilation cache; set before jax loads."""

import gc
import os
import signal
import tempfile
from pathlib import Path

from tests.devices import xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags(8)}"
os.environ["REALISDANCE_TYPECHECK"] = "1"

import jax
import pytest

CACHE = Path(tempfile.gettempdir()) / "realisdance_jax_test_cache"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
# Tracing makes many objects that stay: searching them for garbage takes a thirteenth of the time.
gc.set_threshold(100_000, 10, 10)

# Shells start jobs in the background with these ignored, and the programs under test inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def parity_rows(reporter) -> list[tuple[str, float, float]]:
    """Name, error and bound of everything measured in this run."""
    return sorted(
        tuple(value)
        for reports in reporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == "parity" and getattr(report, "when", "") == "call"
    )


def missing_rows(config, reporter) -> list[str]:
    """Arrays of the oracle without a row, in a run of all parity tests in which none failed."""
    from tests.parity.report import FILES, without_row

    chosen = config.option.keyword or any("::" in argument for argument in config.args)
    if chosen or reporter.stats.get("failed") or reporter.stats.get("error"):
        return []
    passed = {report.nodeid.partition("::")[0] for report in reporter.stats.get("passed", [])}
    if not {f"tests/parity/{file}" for file in FILES} <= passed:
        return []
    return without_row(key for key, _, _ in parity_rows(reporter))


def pytest_sessionfinish(session):
    """A parity table with holes fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and missing_rows(session.config, reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """The parity table: every array of the oracle with its error and bound."""
    rows = parity_rows(terminalreporter)
    if not rows:
        return
    terminalreporter.section("parity with the official model (relative L2 error)")
    for key, error, bound in rows:
        verdict = "ok" if error <= bound else "ABOVE"
        terminalreporter.write_line(f"{error:9.2e}  bound {bound:7.1e}  {verdict:5s} {key}")
    terminalreporter.write_line(f"{len(rows)} arrays")
    for key in missing_rows(terminalreporter.config, terminalreporter):
        terminalreporter.write_line(f"NO ROW for {key}: the run fails")
