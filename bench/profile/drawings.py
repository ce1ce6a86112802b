"""Two drawings of the profile: the steps of a start over time, and graphs under the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report import text
from bench.report.charts import WIDE
from bench.report.svg import Canvas, LinearScale, LogScale

_ROW = 24
_LETTER = 8.0  # px a letter of a bold label takes


def gantt(steps: Sequence[Mapping[str, Any]], width: int, cls: str) -> str:
    """One bar a step, from when it began to when it ended."""
    wide = width == WIDE
    left, row = (290, _ROW) if wide else (10, 2 * _ROW)
    canvas = Canvas(width, row * len(steps) + 34)
    scale = LinearScale(0.0, max(step["end_s"] for step in steps) * 1.001 + 1e-9, left, width - (86 if wide else 74))
    bottom = row * len(steps) + 4
    for mark in scale.ticks(5 if wide else 3):
        canvas.line(scale(mark), 2, scale(mark), bottom, "grid")
        canvas.text(scale(mark), bottom + 16, f"{mark:g} s", "t axis", "middle")
    for index, step in enumerate(steps):
        name, top = f"{step['process']}: {step['name']}", index * row + (4 if wide else _ROW)
        begin, end = scale(step["begin_s"]), scale(step["end_s"])
        took = text.duration(step["took_s"] * 1e9)
        canvas.rect(begin, top, max(1.5, end - begin), 15, f"step c-{step['process']}", f"{name}: {took}")
        canvas.text(end + 6, top + 12, took, "t soft")
        canvas.text(left - 12 if wide else left, top + 12 if wide else top - 6, name, "t", "end" if wide else "start")
    return canvas.render("Steps of the cold start over time", cls)


def roofline(roof: Mapping[str, Any], width: int, cls: str) -> str:
    """Operations a second over operations a byte, both logarithmic: the ceilings, and a dot for each graph."""
    graphs = [one for one in roof["graphs"] if one["intensity"] and one["reached_gops"]]
    peaks = roof["peaks"]
    wide = width == WIDE
    left, right, height = (64, 190, 330) if wide else (46, 12, 330)
    canvas = Canvas(width, height)
    knees = [peaks[key] / peaks["copy_gbs"] for key in ("fp32_gops", "u8s8_gops")]
    x = LogScale(
        min([0.1, *(one["intensity"] for one in graphs)]) / 1.5,
        max([*knees, *(one["intensity"] for one in graphs)]) * 4,
        left,
        width - right,
    )
    low = min([1.0, *(one["reached_gops"] for one in graphs)]) / 2
    y = LogScale(low, max(peaks["fp32_gops"], peaks["u8s8_gops"]) * 2, height - 44, 12)
    _axes(canvas, x, y, height, wide)
    for key, name in (("fp32_gops", "FP32"), ("u8s8_gops", "U8S8")):
        _roof(canvas, x, y, peaks["copy_gbs"], peaks[key], f"{name} {peaks[key]:.0f} Gop/s")
    for index, one in enumerate(graphs):
        cx, cy = x(one["intensity"]), y(one["reached_gops"])
        canvas.circle(cx, cy, 6, f"dot {('c-int8', 'c-fp32', 'c-teacher', 'c-stage')[index % 4]}")
        label = f"{one['name']}, {one['reached_gops']:.1f} Gop/s"
        beyond = cx + 10 + _LETTER * len(label) > width
        canvas.text(cx + (-10 if beyond else 10), cy + 4, label, "t strong", "end" if beyond else "start")
    return canvas.render("Roofline: operations a second over operations a byte", cls)


def _axes(canvas: Canvas, x: LogScale, y: LogScale, height: int, wide: bool) -> None:
    for mark in x.ticks((1,)):
        canvas.line(x(mark), 12, x(mark), height - 44, "grid")
        canvas.text(x(mark), height - 28, f"{mark:g}", "t axis", "middle")
    for mark in y.ticks((1,)):
        canvas.line(x.start, y(mark), x.end, y(mark), "grid")
        canvas.text(x.start - 8, y(mark) + 4, f"{mark:g}", "t axis", "end")
    canvas.text((x.start + x.end) / 2, height - 8, "operations a byte", "t soft", "middle")
    canvas.text(x.start + 6, 24, "Gop/s", "t soft")


def _roof(canvas: Canvas, x: LogScale, y: LogScale, gbs: float, gops: float, label: str) -> None:
    """Up with the speed of memory, then flat at the peak."""
    knee = min(max(gops / gbs, x.low), x.high)
    points = [(x.low, x.low * gbs), (knee, knee * gbs), (x.high, gops)]
    path = "".join(f"{'ML'[i > 0]}{x(px):.1f} {y(py):.1f}" for i, (px, py) in enumerate(points))
    canvas.path(path, "roof")
    canvas.text(x.end, y(gops) - 6, label, "t soft", "end")
