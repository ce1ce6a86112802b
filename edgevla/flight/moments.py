"""The last seconds before a stop, as a list of what happened and as curves. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.flight.explain import stop_row
from edgevla.flight.reader import Record, Rows

_AFTER_S = 0.25  # s shown behind the stop
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Moment:
    """Something that happened `before_s` before the stop (negative: after it), at `tick` where it has one."""

    before_s: float
    tick: int | None
    kind: str  # phase | event | inference | late | skipped | limited
    text: str


@dataclass(frozen=True)
class Curve:
    """One joint over the window: float64 (t,) against `before_s` (t,), in `unit`."""

    name: str
    unit: str
    setpoint: NDArray[np.float64] | None
    state_name: str
    state: NDArray[np.float64] | None


@dataclass(frozen=True)
class Window:
    """The servo steps shown. `zero_ns`: the stop, or the end of the record."""

    zero_ns: int
    rows: Rows
    stopped: bool

    @property
    def before_s(self) -> NDArray[np.float64]:
        """Seconds before the stop, float64 (t,), falling."""
        return np.asarray((self.zero_ns - self.rows["deadline_ns"]) / 1e9)


def window_of(record: Record, last_s: float) -> Window:
    """The last `last_s` seconds before the stop and a moment behind it."""
    ticks = record.ticks
    row = stop_row(record)
    zero_ns = int(ticks["deadline_ns"][-1 if row is None else row]) if len(ticks) else 0
    deadline_ns = ticks["deadline_ns"] if len(ticks) else np.zeros(0, np.int64)
    shown = (deadline_ns >= zero_ns - last_s * 1e9) & (deadline_ns <= zero_ns + _AFTER_S * 1e9)
    return Window(zero_ns, ticks[shown], row is not None)


def moments_of(record: Record, window: Window) -> list[Moment]:
    """Phases, events, lost inferences, late and skipped steps in the window, oldest first."""
    if len(window.rows) == 0:
        return []
    found = [*_phases(window), *_steps(window), *_inferences(record, window), *_events(record, window)]
    return sorted(found, key=lambda moment: -moment.before_s)


def _phases(window: Window) -> list[Moment]:
    rows = window.rows
    changes = np.flatnonzero(np.diff(rows["phase"].astype(int), prepend=-1))
    return [_at(window, rows[i], "phase", Phase(int(rows["phase"][i])).name) for i in changes]


def _steps(window: Window) -> list[Moment]:
    """Runs of late commands, periods overslept, and where the limiter began to bite."""
    rows, found = window.rows, []
    for first, count in _runs(rows["late"] != 0):
        found.append(_at(window, rows[first], "late", f"{count} commands had expired and were not written"))
    for i in np.flatnonzero(rows["skipped"]):
        found.append(_at(window, rows[i], "skipped", f"the servo overslept {int(rows['skipped'][i])} periods"))
    for first, count in _runs(rows["limited"] != 0):
        flags = int(np.bitwise_or.reduce(rows["limited"][first : first + count]))
        found.append(_at(window, rows[first], "limited", f"{count} steps limited (flags {flags})"))
    return found


def _inferences(record: Record, window: Window) -> list[Moment]:
    """Answers without a chunk, and those that came after their release."""
    rows, found = window.rows, []
    period_ns = round(float(record.meta["period_s"]) * 1e9)
    delay = int(record.meta["schedule"]["delay"])
    for row in record.inferences:
        tick, done_ns = int(row["tick"]), int(row["done_ns"])
        if not int(rows["deadline_ns"][0]) <= done_ns <= int(rows["deadline_ns"][-1]) + period_ns:
            continue
        status = Status(int(row["status"]))
        release_ns = int(rows["deadline_ns"][0]) + (tick + delay - int(rows["tick"][0])) * period_ns
        if status is not Status.OK:
            found.append(Moment((window.zero_ns - done_ns) / 1e9, tick, "inference", status.name.lower()))
        elif done_ns > release_ns:
            text = f"{(done_ns - release_ns) / 1e6:.1f} ms after its release"
            found.append(Moment((window.zero_ns - done_ns) / 1e9, tick, "inference", text))
    return found


def _events(record: Record, window: Window) -> list[Moment]:
    first_ns = int(window.rows["deadline_ns"][0])
    found = []
    for event in record.events:
        at_ns = int(event.get("at_ns", 0))
        if at_ns < first_ns:
            continue
        rest = {key: value for key, value in event.items() if key not in ("event", "at_ns")}
        told = ", ".join(f"{key} {' '.join(str(value).split())}" for key, value in rest.items())
        text = f"{event.get('event', '?')}{': ' + told if told else ''}"
        found.append(Moment((window.zero_ns - at_ns) / 1e9, None, "event", text))
    return found


def _at(window: Window, row: Rows, kind: str, text: str) -> Moment:
    return Moment((window.zero_ns - int(row["deadline_ns"])) / 1e9, int(row["tick"]), kind, text)


def _runs(flags: NDArray[Any]) -> list[tuple[int, int]]:
    """(first, length) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def curves_of(record: Record, window: Window) -> list[Curve]:
    """Set-point and state of each joint; together where the n-th of both have one unit, else apart."""
    if len(window.rows) == 0:
        return []
    arm = record.meta["arm"]
    setpoint, state = window.rows["setpoint"].astype(np.float64), window.rows["state"].astype(np.float64)
    channels, states = arm["channels"], arm["state"]
    paired = len(channels) == len(states) and all(
        c["unit"] == s["unit"] for c, s in zip(channels, states, strict=True)
    )  # fmt: skip
    if paired:
        pairs = zip(channels, states, strict=True)
        return [Curve(c["name"], c["unit"], setpoint[:, i], s["name"], state[:, i]) for i, (c, s) in enumerate(pairs)]
    apart = [Curve(c["name"], c["unit"], setpoint[:, i], "", None) for i, c in enumerate(channels)]
    return apart + [Curve("", s["unit"], None, s["name"], state[:, i]) for i, s in enumerate(states)]


def sparkline(values: NDArray[np.float64], width: int = 40) -> str:
    """Eight heights between minimum and maximum; a gap where nothing is finite."""
    parts = [part[np.isfinite(part)] for part in np.array_split(values, min(width, len(values)))]
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return " " * len(parts)
    low, span = finite.min(), finite.max() - finite.min()
    levels = [None if len(part) == 0 else (part.mean() - low) / span if span > 0 else 0.0 for part in parts]
    return "".join(" " if level is None else _BARS[min(7, int(level * 8))] for level in levels)
