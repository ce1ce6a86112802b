"""The front of a search as an SVG of its own: latency to the right, share of the error budget up, both logarithmic.

Drawn from evidence/search.json, so that any search can be drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 880, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 300, 20, 48
LIST_IN, LIST_DOWN = 112, 4  # px from the axes to the list of names
LEAST_SHARE, MOST_SHARE = 1e-3, 1e3  # FP32 has no error and stands on the axis; one that is not finite, on top
LETTER, LINE = 6.6, 13.0  # px
STYLE = """
svg { background: #fff; font: 12px system-ui, "DejaVu Sans", sans-serif; }
text { fill: #14181f; } .soft { fill: #5b6675; }
.grid { stroke: #e3e7ec; } .limit { stroke: #c62f3b; stroke-dasharray: 5 4; }
.front { stroke: #0b8f7d; fill: none; stroke-width: 2; }
.dot { fill: #8d97a5; } .lead { fill: #0b8f7d; } .baseline { fill: #d97b0b; }
.chosen { fill: #0b8f7d; stroke: #14181f; stroke-width: 2; }
"""


def front_svg(evidence: Mapping[str, Any]) -> str:
    """The drawing of `report.evidence`."""
    rows = evidence["rows"]
    x = _scale([row["p50_ms"] for row in rows], LEFT, WIDTH - RIGHT)
    y = _scale([_share(row) for row in rows] + [1.0], HEIGHT - BOTTOM, TOP)
    parts = [*_axes(x, y), *_front(rows, evidence["front"], x, y), *_dots(rows, evidence, x, y)]
    label = escape(f"Latency and action error of {len(rows)} candidates", quote=True)
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    return f"{head}\n<style>{STYLE}</style>\n{body}\n</svg>\n"


class _Log:
    """A positive quantity to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)

    def marks(self) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        marks = [step * 10.0**exponent for exponent in exponents for step in (1, 2, 5)]
        return [mark for mark in marks if self.low <= mark <= self.high]


def _scale(values: Sequence[float], start: float, end: float) -> _Log:
    return _Log(min(values) / 1.25, max(values) * 1.25, start, end)


def _share(row: Mapping[str, Any]) -> float:
    share = row["share"]
    return MOST_SHARE if share is None else min(max(float(share), LEAST_SHARE), MOST_SHARE)


def _axes(x: _Log, y: _Log) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for mark in x.marks():
        parts.append(_line(x(mark), TOP, x(mark), bottom, "grid"))
        parts.append(_text(x(mark), bottom + 16, f"{mark:g}", "soft", "middle"))
    for mark in y.marks():
        if mark in (10.0 ** round(math.log10(mark)),):
            parts.append(_line(LEFT, y(mark), right, y(mark), "grid"))
            parts.append(_text(LEFT - 8, y(mark) + 4, f"{mark:g}", "soft", "end"))
    parts.append(_line(LEFT, y(1.0), right, y(1.0), "limit"))
    parts.append(_text(right + 8, y(1.0) + 4, "error budget", "soft"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 10, "latency p50, ms, one thread", "soft", "middle"))
    parts.append(_text(LEFT - 48, TOP - 6, "share of the error budget (p99)", "soft"))
    return parts


def _front(rows: Sequence[Mapping[str, Any]], names: Sequence[str], x: _Log, y: _Log) -> list[str]:
    by_name = {row["name"]: row for row in rows}
    points = [f"{x(by_name[name]['p50_ms']):.1f},{y(_share(by_name[name])):.1f}" for name in names]
    return [f'<polyline points="{" ".join(points)}" class="front"/>']


def _dots(rows: Sequence[Mapping[str, Any]], evidence: Mapping[str, Any], x: _Log, y: _Log) -> list[str]:
    """Each with a number, pushed down where it would cover another; the list on the right says which is which."""
    parts, taken = [], list[tuple[float, float, float]]()
    for number, row in enumerate(sorted(rows, key=lambda row: row["p50_ms"]), 1):
        right, down, look = x(row["p50_ms"]), y(_share(row)), _look(row, evidence)
        parts.append(f'<circle cx="{right:.1f}" cy="{down:.1f}" r="5" class="{look}"/>')
        start, end = right + 8, right + 8 + LETTER * len(str(number))
        place = _free(start, end, down - 6, taken)
        taken.append((start, end, place))
        parts.append(_text(start, place, str(number), "soft"))
        listed, line = WIDTH - RIGHT + LIST_IN, TOP + LIST_DOWN + number * (LINE + 4)
        parts.append(_text(listed, line, str(number), "soft", "end"))
        parts.append(_text(listed + 8, line, str(row["name"]) + (" (ships)" if look == "chosen" else ""), ""))
    return parts


def _free(start: float, end: float, line: float, taken: Sequence[tuple[float, float, float]]) -> float:
    """The first line from `line` downwards on which no label lies between start and end."""
    for low, high, other in sorted(taken, key=lambda label: label[2]):
        if low < end and start < high and abs(other - line) < LINE:
            line = other + LINE
    return line


def _look(row: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    if row["name"] == evidence["choice"]:
        return "chosen"
    if row["engine"] != "onnxruntime":
        return "baseline"
    return "lead" if row["name"] in evidence["front"] else "dot"


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{look}"/>'


def _text(x: float, y: float, words: str, look: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{look}" text-anchor="{anchor}">{escape(words)}</text>'
