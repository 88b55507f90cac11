"""Figures of a planned program: bytes per chip, sharding, collectives, roofline."""

import math
import re
import time
from collections import Counter
from typing import Any

import jax
import numpy as np

from realisdance_jax.models.realisdance import COMPONENTS
from realisdance_jax.planning.programs import Planned
from realisdance_jax.planning.topology import Topology

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}
_SIZES |= {"f64": 8, "s64": 8, "u64": 8}


def shard_bytes(tree: Any) -> int:
    """Bytes that one chip holds of a tree of shapes with shardings: exact, nothing is compiled."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total += math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
    return total


def whole_bytes(tree: Any) -> int:
    """Bytes of a tree of shapes on all chips together, counted once."""
    return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def quick_figures(planned: Planned) -> dict[str, Any]:
    """What is known without compiling."""
    by_component: dict[str, list[Any]] = {}
    for path, leaf in planned.leaves.items():
        name = next((name for name in COMPONENTS if f"/{name}/" in path), "other")
        by_component.setdefault(name, []).append(leaf)
    largest = sorted(planned.leaves.items(), key=lambda item: -math.prod(item[1].shape))[:5]
    return {
        "program": planned.name,
        "mesh": dict(planned.mesh.shape),
        "components": {
            name: {
                "parameters": sum(math.prod(x.shape) for x in leaves),
                "bytes": whole_bytes(leaves),
                "bytes_per_chip": shard_bytes(leaves),
            }
            for name, leaves in by_component.items()
        },
        "arguments_per_chip": {name: shard_bytes(tree) for name, tree in planned.arguments.items()},
        "largest": {path: [list(leaf.shape), str(leaf.sharding.spec)] for path, leaf in largest},
    }


def compiled_figures(planned: Planned, topology: Topology) -> dict[str, Any]:
    """Compile, and read what the compiler says. `fits` is None for chips of unknown memory."""
    started = time.perf_counter()
    lowered = planned.lower()
    tracing = time.perf_counter() - started
    started = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = " ".join(str(error).split())[:300]
        return {"fits": False, "refusal": reason, "compile_seconds": time.perf_counter() - started}
    seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    peak += memory.output_size_in_bytes - memory.alias_size_in_bytes
    flops, counted = planned.flops(), collectives(compiled.as_text())
    figures: dict[str, Any] = {
        "trace_seconds": tracing,
        "compile_seconds": seconds,
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "aliased": memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "peak": peak,
        "flops": flops,
        "collectives": counted,
        "fits": None,
    }
    if topology.chip is not None:
        figures |= roofline(figures, topology, planned.mesh.size)
    return figures


def roofline(figures: dict[str, Any], topology: Topology, chips: int) -> dict[str, Any]:
    """Least seconds that arithmetic and links take, each alone, and whether memory suffices."""
    chip = topology.chip
    assert chip is not None
    moved = sum(row["bytes"] for row in figures["collectives"].values())
    arithmetic, links = figures["flops"] / chips / chip.flops, moved / chip.links
    return {
        "capacity": chip.memory,
        "fits": figures["peak"] <= chip.memory,
        "roofline": {"arithmetic_seconds": arithmetic, "link_seconds": links},
        "step_seconds": max(arithmetic, links),
    }


def _shape_bytes(text: str) -> int:
    """Bytes of an HLO result type such as `(bf16[2,3]{1,0}, f32[4])`."""
    total = 0
    for kind, axes in re.findall(r"([a-z]+[0-9]*)\[([0-9,]*)\]", text):
        count = math.prod(int(axis) for axis in axes.split(",") if axis)
        total += count * _SIZES.get(kind, 4)
    return total


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Number and bytes of results per chip by kind, from compiled HLO; loops count once."""
    count: Counter = Counter()
    size: Counter = Counter()
    pattern = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(COLLECTIVES)})(-start)?\(")
    for match in pattern.finditer(text):
        result = _shape_bytes(match[1])
        # An asynchronous start returns its operand beside its result.
        size[match[2]] += result // 2 if match[3] and match[1].startswith("(") else result
        count[match[2]] += 1
    return {name: {"count": count[name], "bytes": size[name]} for name in COLLECTIVES}


def gib(value: float) -> str:
    """Bytes as GiB."""
    return f"{value / 2**30:.2f} GiB"


def markdown(answer: dict[str, Any]) -> str:
    """An answer of `plan` for people."""
    axes = " x ".join(f"{name} {size}" for name, size in answer["mesh"].items())
    lines = [
        f"## {answer['program']} on {answer['topology']}",
        "",
        f"`{answer['command']}`, {answer['package']}, {answer['compiler']}, configuration "
        f"{answer['config_hash']}, mesh {axes}, {answer['settings']}.",
        "",
        "| component | parameters | bytes | per chip |",
        "|---|---:|---:|---:|",
    ]
    for name, row in answer["components"].items():
        numbers = f"{row['parameters']:,} | {gib(row['bytes'])} | {gib(row['bytes_per_chip'])}"
        lines.append(f"| {name} | {numbers} |")
    lines += ["", "| largest parameters | shape | cut along |", "|---|---|---|"]
    for path, (shape, spec) in answer["largest"].items():
        lines.append(f"| {path} | {'x'.join(map(str, shape))} | `{spec}` |")
    held = ", ".join(f"{k} {gib(v)}" for k, v in answer["arguments_per_chip"].items() if v > 2**20)
    lines += ["", f"Arguments per chip: {held}."]
    if "compile_seconds" not in answer:
        return "\n".join([*lines, "Not compiled (--quick).", ""])
    return "\n".join([*lines, *_compiled_lines(answer), ""])


def _compiled_lines(answer: dict[str, Any]) -> list[str]:
    if "refusal" in answer:
        return [f"fits: **no**. The compiler says: {answer['refusal']}"]
    capacity = f" of {gib(answer['capacity'])}" if "capacity" in answer else ""
    lines = [
        f"Per chip: arguments {gib(answer['arguments'])}, temporaries "
        f"{gib(answer['temporaries'])}, peak **{gib(answer['peak'])}**{capacity}.",
        f"{answer['flops'] / 1e12:.1f} TFLOP per step; compiled in "
        f"{answer['compile_seconds']:.0f} s.",
        "",
        "| collective | number | bytes per chip |",
        "|---|---:|---:|",
    ]
    for name, row in answer["collectives"].items():
        lines.append(f"| {name} | {row['count']} | {gib(row['bytes'])} |")
    if "roofline" in answer:
        limits = answer["roofline"]
        lines += [
            "",
            f"Roofline: arithmetic {limits['arithmetic_seconds']:.3f} s, links "
            f"{limits['link_seconds']:.3f} s: at least {answer['step_seconds']:.3f} s per step.",
            f"fits: **{'yes' if answer['fits'] else 'no'}**",
        ]
    return lines
