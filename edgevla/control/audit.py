"""Does the loop stay as it is? Page faults, collections and, on request, traced allocations over the armed steps."""

from __future__ import annotations

import gc
import resource
import tracemalloc
from typing import Any

_SETTLE_STEPS = 1000  # steps until everything that is made once has been made


class Audit:
    """Counts from the 1000th armed step on. Tracing ("memory") costs time and pages of its own: no faults beside it."""

    def __init__(self, kind: str) -> None:
        self._traced = kind == "memory"
        self._steps = 0
        self._before: tuple[int, int, int] = (0, 0, 0)
        self._current = 0
        self.figures: dict[str, Any] = {}
        if self._traced:
            tracemalloc.start(1)

    def step(self) -> None:
        """After each armed step."""
        self._steps += 1
        if self._steps == _SETTLE_STEPS:
            if self._traced:
                self._current = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
            self._before = _counts()

    def close(self) -> None:
        """At the end of the armed steps: what follows is no part of the loop. The first arming counts."""
        if not self.figures:
            self.figures = self._measure()

    def _measure(self) -> dict[str, Any]:
        """None for what was not traced."""
        ticks = self._steps - _SETTLE_STEPS
        if ticks <= 0:
            return {"ticks": 0}
        current, peak = tracemalloc.get_traced_memory() if self._traced else (0, 0)
        minor, major, collections = (now - then for now, then in zip(_counts(), self._before, strict=True))
        return {
            "ticks": ticks,
            "traced_growth_bytes": current - self._current if self._traced else None,
            "traced_peak_bytes": peak - self._current if self._traced else None,
            "minor_faults": minor,
            "major_faults": major,
            "collections": collections,
        }


def _counts() -> tuple[int, int, int]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt, usage.ru_majflt, sum(generation["collections"] for generation in gc.get_stats())
