"""Measure and tabulate the paper's claims: `make claims`, or `python -m benchmarks.measure_claims`.

Models are runs in OUT, as `make embedded ABLATIONS=1` leaves them, or come with the package. What
was measured of the same weights is kept; rows about a model that is nowhere say "not measured".
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims import make_claims, make_table, read_records, values_of
from benchmarks.embedded import ABLATIONS, ROOT, SHIPPED
from realisdance_jax.checkpoints.export import weights_of
from realisdance_jax.checkpoints.packed import unpack_weights
from realisdance_jax.checkpoints.weights import is_weights_folder, read_manifest
from realisdance_jax.utils.errors import UserError, exit_on_user_error

SAMPLING = ("--steps", "10", "--guidance", "1")
MODELS = ("ours", "base", *ABLATIONS)


@dataclass(frozen=True)
class Measurement:
    """words: options of `evaluate --protocol robust` for each of `models`."""

    name: str
    models: tuple[str, ...]
    clips: int
    words: tuple[str, ...]


HALF = ("--strengths", "0.5")
DWPOSE = ("--wrong", "dwpose")
MEASUREMENTS = (
    Measurement("dwpose", ("ours", "base"), 32, (*DWPOSE, "--strengths", "0.1,0.25,0.5")),
    Measurement("others", ("ours",), 32, ("--wrong", "hamer,smpl", *HALF)),
    Measurement(
        "jitter", ("ours", "base", "no_pose_motion"), 32, (*DWPOSE, "--kinds", "jitter", *HALF)
    ),
    Measurement("all", ("no_gate",), 16, HALF),
    Measurement("half", ("no_hamer", "no_shuffle"), 16, (*DWPOSE, *HALF)),
)
"""Just what the rows of the table need."""


def folder_of(model: str, out: Path) -> Path | None:
    """Weights of the run OUT/`model`, else those of the package, unpacked; None for neither."""
    run, unpacked = out / model, out / "claims" / "weights" / model
    if run.is_dir():
        return weights_of(run)
    file = SHIPPED.get(model)
    if file is None or not file.is_file():
        return None
    unpack_weights(file, unpacked)
    return unpacked


def is_measured(results: Path, weights: Path, clips: int) -> bool:
    """Whether `results` are there, and of these very weights."""
    if not results.is_file() or not is_weights_folder(weights):
        return False
    settings = json.loads(results.read_text("utf-8"))["settings"]
    hashes = list(settings["weights"].values())
    return hashes == [read_manifest(weights).weight_hash] and settings["clips"] == clips


def measure(item: Measurement, model: str, weights: Path, out: Path, clips: int) -> Path:
    """Run `evaluate` unless that is done; the path of its results."""
    folder = out / "claims" / f"{item.name}_{model}"
    results = folder / "results.json"
    if is_measured(results, weights, clips):
        return results
    words = [sys.executable, "-m", "realisdance_jax.evaluate", "--protocol", "robust", *SAMPLING]
    words += ["--clips", str(clips), *item.words, "--weights", f"{model}={os.fspath(weights)}"]
    words += ["--out", os.fspath(folder)]
    print(f"== {item.name}, {model}: {shlex.join(words)}", flush=True)
    code = subprocess.run(words, cwd=ROOT).returncode
    if code:
        raise UserError(f"{item.name}, {model}: expected evaluate to succeed, found code {code}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "embedded", help="the runs")
    parser.add_argument("--table", type=Path, help="Markdown file; printed in any case")
    parser.add_argument("--clips", type=int, default=32, help="at most so many of each")
    options = parser.parse_args()
    out = options.out.absolute()
    folders = {model: folder_of(model, out) for model in MODELS}
    for model in (name for name, folder in folders.items() if folder is None):
        print(f"{model}: not trained ({out / model}), its rows are not measured")
    paths = [
        measure(item, model, folder, out, min(item.clips, options.clips))
        for item in MEASUREMENTS
        for model in item.models
        if (folder := folders[model]) is not None
    ]
    table = make_table(make_claims(values_of(read_records(paths))))
    print(table, end="")
    if options.table:
        options.table.write_text(table, "utf-8")


if __name__ == "__main__":
    exit_on_user_error(main)
