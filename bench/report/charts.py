"""The drawings of the report. Each takes arrays and a width (wide or narrow page) and returns SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import text
from bench.report.svg import Canvas, LinearScale, LogScale, round_duration
from edgevla.telemetry.interleaved import percentile_ns
from edgevla.telemetry.stats import nearest_rank

Array = NDArray[Any]
WIDE, NARROW = 1080, 372  # viewBox units; the page shows one of the two, so text keeps its size on a phone


def both_widths(draw: Any, *args: Any) -> str:
    """Draw for a wide and for a narrow page; CSS shows one."""
    return str(draw(*args, WIDE, "wide")) + str(draw(*args, NARROW, "narrow"))


# --- latency ---


@dataclass(frozen=True)
class Series:
    """One row of the latency figure. ``cls`` picks the colour: c-teacher, c-fp32, c-int8, c-stage.

    counts: how many times each of ``ns``, which then rise: a histogram; None: once.
    behind: another one drawn as an outline behind it, each to its own height. limit_ns: marked.
    """

    name: str
    ns: Array
    cls: str
    counts: Array | None = None
    behind: Series | None = None
    limit_ns: float | None = None

    @property
    def size(self) -> int:
        return int(self.ns.size if self.counts is None else self.counts.sum())

    def percentile_ns(self, percent: float) -> float:
        if self.counts is None:
            return float(percentile_ns(self.ns, percent))
        rank = nearest_rank(self.size, percent / 100)
        return float(self.ns[np.searchsorted(np.cumsum(self.counts), rank, side="right")])


def latency_ridges(series: Sequence[Series], width: int, cls: str) -> str:
    """One histogram a row on a common logarithmic axis, with p50 and p99 marked."""
    wide = width == WIDE
    left, right, row = (240, 116, 54) if wide else (6, 10, 78)
    label_room = 0 if wide else 34
    canvas = Canvas(width, row * len(series) + 40)
    drawn = [one for s in series for one in (s, s.behind) if one is not None]
    scale = _duration_scale([s.ns for s in drawn], left, width - right)
    bottom = row * len(series) + 12
    canvas.time_axis(scale, 8, bottom)
    for index, one in enumerate(series):
        base = (index + 1) * row + 8
        _ridge(canvas, one, scale, base, row - 12 - label_room)
        p50, p99 = (text.duration(one.percentile_ns(q)) for q in (50, 99))
        if wide:
            canvas.text(left - 14, base - 16, one.name, "t strong", "end")
            canvas.text(left - 14, base - 1, f"n = {one.size:,}", "t soft", "end")
            canvas.text(width - right + 12, base - 16, f"p50 {p50}", "t strong")
            canvas.text(width - right + 12, base - 1, f"p99 {p99}", "t soft")
        else:
            canvas.text(left, base - row + 22, one.name, "t strong")
            canvas.text(left, base - row + 37, f"p50 {p50} · p99 {p99} · n = {one.size:,}", "t soft")
    return canvas.render("Latency histograms on a logarithmic axis, one row per model and stage", cls)


def _ridge(canvas: Canvas, one: Series, scale: LogScale, base: float, height: float) -> None:
    canvas.line(scale.start, base, scale.end, base, "axis-line")
    if one.behind is not None:
        _outline(canvas, one.behind, scale, base, height, "behind")
    _outline(canvas, one, scale, base, height, f"ridge {one.cls}")
    for q, mark in ((50, "p50"), (99, "p99")):
        x = scale(one.percentile_ns(q))
        canvas.line(x, base - height - 2, x, base + 3, f"mark {mark} {one.cls}")
    if one.limit_ns is not None and scale.low < one.limit_ns < scale.high:
        canvas.line(scale(one.limit_ns), base - height - 2, scale(one.limit_ns), base + 3, "limit")


def _outline(canvas: Canvas, one: Series, scale: LogScale, base: float, height: float, cls: str) -> None:
    edges = np.geomspace(scale.low, scale.high, 1 + int((scale.end - scale.start) / 4))
    counts, _ = np.histogram(np.clip(one.ns, scale.low, scale.high), edges, weights=one.counts)
    filled = np.flatnonzero(counts)
    if not filled.size:
        return
    first, last, tall = int(filled[0]), int(filled[-1]), height / float(counts.max())
    tops = [(scale(edges[i]), scale(edges[i + 1]), base - counts[i] * tall) for i in range(first, last + 1)]
    steps = "".join(f"L{start:.1f} {top:.1f}L{end:.1f} {top:.1f}" for start, end, top in tops)
    canvas.path(f"M{tops[0][0]:.1f} {base}{steps}L{tops[-1][1]:.1f} {base}Z", cls)


def _duration_scale(arrays: Sequence[Array], start: float, end: float) -> LogScale:
    low = max(min(float(a.min()) for a in arrays), 100.0)
    high = max(float(a.max()) for a in arrays)
    return LogScale(low / 1.25, max(high * 1.25, low * 4), start, end)


# --- control ticks ---


@dataclass(frozen=True)
class Ticks:
    """Wake-up latency of every control tick [ns], and the ticks at which something was missed.

    unit: what one of them is called.
    """

    wake_ns: Array
    period_s: float
    release_misses: Sequence[int] = ()
    episode_starts: Sequence[int] = ()
    servo_limit_ns: float | None = None
    servo_misses: Sequence[int] = ()
    unit: str = "tick"


def tick_raster(ticks: Ticks, width: int, cls: str) -> str:
    """Wake latency of every tick over time as a density raster; percentiles as lines; misses on top."""
    wide = width == WIDE
    left, right, height = (54, 218, 340) if wide else (48, 12, 340)
    top, bottom = 30, height - (46 if wide else 84)
    wake = np.maximum(ticks.wake_ns.astype(np.float64), 1.0)
    low, high = _raster_range(wake, ticks.servo_limit_ns)
    y = LogScale(low, high, bottom, top)
    x = LinearScale(0, max(wake.size, 2), left, width - right)
    canvas = Canvas(width, height)
    _raster_axes(canvas, x, y, ticks)
    _raster_cells(canvas, wake, x, y, 3 if wide else 4)
    _raster_levels(canvas, wake, ticks, x, y, width if wide else None)
    for tick in ticks.release_misses:
        canvas.line(x(tick), top - 6, x(tick), bottom, "miss-line")
        canvas.path(f"M{x(tick) - 5:.1f} {top - 16}h10l-5 9z", "miss")
    for tick in ticks.servo_misses:
        canvas.line(x(tick), bottom + 1, x(tick), bottom + 6, "servo-miss")
    for tick in ticks.episode_starts:
        canvas.line(x(tick), bottom, x(tick), bottom + 5, "episode")
    return canvas.render(f"Wake-up latency of every {ticks.unit} over time, logarithmic", cls)


def _raster_range(wake: Array, limit_ns: float | None) -> tuple[float, float]:
    low, high = float(np.percentile(wake, 0.1)) / 1.6, max(float(wake.max()), limit_ns or 0.0) * 1.3
    return max(low, 100.0), max(high, low * 10, 1_000.0)


def _raster_axes(canvas: Canvas, x: LinearScale, y: LogScale, ticks: Ticks) -> None:
    for mark in y.ticks((1,)):
        canvas.line(x.start, y(mark), x.end, y(mark), "grid")
        canvas.text(x.start - 7, y(mark) + 4, round_duration(mark), "t axis", "end")
    for mark in x.ticks(8 if x.end > 500 else 4):
        canvas.text(x(mark), y.start + 18, f"{mark:,.0f}", "t axis", "middle")
    canvas.line(x.start, y.start, x.end, y.start, "axis-line")
    period_s = ticks.period_s
    words = f"{ticks.unit} ({text.three(period_s * 1e3)} ms each; {text.seconds(x.high * period_s)} in all)"
    canvas.text((x.start + x.end) / 2, y.start + 35, words, "t soft", "middle")


def _raster_cells(canvas: Canvas, wake: Array, x: LinearScale, y: LogScale, cell: int) -> None:
    """Cells of ``cell`` pixels; five tones by the logarithm of how many ticks fell into one."""
    columns = max(int((x.end - x.start) / cell), 1)
    lines = max(int((y.start - y.end) / cell), 1)
    column = np.minimum((np.arange(wake.size) * columns / x.high).astype(int), columns - 1)
    clipped = np.clip(wake, y.low, y.high)
    line = np.minimum((np.log(clipped / y.low) / np.log(y.high / y.low) * lines).astype(int), lines - 1)
    counts = np.zeros((columns, lines), int)
    np.add.at(counts, (column, line), 1)
    tone = np.zeros_like(counts)
    seen = counts > 0
    tone[seen] = 1 + np.minimum(4, 5 * np.log(counts[seen]) / np.log(max(int(counts.max()), 2) + 1)).astype(int)
    for level in range(1, 6):
        spots = np.argwhere(tone == level)
        if spots.size:
            data = "".join(
                f"M{x.start + c * cell:.0f} {y.start - (r + 1) * cell:.0f}h{cell}v{cell}h-{cell}z" for c, r in spots
            )
            canvas.path(data, f"cell d{level}")


def _raster_levels(
    canvas: Canvas, wake: Array, ticks: Ticks, x: LinearScale, y: LogScale, label_width: int | None
) -> None:
    """Percentile lines, each labelled at the right (wide) or in one line of text below (narrow)."""
    levels = [(name, float(percentile_ns(wake.astype(np.int64), q))) for name, q in PERCENTILES]
    lines = [*levels, ("max", float(wake.max()))]
    if ticks.servo_limit_ns is not None:
        canvas.line(x.start, y(ticks.servo_limit_ns), x.end, y(ticks.servo_limit_ns), "limit")
        lines.append(("servo miss", ticks.servo_limit_ns))
    for tick in np.flatnonzero(wake > levels[-1][1]):
        canvas.circle(x(float(tick)), y(float(wake[tick])), 2.6, "outlier")
    for name, value in levels:
        canvas.line(x.start, y(value), x.end, y(value), f"level {name.replace('.', '')}")
    if label_width:
        for (name, value), place in zip(lines, _spread([y(v) for _, v in lines], 16), strict=True):
            canvas.line(x.end, y(value), x.end + 16, place - 4, "leader")
            canvas.text(x.end + 20, place, f"{name} {'> ' * (name == 'servo miss')}{text.duration(value)}", "t strong")
        return
    for row, group in enumerate((lines[:3], lines[3:])):
        words = " · ".join(f"{name} {text.duration(value)}" for name, value in group)
        canvas.text(x.start, y.start + 54 + 16 * row, words, "t soft")


PERCENTILES = (("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9))


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Move labels apart so that none overlaps; the order is kept."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [place + 4 for place in places]
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    return moved


# --- success ---


@dataclass(frozen=True)
class Share:
    """A success share with its interval; ``cls`` picks the colour."""

    share: float
    low: float
    high: float
    cls: str


def forest(rows: Sequence[tuple[str, Sequence[Share]]], width: int, cls: str) -> str:
    """One row per task: every model's success share as a dot with its 95 % interval."""
    wide = width == WIDE
    left, right, row = (208, 26, 54) if wide else (8, 14, 74)
    low = min((share.low for _, shares in rows for share in shares), default=0.0)
    scale = LinearScale(max(0.0, np.floor(low * 10 - 0.2) / 10), 1.0, left, width - right)
    bottom = row * len(rows) + 10
    canvas = Canvas(width, bottom + 30)
    for mark in scale.ticks(8 if wide else 4):
        canvas.line(scale(mark), 6, scale(mark), bottom, "grid")
        canvas.text(scale(mark), bottom + 16, f"{100 * mark:.0f} %", "t axis", "middle")
    for index, (name, shares) in enumerate(rows):
        base = index * row + 12
        canvas.text(
            left - 14 if wide else left,
            base + (27 if wide else 10),
            name,
            "t strong",
            "end" if wide else "start",
        )
        canvas.line(left, base + row - 6, width - right, base + row - 6, "grid")
        for place, share in enumerate(shares):
            y = base + (8 if wide else 22) + place * 14
            canvas.line(scale(share.low), y, scale(share.high), y, f"bar {share.cls}")
            canvas.circle(scale(share.share), y, 5, f"dot {share.cls}")
    return canvas.render("Success share per task with 95 % intervals", cls)


def colour_of(name: str) -> str:
    """CSS class of a model or latency row."""
    known: Mapping[str, str] = {
        "student_fp32": "c-fp32",
        "student_int8": "c-int8",
        "teacher_eager": "c-teacher",
    }
    return known.get(name, "c-stage" if "/" in name else "c-teacher2" if name == "teacher_fp32" else "c-teacher")
