"""The few SVG parts the figures need. Colours come from CSS classes, so one drawing serves light and dark."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape

from bench.report import text


@dataclass(frozen=True)
class LogScale:
    """Maps a positive quantity to pixels, logarithmically."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        clipped = min(max(value, self.low), self.high)
        part = math.log(clipped / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, steps: tuple[int, ...] = (1, 2, 5)) -> list[float]:
        """1-2-5 marks inside the range."""
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        marks = [step * 10.0**exponent for exponent in exponents for step in steps]
        return [mark for mark in marks if self.low * 0.9999 <= mark <= self.high * 1.0001]


@dataclass(frozen=True)
class LinearScale:
    """Maps a quantity to pixels, linearly."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        clipped = min(max(value, self.low), self.high)
        return self.start + (clipped - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        """Round marks, some ``about`` of them."""
        raw = (self.high - self.low) / about
        base = 10.0 ** math.floor(math.log10(raw))
        step = next(base * factor for factor in (1, 2, 5, 10) if base * factor >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass
class Canvas:
    """Collects elements; ``render`` gives the whole ``<svg>``."""

    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str) -> None:
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>')

    def rect(self, x: float, y: float, width: float, height: float, cls: str, title: str = "") -> None:
        """``title`` is shown when the pointer rests on it."""
        head = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{cls}"'
        self.parts.append(f"{head}><title>{escape(title)}</title></rect>" if title else f"{head}/>")

    def circle(self, x: float, y: float, radius: float, cls: str) -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{cls}"/>')

    def path(self, data: str, cls: str) -> None:
        self.parts.append(f'<path d="{data}" class="{cls}"/>')

    def text(self, x: float, y: float, words: str, cls: str = "t", anchor: str = "start") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{cls}" text-anchor="{anchor}">{escape(words)}</text>')

    def time_axis(self, scale: LogScale, top: float, bottom: float, steps: tuple[int, ...] = (1,)) -> None:
        """A logarithmic axis of durations in ns below a plot, with grid lines up to ``top``."""
        for mark in scale.ticks(steps):
            self.line(scale(mark), top, scale(mark), bottom, "grid")
            self.text(scale(mark), bottom + 15, round_duration(mark), "t axis", "middle")

    def render(self, label: str, cls: str) -> str:
        """``label`` is what a screen reader says."""
        inner = "".join(self.parts)
        return (
            f'<svg class="{cls}" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(label, quote=True)}">{inner}</svg>'
        )


def round_duration(ns: float) -> str:
    """An axis mark: ``10 µs``, without trailing zeros."""
    value, unit = text.duration(ns).split(" ")
    return f"{float(value):g} {unit}"
