"""How many bytes of the host's memory a process may still take."""

from pathlib import Path

GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Of control groups, second and first version: limit, use, and which files they may drop."""


def available_bytes(
    meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """The least of what the kernel calls available and what the control group (a container's
    limit) leaves; None if neither tells."""
    found = [1024 * kib for kib in _values(meminfo, "MemAvailable:")]
    for limit, use, droppable in GROUPS:
        most, used = _values(groups / limit), _values(groups / use)
        if most and used:
            cached = _values((groups / limit).with_name("memory.stat"), droppable)
            found.append(max(0, most[0] - used[0] + sum(cached)))
    return min(found, default=None)


def _values(file: Path, name: str = "") -> list[int]:
    """The number after `name` at the start of a line; none where file or number are not there."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError:
        return []
    rows = (line.split() for line in lines)
    rests = (row[1:] if name else row for row in rows if not name or row[:1] == [name])
    return [int(rest[0]) for rest in rests if rest and rest[0].isdigit()]
