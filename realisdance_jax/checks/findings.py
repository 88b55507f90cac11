"""What a check has found: how bad it is, where, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Severity = Literal["error", "warning", "note"]
SEVERITIES = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    severity: an error makes the result useless or stops the run, a warning may spoil it, a note is
    good to know. check: short name of what was checked. subject: file or option. found: the facts.
    advice: what to do; empty for most notes.
    """

    severity: Severity
    check: str
    subject: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        text = f"{self.severity:8}{self.check}: {self.subject}: {self.found}"
        return f"{text}; {self.advice}" if self.advice else text


def error(check: str, subject: object, found: str, advice: str) -> Finding:
    """The run would fail, or its result would be useless."""
    return Finding("error", check, str(subject), found, advice)


def warning(check: str, subject: object, found: str, advice: str) -> Finding:
    """The result may be worse than it could be."""
    return Finding("warning", check, str(subject), found, advice)


def note(check: str, subject: object, found: str, advice: str = "") -> Finding:
    """Nothing wrong."""
    return Finding("note", check, str(subject), found, advice)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, warnings, notes; otherwise as they came."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def summary(findings: Iterable[Finding]) -> str:
    """`1 error, 2 warnings, 3 notes`."""
    severities = [finding.severity for finding in findings]
    counts = {severity: severities.count(severity) for severity in SEVERITIES}
    return ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in counts.items())


def numbered(frames: list[int], most: int = 5) -> str:
    """`frames 3, 7, 9 and 20 more`."""
    shown = ", ".join(map(str, frames[:most]))
    more = f" and {len(frames) - most} more" if len(frames) > most else ""
    return f"frame{'' if len(frames) == 1 else 's'} {shown}{more}"
