"""What the benchmarks share: times, peaks, the report and its files, ratios to another report."""

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from realisdance_jax.parallel.devices import chip_of
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output

RESULTS = Path(__file__).parent / "results"
RUNS = 5
CEILING_SIZE = {"cpu": 1024}
"""Rows of the square matrices whose product is the measured ceiling; 8192 on accelerators."""


@dataclass(frozen=True)
class Row:
    """seconds: of every run after the warm-up. flops: of one run. peak: bytes while it ran, of the
    process on a CPU, else of the device since the process began. more: other numbers by name."""

    name: str
    seconds: tuple[float, ...] = ()
    flops: float | None = None
    peak: int | None = None
    more: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return median(self.seconds)


@dataclass(frozen=True)
class Report:
    """numbers: what is concluded, by name. settings: of the runs. device: see `machine`.

    words: of the command that makes it, without paths, if they are not the preset's alone.
    record: name of its files, if not BENCHMARK-PRESET-DEVICE.
    """

    benchmark: str
    preset: str
    settings: dict[str, Any]
    device: dict[str, Any]
    rows: list[Row]
    numbers: dict[str, float]
    words: str = ""
    record: str = ""


def seconds_of(work: Callable[[], Any], runs: int = RUNS, warm: bool = True) -> tuple[float, ...]:
    """Of `runs` calls, each waited for, after one that is not counted."""
    if warm:
        jax.block_until_ready(work())
    found = []
    for _ in range(runs):
        begin = time.perf_counter()
        jax.block_until_ready(work())
        found.append(time.perf_counter() - begin)
    return tuple(found)


def peak_of(work: Callable[[], Any]) -> int | None:
    """Bytes at most in use during one call; None where nothing tells."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        except OSError:
            return None
    jax.block_until_ready(work())
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("peak_bytes_in_use")
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    marks = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return 1024 * int(marks[0]) if marks else None


def program_bytes(compiled: Any) -> int:
    """Of a compiled program's temporaries."""
    return compiled.memory_analysis().temp_size_in_bytes


def processor() -> str:
    """What /proc/cpuinfo calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def ceiling(dtype: Any) -> float:
    """FLOP/s of the first device in products of large square matrices, the best of five runs."""
    size, times = CEILING_SIZE.get(jax.devices()[0].platform, 8192), 8
    x = jnp.full((size, size), 1 / size, dtype)

    @jax.jit
    def products(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, y: y @ x, x)

    return times * 2 * size**3 / min(seconds_of(lambda: products(x)))


def machine(dtype: str) -> dict[str, Any]:
    """The first device, versions, date and both ceilings in FLOP/s; no names of hosts, no paths.

    peak: of the data sheet, for bfloat16 only; None if unknown.
    """
    device = jax.devices()[0]
    chip = chip_of(device.device_kind)
    return {
        "platform": device.platform,
        "kind": processor() if device.platform == "cpu" else device.device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax")},
        "python": platform.python_version(),
        "date": str(datetime.date.today()),
        "dtype": dtype,
        "peak": chip.flops if chip and dtype == "bfloat16" else None,
        "ceiling": ceiling(jnp.dtype(dtype)),
    }


def _cells(row: Row, device: dict[str, Any]) -> list[str]:
    cells = [row.name]
    if row.seconds:
        spread = f"{min(row.seconds):.4g}-{max(row.seconds):.4g}"
        cells += [f"{row.median:.4g}", spread, str(len(row.seconds))]
    else:
        cells += ["", "", ""]
    rate = row.flops / row.median if row.flops and row.seconds else None
    cells.append(f"{row.flops / 1e12:.4g}" if row.flops else "")
    for most in (device["peak"], device["ceiling"]):
        cells.append(f"{100 * rate / most:.1f} %" if rate and most else "")
    cells.append(f"{row.peak / 2**30:.2f}" if row.peak else "")
    cells.append(", ".join(f"{name} {value:.4g}" for name, value in row.more.items()))
    return cells


def markdown(report: Report) -> str:
    """The report as a page."""
    device = report.device
    versions = ", ".join(f"{name} {number}" for name, number in device["versions"].items())
    settings = ", ".join(f"{name} {value}" for name, value in report.settings.items())
    sheet = f"{device['peak'] / 1e12:.0f} by the data sheet" if device["peak"] else "none"
    columns = "median s | spread | runs | TFLOP | MFU | of ceiling | peak GiB | more"
    rows = (f"| {' | '.join(_cells(row, device))} |" for row in report.rows)
    numbers = (f"- {name}: {value:.4g}" for name, value in report.numbers.items())
    preset = f"--preset {report.preset}"
    words = report.words or preset
    return f"""# {report.benchmark}, {"preset " if words.startswith(preset) else ""}{report.preset}

`python -m benchmarks.{report.benchmark} {words}`, {device["date"]}, {versions},
Python {device["python"]}. {device["kind"]} ({device["platform"]}, {device["cores"]} CPU cores, load
{device["load"]} at the start), {device["dtype"]}. Settings: {settings}.
TFLOP/s: {sheet} (for MFU), {device["ceiling"] / 1e12:.3g} in products of large matrices (ceiling).

