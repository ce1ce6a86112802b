"""The curves as one SVG of small pictures, log by log: what was measured, the power law where it holds, the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.svg import Canvas, LogScale

Json = Mapping[str, Any]
WIDE, HIGH, COLUMNS = 330, 230, 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 44, 40
STYLE = """
.scaling{background:#fff;font:11px system-ui,sans-serif}.scaling .t{fill:#222}.scaling .head{font-weight:600;
font-size:13px}.scaling .soft{fill:#666}.scaling .grid{stroke:#ddd}.scaling .dot{fill:#1f6feb}
.scaling .curve{fill:none;stroke:#1f6feb;stroke-width:2}.scaling .band{stroke:#1f6feb;opacity:.45}
.scaling .law{fill:none;stroke:#d9730d;stroke-width:1.5;stroke-dasharray:5 4}
.scaling .limit{stroke:#c0392b;stroke-dasharray:2 3}
@media(prefers-color-scheme:dark){.scaling{background:#161b22}.scaling .t{fill:#e6edf3}.scaling .soft{fill:#9aa4af}
.scaling .grid{stroke:#30363d}}
"""


def svg(axes: Sequence[Json]) -> str:
    """One picture an axis, three in a row; `axes` as in scaling.json."""
    rows = math.ceil(len(axes) / COLUMNS)
    canvas = Canvas(WIDE * min(COLUMNS, max(1, len(axes))), HIGH * max(1, rows))
    for number, axis in enumerate(axes):
        _picture(canvas, axis, WIDE * (number % COLUMNS), HIGH * (number // COLUMNS))
    label = "Cost against " + ", ".join(str(axis["axis"]) for axis in axes)
    drawn = canvas.render(label, "scaling").replace(
        "<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" width="{canvas.width}" height="{canvas.height}" ', 1
    )
    return drawn.replace(">", f"><style>{STYLE}</style>", 1) + "\n"


def _picture(canvas: Canvas, axis: Json, left: float, top: float) -> None:
    canvas.text(left + _LEFT, top + 18, f"{axis['axis']} {'(' + axis['unit'] + ')' if axis['unit'] else ''}", "t head")
    canvas.text(left + _LEFT, top + 33, _words(axis), "t soft")
    points = [point for point in axis["points"] if point["p50"] > 0]
    if len(points) < 2:
        canvas.text(left + _LEFT, top + HIGH / 2, "not measured", "t soft")
        return
    costs = [value for point in points for value in (point["p50"], point["p99"]) if value > 0]
    limit = axis["limit"]
    ceiling = max(costs) * 1.3 if limit > 20 * max(costs) else max(*costs, limit) * 1.3
    x = LogScale(points[0]["value"], points[-1]["value"], left + _LEFT, left + WIDE - _RIGHT)
    y = LogScale(min(costs) / 1.3, ceiling, top + HIGH - _BOTTOM, top + _TOP)
    for mark in y.ticks((1, 2, 5)):
        canvas.line(x.start, y(mark), x.end, y(mark), "grid")
        canvas.text(x.start - 5, y(mark) + 4, f"{mark:g}", "t soft", "end")
    for point in points:
        canvas.text(x(point["value"]), top + HIGH - _BOTTOM + 15, f"{point['value']:g}", "t soft", "middle")
    if limit <= ceiling:
        canvas.line(x.start, y(limit), x.end, y(limit), "limit")
        canvas.text(x.end, y(limit) - 4, f"{axis['limit_is']}", "t soft", "end")
    _curve(canvas, axis, points, x, y)
    canvas.text(x.start, top + HIGH - 8, f"{axis['cost']} ({axis['cost_unit']}), dot p50, bar to p99", "t soft")


def _curve(canvas: Canvas, axis: Json, points: Sequence[Json], x: LogScale, y: LogScale) -> None:
    for point in points:
        canvas.line(x(point["value"]), y(point["p50"]), x(point["value"]), y(point["p99"]), "band")
        canvas.circle(x(point["value"]), y(point["p50"]), 3, "dot")
    canvas.path(_path([(x(p["value"]), y(p["p50"])) for p in points]), "curve")
    law = axis["power_law"]
    if law is not None:
        ends = [(value, law["factor"] * value ** law["exponent"]) for value in (law["first"], law["last"])]
        canvas.path(_path([(x(value), y(cost)) for value, cost in ends]), "law")


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _words(axis: Json) -> str:
    law = axis["power_law"]
    if law is None:
        return "no power law here"
    return f"~ value^{law['exponent']:.2f} ({law['low']:.2f} to {law['high']:.2f}) from {law['first']:g} on"
