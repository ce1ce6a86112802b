"""From windows to the rows of `bench/results/loop-windows.json` and its tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from bench.loop.histogram import Tail, enough_for_p999, expanded, merged, tail
from bench.loop.windows import OURS, YARDSTICK, Window
from edgevla.telemetry.stats import upper_bound_quantile

SCHEMA = "edgevla.loop/1"
GOAL = 1.5  # times cyclictest's, in the median window


def rows(windows: Sequence[Window]) -> list[dict[str, Any]]:
    """One row a (rate, load): both contenders in the median window, their ratio and its spread."""
    cases = sorted({(window.load, window.rate_hz) for window in windows}, key=lambda case: (case[0] != "idle", case))
    return [_row(load, rate, [w for w in windows if (w.load, w.rate_hz) == (load, rate)]) for load, rate in cases]


def _row(load: str, rate_hz: int, windows: Sequence[Window]) -> dict[str, Any]:
    ours, theirs = (_of(windows, name) for name in (OURS, YARDSTICK))
    row: dict[str, Any] = {"rate_hz": rate_hz, "load": load}
    for name, tails in ((OURS, ours), (YARDSTICK, theirs)):
        for part in ("p50", "p99", "p999"):
            row[f"{name}_{part}_us"] = median(getattr(each, f"{part}_us") for each in tails)
        row[f"{name}_max_us"] = max(each.max_us for each in tails)
    row["windows"] = len(ours)
    for part in ("p99", "p999"):
        row[f"ratio_{part}"] = _ratio(part, row, ours, theirs)
    row["samples_per_window"] = min(each.count for each in (*ours, *theirs))
    row["pooled"] = {name: _pooled(w for w in windows if w.contender == name) for name in (OURS, YARDSTICK)}
    row["windows_with_stolen_time"] = sum(window.marked for window in windows)
    row["stolen_s"] = round(sum(window.stolen_s for window in windows), 3)
    row["kept"] = all(row[f"ratio_{part}"]["median_window"] <= GOAL for part in ("p99", "p999"))
    return row


def _of(windows: Iterable[Window], contender: str) -> list[Tail]:
    """In the order of the rounds."""
    chosen = sorted((w for w in windows if w.contender == contender), key=lambda w: w.round)
    return [tail(window.histogram) for window in chosen]


def _ratio(part: str, row: dict[str, Any], ours: Sequence[Tail], theirs: Sequence[Tail]) -> dict[str, Any]:
    """Ratio of the two median windows; beside it the ratios round by round."""
    field = f"{part}_us"
    each = [getattr(a, field) / max(1, getattr(b, field)) for a, b in zip(ours, theirs, strict=True)]
    return {
        "median_window": row[f"{OURS}_{field}"] / max(1, row[f"{YARDSTICK}_{field}"]),
        "median": median(each),
        "low": min(each),
        "high": max(each),
    }


def _pooled(windows: Iterable[Window]) -> dict[str, Any]:
    """All windows of one contender together; p99.9 is bounded where there are samples enough for it."""
    histogram = merged(window.histogram for window in windows)
    figures = tail(histogram)
    bound = upper_bound_quantile(expanded(histogram)) if enough_for_p999(figures.count) else None
    return {**figures.as_dict(), "p999_bound_us": bound}


def table(found: Sequence[dict[str, Any]]) -> list[tuple[object, ...]]:
    """Rows for people: the same figures, short."""
    return [
        (
            row["rate_hz"],
            row["load"],
            f"{row['ours_p50_us']:g} / {row['ours_p99_us']:g} / {row['ours_p999_us']:g}",
            f"{row['cyclictest_p50_us']:g} / {row['cyclictest_p99_us']:g} / {row['cyclictest_p999_us']:g}",
            *(
                "{median_window:.2f} ({low:.2f} .. {high:.2f})".format(**row[f"ratio_{part}"])
                for part in ("p99", "p999")
            ),
            f"{row['windows']} x {row['samples_per_window']}, {row['windows_with_stolen_time']} marked",
            "kept" if row["kept"] else "MISSED",
        )
        for row in found
    ]


COLUMNS = (
    "Hz", "load", "ours p50 / p99 / p99.9 us", "cyclictest, us", "p99 ratio (rounds)", "p99.9 ratio (rounds)",
    "windows", f"<= {GOAL}",
)  # fmt: skip
