"""All checks on one case."""

from realisdance_jax.checks.case import Case, open_driver
from realisdance_jax.checks.colours import check_colours, swapped
from realisdance_jax.checks.files import check_audio, check_files, check_reference
from realisdance_jax.checks.findings import Finding, error, worst_first
from realisdance_jax.checks.frames import check_frames, look_through
from realisdance_jax.checks.framing import check_framing
from realisdance_jax.checks.memory import check_memory
from realisdance_jax.checks.weights import check_weights, open_weights


def examine(case: Case) -> list[Finding]:
    """Everything that can be said about a case, worst first; no network is run."""
    manifest, findings = open_weights(case.weights)
    findings += check_reference(case.reference, case.config.size)
    driver = open_driver(case.drivers)
    findings += check_files(case, driver)
    findings += check_audio(case, driver)
    seen, unreadable = look_through(case, driver)
    findings += unreadable
    if swapped(seen):
        found = "bodies in place of hands and hands in place of bodies"
        advice = "--hamer and --smpl look swapped: exchange them"
        findings.append(error("files", "--hamer, --smpl", found, advice))
        seen = {"dwpose": seen["dwpose"]} if "dwpose" in seen else {}
    findings += check_frames(case, driver, seen)
    findings += check_colours(driver, seen, case.look)
    findings += check_framing(case, driver)
    used = len(driver.used(case.config))
    if manifest is not None:
        findings += check_weights(case, manifest, used)
        findings += check_memory(case, manifest.model, used or case.config.max_frames)
    return worst_first(findings)
