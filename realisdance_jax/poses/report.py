"""One HTML file without any other: tables, plots drawn as SVG, pictures inside.

Nothing is loaded from elsewhere and no script runs, so it can be mailed and opened anywhere.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np

from realisdance_jax.shapes import Bool, Float, UInt8, typechecked

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 860, 200, 64, 22, 10
_ROW = 14
_INK = ("#1f6fb4", "#d1495b", "#2e8b57", "#8a5fbf", "#c98a1b", "#4d4d4d")
_MOST_POINTS = 2000
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:920px;margin:2em auto;padding:0 1em;"
    "color:#222}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}"
    "table{border-collapse:collapse}td,th{padding:2px 12px 2px 0;text-align:left;"
    "border-bottom:1px solid #ddd;vertical-align:top}svg,img{max-width:100%;height:auto;"
    "display:block}details{margin:.6em 0}figcaption{color:#555;font-size:13px}figure{margin:1em 0}"
    "ul{padding-left:1.2em}.key{display:inline-block;width:10px;height:10px;margin:0 4px 0 12px}"
)


@typechecked
def page(title: str, sections: Iterable[tuple[str, str]]) -> str:
    """The whole file. sections: heading and HTML made by the functions below."""
    parts = [f"<section><h2>{_text(name)}</h2>{content}</section>" for name, content in sections]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{_text(title)}</h1>{''.join(parts)}</body></html>\n"
    )


@typechecked
def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are shown as text, whatever they hold."""
    names = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


@typechecked
def folded(title: str, content: str) -> str:
    """Content that opens at a click on the title; made by the functions of this file."""
    return f"<details><summary>{_text(title)}</summary>{content}</details>"


@typechecked
def bullets(lines: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


@typechecked
def picture(pixels: UInt8[np.ndarray, "H W 3"], caption: str) -> str:
    """A picture (RGB), kept inside as PNG."""
    _, coded = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))
    data = base64.b64encode(coded.tobytes()).decode("ascii")
    return _figure(f'<img alt="" src="data:image/png;base64,{data}">', caption)


@typechecked
def lines(series: Mapping[str, Float[np.ndarray, " f"]], caption: str) -> str:
    """Curves over frames; NaN interrupts a curve. Very long ones are thinned out evenly."""
    values = [curve[np.isfinite(curve)] for curve in series.values()]
    known = np.concatenate([*values, np.zeros(0)])
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    count = max((len(curve) for curve in series.values()), default=1)
    bottom = _HEIGHT - _BOTTOM
    parts = [_axes(count, low, high, bottom)]
    for ink, curve in zip(_cycled(len(series)), series.values(), strict=True):
        step = max(1, len(curve) // _MOST_POINTS)
        frames = np.arange(0, len(curve), step)
        x = _LEFT + frames * (_WIDTH - _LEFT - 8) / max(count - 1, 1)
        y = bottom - (curve[frames] - low) / (high - low) * (bottom - _TOP)
        parts += [_polyline(points, ink) for points in _pieces(x, y)]
    keys = "".join(
        f'<span class="key" style="background:{ink}"></span>{_text(name)}'
        for ink, name in zip(_cycled(len(series)), series, strict=True)
    )
    return _figure(_svg(_HEIGHT, "".join(parts)), caption, keys)


@typechecked
def strips(rows: Mapping[str, Bool[np.ndarray, " f"]], caption: str) -> str:
    """One bar per row: filled in the frames in which it is true."""
    parts = []
    for number, (name, mask) in enumerate(rows.items()):
        top, unit = number * _ROW + 2, (_WIDTH - 2 * _LEFT - 8) / max(len(mask), 1)
        left, height = 2 * _LEFT, _ROW - 4
        parts.append(f'<text x="0" y="{top + 9}" font-size="11">{_text(name)}</text>')
        parts.append(_box(left, top, unit * len(mask), height, "#eee"))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
        for first, last in edges.reshape(-1, 2).tolist():
            parts.append(_box(left + unit * first, top, unit * (last - first), height, _INK[0]))
    return _figure(_svg(len(rows) * _ROW + 4, "".join(parts)), caption)


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _figure(content: str, caption: str, keys: str = "") -> str:
    return f"<figure>{content}<figcaption>{_text(caption)}{keys}</figcaption></figure>"


def _svg(height: int, content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" font-size="11">{content}</svg>'


def _box(x: float, y: float, width: float, height: float, ink: str) -> str:
    size = f'width="{max(width, 0.5):.2f}" height="{height:.0f}"'
    return f'<rect x="{x:.2f}" y="{y:.0f}" {size} fill="{ink}"/>'


def _cycled(count: int) -> list[str]:
    return [_INK[k % len(_INK)] for k in range(count)]


def _axes(count: int, low: float, high: float, bottom: int) -> str:
    right, foot = _WIDTH - 8, _HEIGHT - 6
    return (
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#999"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{high:.4g}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{low:.4g}</text>'
        f'<text x="{_LEFT}" y="{foot}">frame 0</text>'
        f'<text x="{right}" y="{foot}" text-anchor="end">{max(count - 1, 0)}</text>'
    )


def _pieces(x: np.ndarray, y: np.ndarray) -> list[list[tuple[float, float]]]:
    """Points of every stretch without NaN."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in zip(x.tolist(), y.tolist(), strict=True):
        if np.isfinite(point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _polyline(points: list[tuple[float, float]], ink: str) -> str:
    if len(points) == 1:
        x, y = points[0]
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5" fill="{ink}"/>'
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{text}" fill="none" stroke="{ink}" stroke-width="1.3"/>'
