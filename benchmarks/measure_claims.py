"""Measure and tabulate the paper's claims: `make claims`, or `python -m benchmarks.measure_claims`.

Models are runs in OUT, as `make embedded ABLATIONS=1` leaves them, or come with the package. What
was measured of the same weights in the same way is kept; rows about a model that is nowhere, or
not trained to its end, say "not measured". Ablations are held against a model trained as they are:
`ours_short`, which is ours without the end of its image stage, or ours where the budget has none.
"""

import json
import os
import shlex
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from benchmarks.claims import CLIPS, OURS, SHORT, make_numbers, make_report, read_records
from benchmarks.embedded import BUDGETS, OF_SHIPPED, ROOT, SHIPPED, budget_of
from realisdance_jax.checkpoints.export import last_step, weights_of
from realisdance_jax.checkpoints.folder import weights_folder
from realisdance_jax.checkpoints.run import CONFIG, is_run
from realisdance_jax.checkpoints.weights import read_manifest
from realisdance_jax.evaluate import make_config, make_parser, make_sampling, make_settings
from realisdance_jax.sampling.targets import check_folder
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import UserError, exit_on_user_error
from realisdance_jax.utils.files import atomic_output

SAMPLING = ("--steps", "1", "--spacing", "trailing", "--guidance", "1", "--no-color")
"""What small models trained briefly predict from pure noise at once, is nearer to the truth and
steadier than what more steps make of it."""


@dataclass(frozen=True)
class Measurement:
    """What the rows of the table need of one model."""

    clips: int
    cases: tuple[str, ...]

    def words(self, model: str, weights: Path, out: Path) -> list[str]:
        """Of `evaluate`."""
        cases = ("--clips", str(self.clips), "--cases", ",".join(self.cases))
        named = ("--weights", f"{model}={os.fspath(weights)}", "--out", os.fspath(out))
        return ["--protocol", "robust", *SAMPLING, *cases, *named]


MORE_AND_MORE = ("dwpose 0.1", "dwpose 0.25", "dwpose 0.5")
OTHERS, JITTER = ("hamer 0.5", "smpl 0.5"), "dwpose jitter 0.5"
MEASUREMENTS = {
    "ours": Measurement(32, ("true", *MORE_AND_MORE, *OTHERS, JITTER)),
    "base": Measurement(32, ("true", *MORE_AND_MORE, JITTER)),
    SHORT: Measurement(16, ("true", "dwpose 0.5", *OTHERS, JITTER)),
    "no_gate": Measurement(16, ("true", "dwpose 0.5", *OTHERS)),
    "no_hamer": Measurement(16, ("true",)),
    "no_pose_motion": Measurement(16, ("true", JITTER)),
    "no_shuffle": Measurement(16, ("true",)),
}


def steps_done(run: Path) -> int:
    """The last saved step; 0 before the first."""
    try:
        return last_step(run)
    except UserError:
        return 0


def steps_wanted(run: Path) -> int:
    """As its configuration says; `UserError` where that is damaged."""
    path = run / CONFIG
    try:
        return int(json.loads(path.read_text("utf-8"))["train"]["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: expected the configuration of a run, found none") from None


def weights_for(model: str, out: Path) -> Path | None:
    """Of the run OUT/`model`, else what the package has; None, and a word, for neither."""
    run = out / model
    if is_run(run):
        wanted = steps_wanted(run)
        if (found := steps_done(run)) < wanted:
            print(f"{model}: at step {found} of {wanted} ({run}), its rows are not measured")
            return None
        return weights_of(run)
    if run.is_dir():
        return run
    file = SHIPPED.get(model)
    if file is None or not file.is_file():
        print(f"{model}: not trained ({run}), its rows are not measured")
        return None
    return file


def peer_in(out: Path) -> str:
    """What ablations in OUT are held against; without a budget, that of shipped weights counts."""
    budget = BUDGETS.get(budget_of(out) or OF_SHIPPED)
    return SHORT if budget is not None and budget.end else OURS


def settings_of(words: list[str], model: str, weights: Path) -> Any:
    """What `evaluate` would write of itself."""
    options = make_parser().parse_args(words)
    config = make_config(options)
    manifests = {model: read_manifest(weights)}
    found = make_settings(options, config, make_sampling(options, config), manifests)
    return json.loads(json.dumps(found))


def is_measured(results: Path, settings: Any) -> bool:
    """Whether `results` are there, made in this very way."""
    try:
        return json.loads(results.read_text("utf-8"))["settings"] == settings
    except (OSError, ValueError, KeyError, TypeError):
        return False


def measure(model: str, weights: Path, out: Path) -> Path:
    """Run `evaluate` unless that is done; the path of its results."""
    folder = out / "claims" / model
    words = MEASUREMENTS[model].words(model, weights, folder)
    results = folder / "results.json"
    if is_measured(results, settings_of(words, model, weights)):
        return results
    words = [sys.executable, "-m", "realisdance_jax.evaluate", *words]
    print(f"== {model}: {shlex.join(words)}", flush=True)
    code = subprocess.run(words, cwd=ROOT).returncode
    if code:
        raise UserError(f"{model}: expected evaluate to succeed, found exit code {code}")
    return results


def main() -> None:
    parser = Parser(prog="benchmarks.measure_claims", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "embedded", help="the runs")
    parser.add_argument(
        "--table",
        type=Path,
        help="Markdown file, numbers per clip beside it as .json; printed in any case",
    )
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # leave an accelerator to the commands
    out = options.out.absolute()
    check_folder(out)
    if options.table:
        check_folder(options.table.absolute().parent)
        if options.table.is_dir():
            raise UserError(f"{options.table}: expected a file to write, found a folder")
    peer = peer_in(out)
    found = {model: weights_for(model, out) for model in MEASUREMENTS if model in {peer, *CLIPS}}
    with ExitStack() as stack:
        there = {
            model: stack.enter_context(weights_folder(path))
            for model, path in found.items()
            if path is not None
        }
        if not there:
            raise UserError(f"{out}: expected trained models, found none (make embedded)")
        records = read_records([measure(m, folder, out) for m, folder in there.items()])
    report = make_report(records, peer)
    print(report, end="")
    if options.table:
        numbers = json.dumps(make_numbers(records), indent=0).replace(",\n", ", ") + "\n"
        for path, text in ((options.table, report), (options.table.with_suffix(".json"), numbers)):
            with atomic_output(path) as partial:
                partial.write_text(text, "utf-8")


if __name__ == "__main__":
    exit_on_user_error(main)
