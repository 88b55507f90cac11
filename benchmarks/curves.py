"""Training curves as PNG: `python -m benchmarks.curves runs/embedded`.

One picture per stage of what `make embedded` trained (or other run folders), with seeds, device and
command below. Drawn with OpenCV: what the results folder needs and no more.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.run_logs import Scalars, read_run, read_table
from realisdance_jax.checkpoints.run import CONFIG, is_run
from realisdance_jax.data.images import save_png
from realisdance_jax.training.part_run import CURVES, SETTINGS
from realisdance_jax.training.parts import DECODER, PARTS
from realisdance_jax.utils.cli import Parser
from realisdance_jax.utils.errors import UserError, exit_on_user_error

SIZE, MARGIN = (480, 720), (40, 60)
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14))
COLOURS = (*COLOURS, (23, 190, 207), (140, 86, 75), (90, 90, 90))
FONT = cv2.FONT_HERSHEY_SIMPLEX
LINE = 18
"""Pixels of a line of the caption."""

SHARE = 50
"""Curves show running means over this part of their points."""

STAGES = {1: "image stage", 2: "video stage"}

Curve = tuple[Sequence[float], Sequence[float]]


def _write(canvas: np.ndarray, text: str, x: float, y: float, colour=(60, 60, 60)) -> None:
    cv2.putText(canvas, text, (int(x), int(y)), FONT, 0.42, colour, 1, cv2.LINE_AA)


def plot(
    path: Path,
    title: str,
    curves: Mapping[str, Curve],
    axes: tuple[str, str],
    caption: Sequence[str] = (),
    logarithmic: bool = False,
) -> None:
    """Curves (x values, y values) by name; y starts at 0, or is logarithmic. caption: below."""
    height, width = SIZE
    top, left = MARGIN
    inner = height - 2 * top, width - left - 20
    canvas = np.full((height + LINE * len(caption), width, 3), 255, np.uint8)
    longest = max(float(np.max(x)) for x, _ in curves.values())
    values = np.concatenate([np.asarray(y, float) for _, y in curves.values()])
    low, high = 0.0, 1.05 * float(values.max())
    if logarithmic:
        low, high = np.log10(values.min()) - 0.02, np.log10(values.max()) + 0.02
    _write(canvas, title, left, top - 16, (0, 0, 0))
    for i in range(6):
        y, level = top + inner[0] * (1 - i / 5), low + (high - low) * i / 5
        cv2.line(canvas, (left, int(y)), (left + inner[1], int(y)), (225, 225, 225), 1)
        _write(canvas, f"{10**level if logarithmic else level:.3g}", 8, y + 4)
        x = left + inner[1] * i / 5
        _write(canvas, f"{longest * i / 5:.0f}", x - 8 - 18 * (i == 5), height - top + 18)
    _write(canvas, axes[0], left + inner[1] / 2, height - 6)
    _write(canvas, axes[1], 8, top - 16)
    for number, (name, (x, y)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        shown = np.log10(y) if logarithmic else np.asarray(y, float)
        across = left + inner[1] * np.asarray(x, float) / longest
        down = top + inner[0] * (1 - (shown - low) / (high - low))
        points = np.stack([across, down], axis=1).round().astype(np.int32)
        cv2.polylines(canvas, [points], False, colour, 2, cv2.LINE_AA)
        _write(canvas, name, left + inner[1] - 230, top + 16 * (number + 1), colour)
    for number, line in enumerate(caption):
        _write(canvas, line, 8, height + LINE * number + 8)
    save_png(path, canvas)


def smoothed(points: Mapping[int, float], share: int = SHARE) -> Curve:
    """Running means over 1/share of the points, at the steps in the middle; NaNs are left out."""
    known = [(step, value) for step, value in points.items() if np.isfinite(value)]
    steps, values = (np.array(column, float) for column in zip(*known, strict=True))
    window = np.ones(max(1, len(values) // share))
    return tuple(np.convolve(x, window / len(window), "valid").tolist() for x in (steps, values))


def run_label(config: Mapping[str, Any]) -> str:
    """Seed and least timestep: losses among other timesteps do not compare."""
    least = config.get("loss", {}).get("least_timestep", 0)
    return f"seed {config['seed']}" + (f", timesteps from {least}" if least else "")


def find_runs(folders: Sequence[Path]) -> dict[str, dict[str, tuple[str, Scalars]]]:
    """By stage and run: its settings and what it logged. Folders: runs, `train_parts`, or of them.

    Raises `UserError` where none has logged anything.
    """
    nested = [child for folder in folders if folder.is_dir() for child in sorted(folder.iterdir())]
    found: dict[str, dict[str, tuple[str, Scalars]]] = {}
    for folder in (*folders, *nested):
        if is_run(folder):
            config, logged = json.loads((folder / CONFIG).read_text("utf-8")), read_run(folder)
            if logged:
                entry = run_label(config), logged
                found.setdefault(STAGES[config["stage"]], {})[folder.name] = entry
        elif (folder / SETTINGS).is_file():
            settings = run_label(json.loads((folder / SETTINGS).read_text("utf-8")))
            for part in (*PARTS, DECODER):
                if (folder / part / CURVES).is_file():
                    entry = settings, read_table(folder / part / CURVES)
                    found[part.replace("_", " ")] = {part: entry}
    if not found:
        raise UserError(f"{folders[0]}: expected training runs, found none")
    return found


def recorded_devices(folders: Sequence[Path]) -> dict[str, str]:
    """Devices by step as `benchmarks.embedded` wrote them; the parts are one step."""
    total: dict[tuple[str, str], float] = defaultdict(float)
    for path in (folder / "times.tsv" for folder in folders):
        for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
            if entry := re.fullmatch(r"([^\t]+)\t([0-9.]+)\t([^\t]+)", line):
                total[entry[1], entry[3]] += float(entry[2])
    found: dict[str, str] = {}
    for (name, device), seconds in total.items():
        words = f"{device}, {seconds / 60:.0f} min"
        found[name] = f"{found[name]}; {words}" if name in found else words
    return {**dict.fromkeys(PARTS, found.get("parts", "")), **found}


def draw_stage(
    out: Path, stage: str, runs: dict[str, tuple[str, Scalars]], devices: dict[str, str], words: str
) -> Path:
    """`training_STAGE.png`: the loss of every run of a stage."""
    losses = {name: scalars["loss"] for name, (_, scalars) in runs.items()}
    curves = {
        name: smoothed(loss) for name, loss in losses.items() if np.isfinite([*loss.values()]).any()
    }
    if not curves:
        raise UserError(f"{stage}: expected losses, found none in {', '.join(runs)}")
    lines = [
        f"{name}: {settings}, {devices.get(name) or 'device not recorded'}"
        for name, (settings, _) in runs.items()
    ]
    caption = [*lines, words, f"running means over 1/{SHARE} of the logged values"]
    path = out / f"training_{stage.replace(' ', '_')}.png"
    plot(path, f"loss, {stage}", curves, ("step", "loss"), caption, logarithmic=True)
    return path


def main() -> None:
    parser = Parser(prog="benchmarks.curves", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders of them")
    parser.add_argument("--device", help="what they ran on, where times.tsv does not tell")
    parser.add_argument("--command", default="make embedded ABLATIONS=1", help="that trained them")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    devices = recorded_devices(options.runs)
    for stage, runs in find_runs(options.runs).items():
        known = {name: devices.get(name) or options.device or "" for name in runs}
        print(draw_stage(options.out, stage, runs, known, f"command: {options.command}"))


if __name__ == "__main__":
    exit_on_user_error(main)
