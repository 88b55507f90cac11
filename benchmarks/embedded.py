"""The recipe of the embedded weights: `make embedded`, or `python -m benchmarks.embedded`.

Every step is a command that resumes by itself; one whose result is there is passed over. So the
same call again goes on where it was stopped. Times of the steps are added to OUT/times.tsv.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax

from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.packed import pack_weights
from realisdance_jax.utils.errors import UserError, exit_on_user_error

ROOT = Path(__file__).parents[1]
LIMIT = 12_000_000
"""Bytes of a shipped file."""

ABLATIONS = ("no_gate", "no_hamer", "no_pose_motion", "no_shuffle")
SAME_IMAGE_STAGE = ("no_pose_motion", "no_shuffle")
"""They differ from ours in the motion stage only."""


@dataclass(frozen=True)
class Step:
    """name: of its result in OUT. words: behind `python -m realisdance_jax.`. done: what is there
    when it has nothing left to do; a training run says so itself."""

    name: str
    words: tuple[str, ...]
    done: str = ""


def _train(name: str, config: str, init: str) -> Step:
    words = ("train", "--config", f"configs/{config}", "--workdir", f"OUT/{name}")
    return Step(name, (*words, "--init", f"OUT/{init}", "--config.data.sources=('OUT/cache',)"))


def make_steps(clips: int, ablations: bool, smoke: bool = False) -> list[Step]:
    """All of the recipe in order; `OUT` stands for the folder. smoke: a minute instead of hours."""
    tail = ",smoke" if smoke else ""
    size = "64x48" if smoke else "128x96"
    frames = "16" if smoke else "64"
    quick = ("--vae-steps=2", "--image-encoder-steps=2", "--batch=8") if smoke else ()
    drawn = ("--source", "dancer", "--clips", str(clips), "--clip-frames", frames, "--size", size)
    pictures = ("prepare", "dataset", *drawn, "--corruption", "0.2", "--out", "OUT/pictures")
    known = "--config.data.sources=('OUT/pictures',)"
    cache = ("prepare", "dataset", "--source", "OUT/pictures", "--size", size, "--max-empty", "1")
    weights = ("--cache", "--weights", "OUT/parts/weights", "--out", "OUT/cache")
    parts = ("train_parts", "--config", f"configs/stage1.py:dancer{tail}", "--workdir", "OUT/parts")
    steps = [
        Step("pictures", pictures, "pictures/dataset.json"),
        Step("parts", (*parts, known, *quick), "parts/weights/config.json"),
        Step("cache", (*cache, *weights, "--references", "8"), "cache/dataset.json"),
    ]
    runs = [
        ("ours", "stage1.py:dancer", "stage2.py:dancer"),
        ("base", "animate_anyone.py:stage1,dancer", "animate_anyone.py:stage2,dancer"),
    ]
    runs += [(n, f"stage1.py:dancer,{n}", f"stage2.py:dancer,{n}") for n in ABLATIONS if ablations]
    for name, image, video in runs:
        first = "ours_image" if name in SAME_IMAGE_STAGE else f"{name}_image"
        if name not in SAME_IMAGE_STAGE:
            steps.append(_train(first, image + tail, "parts/weights"))
        steps.append(_train(name, video + tail, first))
    return steps


def command(step: Step, out: Path) -> list[str]:
    """The words to be run."""
    module, *rest = (word.replace("OUT", os.fspath(out)) for word in step.words)
    return [sys.executable, "-m", f"realisdance_jax.{module}", *rest]


def run_steps(steps: list[Step], out: Path) -> None:
    """Run what is left to do; `UserError` with the command that failed."""
    out.mkdir(parents=True, exist_ok=True)
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    for step in steps:
        if step.done and (out / step.done).is_file():
            continue
        words, started = command(step, out), time.perf_counter()
        print(f"== {step.name}: {shlex.join(words)}", flush=True)
        code = subprocess.run(words, cwd=ROOT).returncode
        if code:
            raise UserError(f"{step.name}: expected its command to succeed, found exit code {code}")
        with (out / "times.tsv").open("a", encoding="utf-8") as file:
            file.write(f"{step.name}\t{time.perf_counter() - started:.0f}\t{devices}\n")


def pack(out: Path) -> None:
    """OUT/ours.npz and OUT/base.npz, half precision."""
    for name in ("ours", "base"):
        size = pack_weights(weights_of(out / name), out / f"{name}.npz")
        print(f"{out / name}.npz: {size / 1e6:.2f} MB")
        if size > LIMIT:
            raise UserError(f"{out / name}.npz: expected at most {LIMIT} bytes, found {size}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "embedded")
    parser.add_argument("--clips", type=int, default=2048, help="of the training set")
    parser.add_argument("--ablations", action="store_true", help="train them, too")
    parser.add_argument("--smoke", action="store_true", help="everything in minutes, for a test")
    options = parser.parse_args()
    out = options.out.absolute()
    run_steps(make_steps(options.clips, options.ablations, options.smoke), out)
    pack(out)


if __name__ == "__main__":
    exit_on_user_error(main)
