"""What is free on the host: by the kernel, and by the limit of either sort of control group."""

from pathlib import Path

import pytest

from realisdance_jax.utils.host_memory import available_bytes

KIB = 1024
FIRST = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
SECOND = ("memory.max", "memory.current")


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("meminfo", "group", "expected"),
    [
        ("MemTotal: 100 kB\nMemAvailable:  80 kB", {}, 80 * KIB),
        ("MemTotal: 100 kB", {}, None),
        ("MemAvailable: 80 kB", dict(zip(SECOND, ("max", "7"), strict=True)), 80 * KIB),
        ("MemAvailable: 80 kB", dict(zip(SECOND, ("5000", "3000"), strict=True)), 2000),
        ("MemAvailable: 1 kB", dict(zip(SECOND, ("5000", "3000"), strict=True)), KIB),
        ("MemAvailable: 80 kB", dict(zip(SECOND, ("5000", "6000"), strict=True)), 0),
        ("MemAvailable: 80 kB", dict(zip(FIRST, ("5000", "3000"), strict=True)), 2000),
        ("MemAvailable: 80 kB", dict(zip(FIRST, (str(2**63 - 4096), "7"), strict=True)), 80 * KIB),
        ("", dict(zip(SECOND, ("5000", "3000"), strict=True)), 2000),
    ],
)
def test_the_least_counts(tmp_path, meminfo, group, expected):
    write(tmp_path, {"meminfo": meminfo, **group})
    assert available_bytes(tmp_path / "meminfo", tmp_path) == expected


@pytest.mark.parametrize(
    ("names", "stat", "droppable"),
    [
        (SECOND, "memory.stat", "inactive_file"),
        (FIRST, "memory/memory.stat", "total_inactive_file"),
    ],
)
def test_files_that_may_be_dropped_are_free(tmp_path, names, stat, droppable):
    files = {**dict(zip(names, ("5000", "3000"), strict=True)), stat: f"anon 9\n{droppable} 500"}
    write(tmp_path, files)
    assert available_bytes(tmp_path / "absent", tmp_path) == 2500
