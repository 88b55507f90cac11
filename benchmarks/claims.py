"""The table of the paper's claims, `python -m benchmarks.claims`; `make claims` measures, too.

Reads what `evaluate` wrote, of ours, the baseline and the ablations on the same clips with the same
seeds, and holds it against thresholds that were written here before any result was known; which of
ours the ablations are held against was not. A row without a result says so; one that fails is shown
as it is.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realisdance_jax.config import ABLATIONS
from realisdance_jax.evaluation.compare import COPY
from realisdance_jax.metrics.paired import Difference, paired_difference
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import UserError, exit_on_user_error

OURS, BASE = "ours", "base"
HALF = "0.5"
SHORT = "ours_short"
"""Ours with the steps and timesteps of the ablations, where the recipe ends ours otherwise."""

CLIPS = {OURS: 32, BASE: 32, **dict.fromkeys(ABLATIONS, 16)}
"""Least number of clips of a comparison."""

LEVELS = (OURS, BASE, SHORT, *ABLATIONS)
"""Models of the second table, in its order."""

OWN = ("weights", "clips", "strengths", "kinds", "cases")
"""Settings that each file may have of its own."""

THIRD, TWO_THIRDS, SMOOTHER = 1 / 3, 2 / 3, 0.7

Values = Callable[[str, str, str], np.ndarray]
"""(model, case, metric) -> one number per clip, in the order of clips."""


@dataclass(frozen=True)
class Claim:
    """One row. found: paired difference; passes where `wanted` holds: below, or above zero."""

    text: str
    against: str
    found: Difference
    wanted: str

    @property
    def verdict(self) -> str:
        """pass, fail, or not measured."""
        if self.found.count < CLIPS[self.against]:
            return "not measured"
        below, above = self.found.high < 0, self.found.low > 0
        return "pass" if (below if self.wanted == "below" else above) else "fail"


def values_of(records: Sequence[dict]) -> Values:
    """Numbers of the rows of `results.json` files; NaN where a clip has none."""
    found = {
        (row["model"], row["case"], name, row["clip"]): value
        for record in records
        for row in record["rows"]
        for name, value in row["metrics"].items()
    }
    clips = range(1 + max((key[3] for key in found), default=-1))

    def values(model: str, case: str, metric: str) -> np.ndarray:
        numbers = (found.get((model, case, metric, clip)) for clip in clips)
        return np.array([np.nan if x is None else x for x in numbers], np.float64)

    return values


def drop(values: Values, model: str, condition: str) -> np.ndarray:
    """PSNR of the character lost when half of the frames of a condition are wrong."""
    name = "psnr_person"
    return values(model, "true", name) - values(model, f"{condition} {HALF}", name)


def make_claims(values: Values, peer: str = OURS, seed: int = 0) -> list[Claim]:
    """Every row of the table, in the order of the claims.

    peer: what ablations are held against, `OURS` or `SHORT`.
    """
    peers = {OURS: OURS, BASE: OURS, **dict.fromkeys(ABLATIONS, peer)}

    def row(text: str, against: str, ours: np.ndarray, theirs: np.ndarray, wanted: str) -> Claim:
        return Claim(text, against, paired_difference(ours, theirs, seed), wanted)

    claims = []
    for condition in ("dwpose", "smpl", "hamer"):
        wrong = f"{condition} {HALF}"
        others = ((BASE, THIRD, "a third"),) if condition == "dwpose" else ()
        for other, share, words in (*others, ("no_gate", TWO_THIRDS, "two thirds")):
            text = f"PSNR lost to wrong {condition}: at most {words} of {other}'s"
            ours, theirs = (drop(values, model, condition) for model in (peers[other], other))
            claims.append(row(text, other, ours, share * theirs, "below"))
        weights = [values(OURS, wrong, f"gate_{condition}_{k}") for k in ("wrong", "intact")]
        text = f"gate weight of {condition} falls on its wrong frames"
        claims.append(row(text, OURS, weights[0], weights[1], "below"))
    for metric in ("psnr_hands", "ssim_hands"):
        for other in (BASE, "no_hamer"):
            pair = (values(model, "true", metric) for model in (peers[other], other))
            claims.append(row(f"{metric} above {other}'s", other, *pair, "above"))
    for other, share in ((BASE, SMOOTHER), ("no_pose_motion", 1.0)):
        case, name = f"dwpose jitter {HALF}", "jitter_person"
        ours, theirs = (values(model, case, name) for model in (peers[other], other))
        text = f"jitter under trembling dwpose below {share:g} x {other}'s"
        claims.append(row(text, other, ours, share * theirs, "below"))
    for other in ABLATIONS:
        pair = (values(model, "true", "psnr_person") for model in (peers[other], other))
        claims.append(row(f"PSNR of the character above {other}'s", other, *pair, "above"))
    return claims


def make_table(claims: Sequence[Claim]) -> str:
    """Markdown."""
    lines = ["| claim | difference (95 % interval) | clips | verdict |", "|---|---|---|---|"]
    for claim in claims:
        found = claim.found
        numbers = f"{found.mean:.3g} ({found.low:.3g} to {found.high:.3g})" if found.count else ""
        lines.append(f"| {claim.text} | {numbers} | {found.count} | {claim.verdict} |")
    return "\n".join(lines) + "\n"


SHARES = ("true", "dwpose 0.1", "dwpose 0.25", "dwpose 0.5", "hamer 0.5", "smpl 0.5")


def make_levels(values: Values, models: Sequence[str]) -> str:
    """Markdown: PSNR inside the character by model and case, means over its clips."""
    lines = [f"| dB inside the character | {' | '.join(SHARES)} |", "|---" * 7 + "|"]
    for model in models:
        every = (values(model, case, "psnr_person") for case in SHARES)
        known = [found[np.isfinite(found)] for found in every]
        cells = [f"{found.mean():.2f}" if found.size else "" for found in known]
        if clips := max(found.size for found in known):
            lines.append(f"| {model}, {clips} clips | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


KEPT = ("psnr", "ssim_hands", "jitter_person", "gesture_right", "gate_", "wrong_")
"""Of the metrics, what `make_numbers` keeps."""


def make_numbers(records: Sequence[dict]) -> dict:
    """What the tables are made of: settings, and by model, case and metric a number per clip.

    Models are those of weights, and the first record's copy of the reference.
    """
    first = records[0]["settings"]
    found: dict = {"settings": {k: v for k, v in first.items() if k not in OWN}, "weights": {}}
    for record in records:
        values, weights = values_of([record]), record["settings"]["weights"]
        found["weights"] |= weights
        every = {(r["model"], r["case"], n) for r in record["rows"] for n in r["metrics"]}
        for model, case, name in sorted(every):
            measured = model in weights or (model == COPY and record is records[0])
            if measured and name.startswith(KEPT):
                numbers = [
                    float(f"{x:.5g}") if np.isfinite(x) else None for x in values(model, case, name)
                ]
                found.setdefault(model, {}).setdefault(case, {})[name] = numbers
    return found


def make_report(records: Sequence[dict], peer: str = OURS) -> str:
    """Both tables, and what rows about ablations are of. peer: as in `make_claims`."""
    values = values_of(records)
    about = (
        f"Rows that name an ablation ({', '.join(ABLATIONS)}) are of {peer}, others of {OURS}.\n"
    )
    tables = make_table(make_claims(values, peer)), make_levels(values, LEVELS)
    return "\n".join((tables[0], about, tables[1]))


MOST_CLIPS = 100_000
"""Numbers of clips are walked through, so that a wrong one must not be huge."""


def check_rows(rows: list) -> None:
    """Raise `ValueError` or `TypeError` unless each has a clip's number, and numbers or null."""
    if not rows:
        raise ValueError("expected rows")
    for row in rows:
        numbers = [x for x in row["metrics"].values() if x is not None]
        names = (row["model"], row["case"], *row["metrics"])
        whole = isinstance(row["clip"], int) and 0 <= row["clip"] < MOST_CLIPS
        if not whole or not all(isinstance(name, str) for name in names):
            raise ValueError("expected a row of results")
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("expected numbers")


