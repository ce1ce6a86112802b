"""The last seconds of a flight as one HTML file: explanation, curves as SVG, list. It fetches nothing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from edgevla.control.ladder import Phase
from edgevla.flight.moments import Curve, Moment, Window

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 920, 150, 64, 12, 22, 20  # pixels
_POINTS = 1200  # of a curve: more than the screen shows
_COLOUR = {
    Phase.DISARMED: "#e2e8f0", Phase.START: "#dbeafe", Phase.TRACK: "#f0fdf4", Phase.SLOW: "#fef3c7",
    Phase.HOLD: "#fed7aa", Phase.LATCHED: "#fecaca", Phase.TORQUE: "#e9d5ff",
}  # fmt: skip
_STYLE = """
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #0f172a; background: #fff; }
body { max-width: 960px; margin: 24px auto; padding: 0 16px; }
h1 { font-size: 20px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 28px 0 8px; }
.stop { border-left: 5px solid #dc2626; background: #fef2f2; padding: 10px 14px; font-weight: 600; }
.note { color: #475569; font-size: 13px; } svg { display: block; width: 100%; height: auto; margin: 0 0 10px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; padding: 3px 10px 3px 0; border-bottom: 1px solid #e2e8f0; vertical-align: top; }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; }
.key span { display: inline-block; padding: 0 8px; margin-right: 6px; border-radius: 3px; font-size: 12px; }
svg text { font: 11px system-ui, sans-serif; fill: #475569; } svg .name { font-weight: 600; fill: #0f172a; }
"""


def page(title: str, stop: str, facts: Sequence[str], window: Window, curves: Sequence[Curve],
         moments: Sequence[Moment]) -> str:  # fmt: skip
    """A whole HTML document."""
    shown = sorted({int(phase) for phase in window.rows["phase"]}) if len(window.rows) else []
    key = "".join(f'<span style="background:{_COLOUR[Phase(p)]}">{Phase(p).name}</span>' for p in shown)
    lines = '<b style="color:#2563eb">set-point</b>, <b style="color:#ea580c">state</b>'
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="stop">{escape(stop)}</p>',
        *(f'<p class="note">{escape(fact)}</p>' for fact in facts),
        "<h2>Joints, seconds before the stop</h2>",
        f'<p class="note key">{lines} &nbsp; phases: {key}</p>',
        *(_chart(window, curve) for curve in curves),
        "<h2>What happened</h2>",
        _table(moments),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _table(moments: Sequence[Moment]) -> str:
    rows = "".join(
        f'<tr><td class="n">{0.0 - m.before_s:+.3f}</td><td class="n">{"" if m.tick is None else m.tick}</td>'
        f"<td>{escape(m.kind)}</td><td>{escape(m.text)}</td></tr>"
        for m in moments
    )
    head = '<tr><th class="n">s</th><th class="n">tick</th><th>what</th><th></th></tr>'
    return f"<table>{head}{rows}</table>"


def _chart(window: Window, curve: Curve) -> str:
    seconds = -window.before_s
    low, high = _range([values for values in (curve.setpoint, curve.state) if values is not None])
    x = _Scale(float(seconds[0]), max(float(seconds[-1]), float(seconds[0]) + 1e-6), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    name = " / ".join(filter(None, (curve.name, curve.state_name)))
    parts = [*_bands(window, x), *_grid(x, y, low, high)]
    for values, colour in ((curve.state, "#ea580c"), (curve.setpoint, "#2563eb")):
        if values is not None:
            parts.append(_line(x, y, seconds, values, colour))
    parts.append(f'<text class="name" x="{_LEFT}" y="14">{escape(name)} [{escape(curve.unit)}]</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(name)}">{"".join(parts)}</svg>'


class _Scale:
    """Straight from values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._factor, self._start = low, (end - start) / (high - low), start

    def __call__(self, value: float) -> float:
        return round(self._start + (value - self._low) * self._factor, 1)


def _range(columns: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Of all finite values, with some air; around zero where there are none."""
    finite = np.concatenate([values[np.isfinite(values)] for values in columns]) if columns else np.zeros(0)
    if len(finite) == 0:
        return -1.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    air = 0.08 * (high - low) or max(abs(low) * 0.01, 1e-3)
    return low - air, high + air


def _bands(window: Window, x: _Scale) -> list[str]:
    phase, seconds = window.rows["phase"], -window.before_s
    starts = np.flatnonzero(np.diff(phase.astype(int), prepend=-1))
    bands = []
    for first, last in zip(starts, [*starts[1:], len(phase) - 1], strict=True):
        left, right = x(float(seconds[first])), x(float(seconds[last]))
        fill = _COLOUR[Phase(int(phase[first]))]
        size = f'width="{max(right - left, 1):.1f}" height="{_HEIGHT - _TOP - _BOTTOM}"'
        bands.append(f'<rect x="{left}" y="{_TOP}" {size} fill="{fill}"/>')
    return bands


def _grid(x: _Scale, y: _Scale, low: float, high: float) -> list[str]:
    parts = []
    for value in np.linspace(low, high, 3):
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value)}" y2="{y(value)}" stroke="#cbd5e1"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{value:.4g}</text>'
        )
    base = _HEIGHT - _BOTTOM
    parts.append(f'<line x1="{x(0)}" x2="{x(0)}" y1="{_TOP}" y2="{base}" stroke="#dc2626" stroke-dasharray="4 3"/>')
    for second in np.arange(np.ceil(_value_at(x, _LEFT)), 1):
        parts.append(f'<text x="{x(second)}" y="{_HEIGHT - 6}" text-anchor="middle">{second:g} s</text>')
    return parts


def _value_at(x: _Scale, pixel: float) -> float:
    return x._low + (pixel - x._start) / x._factor


def _line(x: _Scale, y: _Scale, seconds: NDArray[np.float64], values: NDArray[np.float64], colour: str) -> str:
    """A path; broken where a value is not finite."""
    step = max(1, len(values) // _POINTS)
    path, pen = [], "M"
    for second, value in zip(seconds[::step], values[::step], strict=True):
        if not np.isfinite(value):
            pen = "M"
            continue
        path.append(f"{pen}{x(float(second))} {y(float(value))}")
        pen = "L"
    return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
