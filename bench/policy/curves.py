"""Success against each disturbance as one SVG of small pictures: the teacher beside int8. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.data import as_number, rows
from bench.report.svg import Canvas, LinearScale
from edgevla.telemetry.stats import wilson_interval

Json = Mapping[str, Any]
Place = Callable[[Any], float]
WIDE, HIGH, COLUMNS = 330, 236, 3
LEGEND = 34  # px above the pictures
APART = 2.5  # px between the bars of the two policies at one level
LABEL = 6.2  # px a letter of an axis label takes
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 36, 44
POLICIES = {"teacher": "Teacher, FP32", "int8": "int8 in the loop"}
STYLE = """
.robustness{background:#fff;font:11px system-ui,sans-serif}.robustness .t{fill:#222}.robustness .head{font-weight:600;
font-size:13px}.robustness .soft{fill:#666}.robustness .grid{stroke:#ddd}
.robustness .curve{fill:none;stroke-width:2}.robustness .bar{stroke-width:1.5;opacity:.55}
.robustness .teacher{stroke:#c4600a;fill:#fff}.robustness .int8{stroke:#1f6feb;fill:#1f6feb}
.robustness .curve.teacher{fill:none;stroke-dasharray:5 3}.robustness .curve.int8{fill:none}
@media(prefers-color-scheme:dark){.robustness{background:#161b22}.robustness .t{fill:#e6edf3}
.robustness .soft{fill:#9aa4af}.robustness .grid{stroke:#30363d}.robustness .teacher{stroke:#f0883e;fill:#161b22}
.robustness .int8{stroke:#58a6ff;fill:#58a6ff}.robustness .curve{fill:none}}
"""


@dataclass(frozen=True)
class Point:
    """Of one policy at one level; `low`, `high`: Wilson's 95 % interval of its episodes."""

    level: Any
    share: float
    low: float
    high: float


def svg(found: Json) -> str:
    """One picture a curve of robustness.json, three in a row; success upwards from 0 to 100 %."""
    curves = rows(found, "curves")
    lines = max(1, math.ceil(len(curves) / COLUMNS))
    canvas = Canvas(WIDE * COLUMNS, LEGEND + HIGH * lines)
    _legend(canvas)
    for index, curve in enumerate(curves):
        _picture(canvas, curve, WIDE * (index % COLUMNS), LEGEND + HIGH * (index // COLUMNS))
    label = "Success against " + ", ".join(str(curve.get("name", "?")) for curve in curves)
    size = f'width="{canvas.width}" height="{canvas.height}"'
    drawn = canvas.render(label, "robustness").replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" {size} ', 1)
    return drawn.replace(">", f"><style>{STYLE}</style>", 1) + "\n"


def _legend(canvas: Canvas) -> None:
    left = float(_LEFT)
    for name, words in POLICIES.items():
        canvas.path(f"M{left:.1f},18.0L{left + 30:.1f},18.0", f"curve {name}")
        canvas.circle(left + 15, 18, 3.5, name)
        canvas.text(left + 38, 22, words)
        left += 38 + LABEL * len(words) + 30
    canvas.text(left, 22, "bar: 95 % interval of the episodes (Wilson)", "t soft")


def _picture(canvas: Canvas, curve: Json, left: float, top: float) -> None:
    unit = str(curve.get("unit") or "")
    canvas.text(left + _LEFT, top + 18, str(curve.get("name", "?")), "t head")
    levels = [point.get("level") for point in rows(curve, "points")]
    if not levels:
        canvas.text(left + _LEFT, top + HIGH / 2, "not measured", "t soft")
        return
    y = LinearScale(0.0, 1.0, top + HIGH - _BOTTOM, top + _TOP)
    ends = (left + _LEFT + 8, left + WIDE - _RIGHT)
    x = placed(levels, *ends)
    for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
        canvas.line(ends[0] - 8, y(mark), ends[1] + 8, y(mark), "grid")
        canvas.text(ends[0] - 13, y(mark) + 4, f"{100 * mark:.0f} %", "t soft", "end")
    _levels(canvas, levels, x, y.start + 15, left + WIDE)
    for name, aside in (("teacher", -APART), ("int8", APART)):
        _curve(canvas, points(curve, name), name, _aside(x, aside), y)
    canvas.text(ends[0] - 8, top + HIGH - 12, f"across: {unit or 'level'}; upwards: success (%)", "t soft")


def placed(levels: Sequence[Any], start: float, end: float) -> Place:
    """Where a level stands: on a scale where all of them are different numbers, else one after the other."""
    values = [as_number(level) for level in levels]
    known = [value for value in values if value is not None]
    if len(set(known)) == len(levels) > 1:
        scale = LinearScale(min(known), max(known), start, end)
        return lambda level: scale(float(level))
    steps = max(1, len(levels) - 1)
    order = [str(level) for level in levels]
    return lambda level: start + order.index(str(level)) * (end - start) / steps


def _aside(x: Place, by: float) -> Place:
    """The same places, some pixels to the right."""
    return lambda level: x(level) + by


def points(curve: Json, name: str) -> list[Point]:
    """Those of one policy that were measured, in their order."""
    found = []
    for point in rows(curve, "points"):
        share, episodes = as_number(point.get(name)), as_number(point.get("episodes"))
        if share is not None:
            played = int(episodes or 0)
            low, high = wilson_interval(round(share * played), played) if played else (share, share)
            found.append(Point(point.get("level"), share, low, high))
    return found


def _levels(canvas: Canvas, levels: Sequence[Any], x: Place, baseline: float, most: float) -> None:
    """Labels below the axis, up to `most`; one that would run into the one before it is left out."""
    free = -math.inf
    for level in levels:
        words = _words(level)
        half = LABEL * len(words) / 2
        middle = min(x(level), most - half)
        if middle - half >= free:
            canvas.text(middle, baseline, words, "t soft", "middle")
            free = middle + half + 4


def _words(level: Any) -> str:
    value = as_number(level)
    return str(level) if value is None else f"{value:g}"


def _curve(canvas: Canvas, found: Sequence[Point], name: str, x: Place, y: LinearScale) -> None:
    for point in found:
        canvas.line(x(point.level), y(point.low), x(point.level), y(point.high), f"bar {name}")
    if len(found) > 1:
        line = "L".join(f"{x(point.level):.1f},{y(point.share):.1f}" for point in found)
        canvas.path(f"M{line}", f"curve {name}")
    for point in found:
        canvas.circle(x(point.level), y(point.share), 3.5, name)
