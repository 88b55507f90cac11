"""Compile seconds of a sampling command's first and second start: `python -m benchmarks.start`.

The same `sample` command twice, each time as a process of its own, on random weights of a preset
and an empty cache of compiled programs.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Report, Row, finish, machine, make_parser, parse
from benchmarks.presets import PRESETS, Preset
from realisdance_jax.checkpoints.random_weights import write_random_weights
from realisdance_jax.data.demo_clip import write_demo_clip
from realisdance_jax.utils.errors import UserError, exit_on_user_error

STARTS = ("first start", "second start")
SAID = " s, ".join(rf"{verb} in (?P<{verb}>[\d.]+)" for verb in ("traced", "compiled", "denoised"))
SHARE = 0.2
"""Of the first start's compile seconds, what the second's should stay below."""


def command(preset: Preset, folder: Path) -> list[str]:
    """The words of the call; weights, inputs and video lie in `folder`."""
    write_random_weights(folder / "weights", preset.model)
    clip = write_demo_clip(folder / "input", preset.frames)
    files = {
        "weights": folder / "weights",
        "ref": clip.reference,
        "dwpose": clip.dwpose,
        "hamer": clip.hamer,
        "smpl": clip.smpl,
        "out": folder / "video.mp4",
    }
    height, width = preset.size
    settings = {
        "size": f"{height}x{width}",
        "steps": preset.steps,
        "stride": 1,
        "dtype": preset.dtype,
        "window-size": preset.window,
        "window-overlap": preset.overlap,
        "window-batch": 1,
    }
    options = [f"--{name}={value}" for name, value in {**files, **settings}.items()]
    return [sys.executable, "-m", "realisdance_jax.sample", *options]


def start(name: str, words: list[str], cache: Path) -> Row:
    """Run the command; its wall time, and the compile seconds that it prints."""
    inherited = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment = {**inherited, "XDG_CACHE_HOME": os.fspath(cache)}
    begin = time.perf_counter()
    ended = subprocess.run(words, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    said = re.search(SAID, ended.stdout)
    if ended.returncode or said is None:
        said_last = " ".join(ended.stderr.split())[-500:] or f"exit code {ended.returncode}"
        raise UserError(f"{name}: expected the command to succeed, found {said_last}")
    return Row(name, (seconds,), more={f"{kind} s": float(said[kind]) for kind in said.groupdict()})


def run(name: str, options: argparse.Namespace) -> Report:
    """Both starts."""
    preset = PRESETS[name]
    device = machine(preset.dtype)
    with tempfile.TemporaryDirectory() as scratch:
        words = command(preset, Path(scratch))
        rows = [start(kind, words, Path(scratch) / "cache") for kind in STARTS]
    first, second = (row.more["compiled s"] for row in rows)
    numbers = {f"compile seconds, second / first (below {SHARE})": second / first}
    settings = {"frames": preset.frames, "windows of": preset.window, "steps": preset.steps}
    return Report("start", name, settings, device, rows, numbers)


def main() -> None:
    parser = make_parser("start", __doc__, repeated=False)
    options = parse(parser)
    finish(run(options.preset, options), options)


if __name__ == "__main__":
    exit_on_user_error(main)
