"""The drawings of the guard's report: histograms per stage, the steps of the ladder, the blocks of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from bench.hdr import decoded
from bench.report import parts
from bench.report.charts import WIDE, Series, Ticks, both_widths, latency_ridges, tick_raster
from bench.report.svg import Canvas, LinearScale, LogScale, round_duration

Document = Mapping[str, Any]
_CAMERA, _SERVO = ("capture", "age"), ("reply", "release", "wake", "bus", "ack")
KEY = (("camera", "c-fp32"), ("policy", "c-int8"), ("servo and bus", "c-teacher"), ("end to end", "c-whole"))
_PHASES = ("start", "track", "slow", "hold", "latched", "torque", "disarmed")
_SHORTEST_NS = 1000.0  # what is shorter is drawn at the left end: slack of 0 would stretch the axis
_LEAST_US = 1.0  # of a block
_LABEL = 62  # px that a label of the ladder needs
STYLE = """
.c-whole { --c: var(--soft); }
.key i.limit-key { background: none; border-top: 2px dashed var(--bad); border-radius: 0; width: 16px; height: 0; }
.key i.limit-key { vertical-align: middle; }
.key i.base-key { background: none; border: 1.4px solid var(--soft); }
.phase { stroke: var(--card); stroke-width: 1; }
.p-start, .p-disarmed { fill: var(--line); } .p-track { fill: var(--stage); }
.p-slow { fill: var(--fp32); } .p-hold { fill: var(--teacher2); } .p-latched, .p-torque { fill: var(--bad); }
.key i.p-start { background: var(--line); } .key i.p-track { background: var(--stage); }
.key i.p-slow { background: var(--fp32); } .key i.p-hold { background: var(--teacher2); }
.key i.p-latched, .key i.p-torque { background: var(--bad); } .key i.p-disarmed { background: var(--line); }
.blocks { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 14px 26px; margin: 10px 0; }
.blocks figure { margin: 0; min-width: 0; } .blocks figcaption { font-size: 13.5px; font-weight: 600; }
.blocks figcaption small { font-weight: 400; color: var(--soft); }
.trend { fill: none; stroke: var(--c); stroke-width: 1.8; } .trend.p99 { stroke-dasharray: 4 3; }
.top { fill: none; stroke: var(--c); stroke-width: 1.4; stroke-opacity: .75; }
.verdict { border-radius: 12px; padding: 16px 20px; margin-top: 18px; }
.verdict b { font-size: 24px; line-height: 1.2; display: block; letter-spacing: -.01em; }
.verdict p { margin: 4px 0 0; max-width: 92ch; }
.verdict ul { margin: 6px 0 0; padding-left: 20px; } .verdict li { overflow-wrap: anywhere; }
.verdict.good { background: var(--good-bg); color: var(--good); }
.verdict.bad { background: var(--bad-bg); color: var(--bad); }
.verdict.open { background: var(--warn-bg); color: var(--warn); }
"""


def histograms(stages: Document, limits_us: Mapping[str, float], base: Document | None = None) -> str:
    """One row a stage on a logarithmic axis; with `base`, its outline behind, each to its own height."""
    found = {name: decoded(stage["hdr"]) for name, stage in stages.items()}
    theirs = {name: decoded(base[name]["hdr"]) for name in found if base and name in base}
    drawn = np.concatenate([one.values for one in (*found.values(), *theirs.values())])
    floor_ns = float(drawn[drawn >= _SHORTEST_NS].min(initial=1e6))
    rows = []
    for name, one in found.items():
        other = theirs.get(name)
        behind = Series(name, np.maximum(other.values, floor_ns), "", other.counts) if other else None
        limit_ns = limits_us[name] * 1e3 if name in limits_us else None
        rows.append(Series(name, np.maximum(one.values, floor_ns), _colour(name), one.counts, behind, limit_ns))
    key = parts.key(KEY)
    extra = '<span><i class="limit-key"></i>limit</span>' if limits_us else ""
    extra += '<span><i class="base-key"></i>base</span>' if base else ""
    return key.replace("</div>", f"{extra}</div>") + both_widths(latency_ridges, rows)


def _colour(stage: str) -> str:
    if stage in _CAMERA:
        return "c-fp32"
    return "c-teacher" if stage in _SERVO else "c-whole" if stage == "sensor-to-bus" else "c-int8"


def raster(ticks: Document) -> str:
    """Wake of every servo step; release misses from above, servo misses below the axis."""
    drawn = Ticks(
        np.array(ticks["wake_us"], np.float64) * 1e3,
        ticks["period_us"] / 1e6,
        _first_of_each(ticks["release_misses"]),
        (),
        ticks["period_us"] * 1e3 / 2,
        ticks["servo_misses"],
        "servo step",
    )
    return both_widths(tick_raster, drawn)


def _first_of_each(places: Sequence[int]) -> list[int]:
    """A missed release holds for all servo steps of its tick: one mark."""
    return [place for before, place in pairwise([-2, *places]) if place != before + 1]


def ladder(events: Sequence[Document]) -> str:
    """A bar each segment, coloured by the phase of the ladder; time since arming."""
    shown = [phase for phase in _PHASES if any(event["phase"] == phase for event in events)]
    return parts.key([(phase, f"p-{phase}") for phase in shown]) + both_widths(_ladder, events)


def _ladder(events: Sequence[Document], width: int, cls: str) -> str:
    segments = sorted({event["segment"] for event in events})
    wide, row = width == WIDE, 46
    end_s = max(max(event["at_s"] for event in events) * 1.01, 0.1)
    scale = LinearScale(0.0, end_s, 96 if wide else 6, width - 12)
    canvas = Canvas(width, row * len(segments) + 26)
    bottom = row * len(segments) + 4
    for mark in scale.ticks(8 if wide else 4):
        canvas.line(scale(mark), 2, scale(mark), bottom, "grid")
        canvas.text(scale(mark), bottom + 16, f"{mark:g} s", "t axis", "middle")
    for place, segment in enumerate(segments):
        own = [event for event in events if event["segment"] == segment]
        top = place * row + 20
        canvas.text(
            84 if wide else 6, top + 12 if wide else top - 5, f"segment {segment + 1}", "t", "end" if wide else "start"
        )
        ends = [event["at_s"] for event in own[1:]] + [end_s if place == len(segments) - 1 else own[-1]["at_s"]]
        labelled = -float(_LABEL)
        for event, until in zip(own, ends, strict=True):
            x = scale(event["at_s"])
            title = f"{event['phase']} from {event['at_s']:g} s, tick {event['tick']}"
            canvas.rect(x, top, max(2.0, scale(until) - x), 18, f"phase p-{event['phase']}", title)
            if wide and x - labelled >= _LABEL:
                canvas.text(x, top - 5, f"{event['phase']}", "t axis")
                labelled = x
    return canvas.render("Phases of the stop ladder over time, one row a segment", cls)


def blocks(stages: Document) -> str:
    """One small figure a stage: median, p99 and maximum of each block, in the order of time."""
    key = parts.key([("p50 (line), p99 (dashed), maximum (ring); blocks of equal length from left to right", "c-int8")])
    return f'{key}<div class="blocks">{"".join(_blocks(name, stage) for name, stage in stages.items())}</div>'


def _blocks(name: str, stage: Document) -> str:
    p_value = stage["drift"]["p_value"]
    said = "too few samples to test" if p_value is None else f"p = {p_value:.2g}"
    drifts = f" {parts.tag('drifts', 'open')}" if stage["drift"]["significant"] else ""
    caption = f"<figcaption>{escape(name)} <small>{said}</small>{drifts}</figcaption>"
    return f"<figure>{caption}{_trend(name, stage['blocks'])}</figure>"


def _trend(name: str, found: Sequence[Document]) -> str:
    width, height, left, bottom = 340, 112, 54, 104
    canvas = Canvas(width, height)
    values = [max(block[key], _LEAST_US) for block in found for key in ("p50_us", "p99_us", "max_us")]
    y = LogScale(min(values) * 1e3 / 1.3, max(max(values) * 1e3, min(values) * 4e3) * 1.3, bottom, 8)
    x = LinearScale(-0.5, max(len(found) - 0.5, 0.5), left, width - 6)
    marks = y.ticks((1,))
    marks = marks[:: 1 + len(marks) // 5] if len(marks) > 1 else y.ticks()
    for mark in marks:
        canvas.line(left, y(mark), width - 6, y(mark), "grid")
        canvas.text(left - 6, y(mark) + 4, round_duration(mark), "t axis", "end")
    canvas.line(left, bottom, width - 6, bottom, "axis-line")
    colour = _colour(name)
    for key in ("p50", "p99"):
        points = [(x(at), y(max(block[f"{key}_us"], _LEAST_US) * 1e3)) for at, block in enumerate(found)]
        canvas.path(
            "".join(f"{'ML'[at > 0]}{px:.1f} {py:.1f}" for at, (px, py) in enumerate(points)), f"trend {key} {colour}"
        )
    for at, block in enumerate(found):
        canvas.circle(x(at), y(max(block["max_us"], _LEAST_US) * 1e3), 3, f"top {colour}")
        canvas.circle(x(at), y(max(block["p50_us"], _LEAST_US) * 1e3), 2.6, f"dot {colour}")
    return canvas.render(f"Blocks of {name}: median, p99 and maximum", "trends")