| what | {columns} |
|---|{"---:|" * 7}---|
{chr(10).join(rows)}

{chr(10).join(numbers)}
"""


def compared(report: Report, other: dict[str, Any]) -> str:
    """Markdown: the other report's medians over this one's (above 1: this one is faster)."""
    before = {row["name"]: Row(**row) for row in other["rows"]}
    lines = ["| what | this, s | other, s | other / this |", "|---|---:|---:|---:|"]
    for row in report.rows:
        old = before[row.name].median if row.name in before and before[row.name].seconds else 0
        if old and row.seconds and row.median:
            lines.append(f"| {row.name} | {row.median:.4g} | {old:.4g} | {old / row.median:.3f} |")
    for name, value in report.numbers.items():
        old = other["numbers"].get(name)
        if old and value:
            lines.append(f"| {name} | {value:.4g} | {old:.4g} | {old / value:.3f} |")
    return "\n".join(lines) + "\n"


def make_parser(
    benchmark: str, about: str | None, repeated: bool = True
) -> argparse.ArgumentParser:
    """Options that all benchmarks have. repeated: whether it measures more than once."""
    parser = Parser(prog=f"benchmarks.{benchmark}", description=about)
    parser.add_argument("--preset", choices=("tiny", "small", "full"), default="small")
    if repeated:
        parser.add_argument("--runs", type=int, default=RUNS, help="of each measurement")
    add_files(parser)
    return parser


def add_files(parser: argparse.ArgumentParser) -> None:
    """Where the report goes, and what it is compared with."""
    parser.add_argument("--compare", type=Path, metavar="OTHER.json", help="print ratios to it")
    where = "folder for JSON and Markdown (default: benchmarks/results, in whose records only runs "
    where += "with default options go; others get names of their own)"
    parser.add_argument("--out", type=Path, help=where)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The checked options, before anything is measured.

    Beside them `words`, of the command without paths, `changed`, those that are not default and
    not the preset, and `other`, the report to compare with or None.

    Raises `UserError` for no runs and for a file that is no report.
    """
    options = parser.parse_args()
    if getattr(options, "runs", 1) < 1:
        raise UserError(f"--runs: expected at least 1, found {options.runs}")
    changed: list[str] = []
    needed: list[str] = []
    for action in parser._actions:
        value = getattr(options, action.dest, action.default)
        if isinstance(value, Path):
            needed += [action.option_strings[0], action.dest.upper()] if action.required else []
        elif value != action.default and action.dest != "preset":
            changed += _words(action, value)
    preset = ["--preset", options.preset] if hasattr(options, "preset") else []
    options.changed = changed
    options.words = shlex.join([*preset, *needed, *changed])
    options.other = read_report(options.compare) if options.compare else None
    return options


def _words(action: argparse.Action, value: Any) -> list[str]:
    """Of the command line, that give an option this value."""
    name = action.option_strings[0]
    if isinstance(value, bool):
        return [name if value else f"--no-{name.removeprefix('--')}"]
    if action.nargs == "+":
        return [name, *map(str, value)]
    return [name, "x".join(map(str, value)) if isinstance(value, tuple) else str(value)]


def read_report(file: Path) -> dict[str, Any]:
    """What `finish` wrote as JSON. Raises `UserError` for anything else."""
    try:
        found = json.loads(file.read_text("utf-8"))
        rows = [Row(**row) for row in found["rows"]]
        values = [*found["numbers"].values(), *(second for row in rows for second in row.seconds)]
        if not all(isinstance(value, int | float) for value in values):
            raise ValueError("text in place of numbers")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{file}: expected the JSON of a benchmark, found {reason}") from None
    return found


def report_name(report: Report, changed: Sequence[str]) -> str:
    """The record's, and the options that are not default."""
    kind = "cpu" if report.device["platform"] == "cpu" else report.device["kind"]
    parts = changed if report.record else (kind, *changed)
    rest = (re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-") for part in parts)
    return "-".join([report.record or f"{report.benchmark}-{report.preset}", *rest])


def finish(report: Report, options: argparse.Namespace) -> None:
    """Print the report, write it as JSON and Markdown, and print ratios if wanted.

    options: as `parse` gives them. Without a folder only a run with default options replaces the
    record in `RESULTS`; a chosen folder has one report for each device.
    """
    report = replace(report, words=options.words)
    text = markdown(report)
    print(text, end="")
    name = report_name(report, () if options.out else options.changed)
    for ending, content in (
        (".md", text),
        (".json", json.dumps(asdict(report), indent=2) + "\n"),
    ):
        file = (options.out or RESULTS) / f"{name}{ending}"
        with atomic_output(file) as path:
            path.write_text(content, "utf-8")
    if options.other:
        print("\n" + compared(report, options.other), end="")
