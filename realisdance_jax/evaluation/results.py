"""What an evaluation leaves: results.json, and one page that needs no other file."""

import base64
import dataclasses
import html
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from realisdance_jax.data.video_io import VideoWriter
from realisdance_jax.evaluation.compare import Results, side_by_side
from realisdance_jax.evaluation.meanings import explained, meaning
from realisdance_jax.evaluation.measure import compare, corrupted, summarise
from realisdance_jax.poses import report
from realisdance_jax.utils.files import atomic_files

FPS = 12.0
JSON, PAGE = "results.json", "index.html"


def make_record(
    results: Results, models: Sequence[str], settings: dict[str, Any], seed: int
) -> dict[str, Any]:
    """All that was found, with the settings that reproduce it; NaN is null."""
    record = {
        "settings": settings,
        "summary": summarise(results.rows, seed),
        "differences": compare(results.rows, models, seed),
        "corrupted": corrupted(results.rows, seed),
        "sets": results.sets,
        "rows": [dataclasses.asdict(row) for row in results.rows],
    }
    return _without_nan(record)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_results(out: Path, results: Results, record: dict[str, Any]) -> list[Path]:
    """Write both files into `out`, together."""
    out.mkdir(parents=True, exist_ok=True)
    with atomic_files(out, (JSON, PAGE)) as draft:
        text = json.dumps(record, indent=1, allow_nan=False) + "\n"
        (draft / JSON).write_text(text, "utf-8")
        (draft / PAGE).write_text(make_page(results, record), "utf-8")
    return [out / JSON, out / PAGE]


def make_page(results: Results, record: dict[str, Any]) -> str:
    """Tables, curves over the strength of corruptions, videos; settings in the end."""
    sections = [("Means over clips", _means(record["summary"]))]
    if record["sets"]:
        rows = [
            (model, name, f"{found['value']:.2f}", meaning(name).better, found["n"])
            for model, names in record["sets"].items()
            for name, found in names.items()
        ]
        head = ("model", "distance", "value", "better", "samples")
        sections.append(("Distances between sets", report.table(head, rows)))
    if record["differences"]:
        content = _differences(record["differences"], "theirs", "against")
        sections.append(("First model less the others", content))
    if record["corrupted"]:
        content = report.folded("all", _differences(record["corrupted"], "model", "model"))
        sections.append(("Wrong poses less true ones", content))
    if curves := _curves(record["summary"]):
        sections.append(("Under corruption", curves))
    films = "".join(_film(title, videos) for title, videos in results.videos.items())
    sections.append(("Videos", films))
    settings = json.dumps(record["settings"], indent=1)
    sections.append(("Settings", f"<pre>{html.escape(settings)}</pre>"))
    return report.page(f"Evaluation: {record['settings']['protocol']}", sections)


def _number(entry: dict[str, Any]) -> str:
    if entry["low"] is None:
        return f"{entry['mean']:.4g}"
    return f"{entry['mean']:.4g} ({entry['low']:.4g} to {entry['high']:.4g})"


def _means(summary: list[dict[str, Any]]) -> str:
    models = list(dict.fromkeys(entry["model"] for entry in summary))
    parts = []
    for case in dict.fromkeys(entry["case"] for entry in summary):
        names = list(dict.fromkeys(e["metric"] for e in summary if e["case"] == case))
        cells = {(e["metric"], e["model"]): _number(e) for e in summary if e["case"] == case}
        rows = [
            (name, *meaning(name), *(cells.get((name, model), "") for model in models))
            for name in names
        ]
        clips = max(e["n"] for e in summary if e["case"] == case)
        head = (f"mean of {clips} clips (95 % interval)", "unit", "better", *models)
        table = report.table(head, rows)
        parts.append(table if case == "true" else report.folded(case, table))
    return "".join(parts)


def _differences(found: list[dict[str, Any]], model: str, title: str) -> str:
    rows = [
        (
            *(e[model], e["case"], e["metric"], meaning(e["metric"]).better, _number(e)),
            *("yes" if e["clear"] else "no", e["n"]),
        )
        for e in found
    ]
    interval = "mean (95 % interval)"
    head = (title, "case", "metric", "better", interval, "excludes zero", "clips")
    return report.table(head, rows)


def _curves(summary: list[dict[str, Any]]) -> str:
    """Per corruption and metric: the mean over strengths, evenly spaced, 0 first."""
    corrupted = dict.fromkeys(e["case"].rpartition(" ")[0] for e in summary if e["case"] != "true")
    cells = {(e["model"], e["case"], e["metric"]): e["mean"] for e in summary}
    parts = []
    for what in corrupted:
        cases = [e["case"] for e in summary if e["case"].rpartition(" ")[0] == what]
        ordered = ["true", *sorted(dict.fromkeys(cases), key=lambda case: float(case.split()[-1]))]
        for metric in ("psnr_person", "psnr_hands", "jitter_person", f"gate_{what.split()[0]}"):
            series = {
                model: np.array([cells.get((model, case, metric), np.nan) for case in ordered])
                for model in dict.fromkeys(model for model, _, _ in cells)
                if (model, ordered[-1], metric) in cells
            }
            if series:
                shares = ", ".join(case.split()[-1].replace("true", "0") for case in ordered)
                caption = f"{explained(metric)}; share of frames with a wrong {what}: {shares}"
                parts.append(report.lines(series, caption))
    return "".join(parts)


def _film(title: str, videos: Mapping[str, np.ndarray]) -> str:
    frames = side_by_side(list(videos.values()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with VideoWriter(path, FPS, frames[0].shape[:2]) as writer:
            for frame in frames:
                writer.write(frame)
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    source = f"data:video/mp4;base64,{data}"
    film = f'<video controls loop muted width="100%" src="{source}"></video>'
    caption = html.escape(f"{title}: {', '.join(videos)}")
    return f"<figure>{film}<figcaption>{caption}</figcaption></figure>"