def read_records(paths: Sequence[Path]) -> list[dict]:
    """Files of `evaluate --protocol robust`; `UserError` for others, or other settings.

    Models, clips and corruptions may differ: rows say which they are of. But a name stands for the
    same weights in all of them.
    """
    records, known = [], {}
    for path in paths:
        try:
            record = json.loads(path.read_text("utf-8"))
            settings = {k: v for k, v in record["settings"].items() if k not in OWN}
            settings["data"] = settings["data"].rsplit(" ", 1)[0]  # the number of clips may differ
            weights = dict(record["settings"]["weights"])
            protocol = settings["protocol"]
            check_rows(record["rows"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(f"{path}: expected results of evaluate, found none") from None
        if protocol != "robust":
            raise UserError(f"{path}: expected the protocol robust, found {protocol}")
        for model, found in weights.items():
            if known.setdefault(model, found) != found:
                raise UserError(f"{path}: {model}: expected weights {known[model]}, found {found}")
        if records and settings != records[0][0]:
            raise UserError(f"{path}: expected the settings of {paths[0]}, found others")
        records.append((settings, record))
    return [record for _, record in records]


def main() -> None:
    parser = Parser(prog="benchmarks.claims", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="results.json of evaluate")
    which = "model that ablations are held against; ours_short is ours trained like them"
    parser.add_argument("--peer", choices=(OURS, SHORT), default=OURS, help=which)
    options = parser.parse_args()
    print(make_report(read_records(options.results), options.peer), end="")


if __name__ == "__main__":
    exit_on_user_error(main)
