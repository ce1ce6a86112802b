"""Does the loop stay as it is? Page faults, collections and, on request, traced allocations over the armed steps."""

from __future__ import annotations

import gc
import resource
import tracemalloc
from typing import Any

_BLOCK = 1000  # steps
_SETTLE = 10  # blocks until the caches of the interpreter are full: their floor rises by some 3 kB on the way


class Audit:
    """Faults from the 1000th armed step on, memory from the 10,000th.

    Tracing ("memory") costs time and pages of its own: faults are counted in a run without it.

    Growth is floor to floor: the least traced memory of the last whole block of 1000 steps against that of the first
    one after settling. What is alive at one moment (a chunk, a state) comes and goes; what stays raises the floor.
    """

    def __init__(self, kind: str) -> None:
        self._traced = kind == "memory"
        self._steps = 0
        self._before: tuple[int, int, int] = (0, 0, 0)
        self._least = 0  # traced bytes, of this block so far
        self._floors: list[int] = []  # of the first whole block and the last
        self.figures: dict[str, Any] = {}
        if self._traced:
            tracemalloc.start(1)

    def step(self) -> None:
        """After each armed step."""
        self._steps += 1
        if self._traced:
            self._trace()
        if self._steps == _BLOCK:
            self._before = _counts()

    def _trace(self) -> None:
        current = tracemalloc.get_traced_memory()[0]
        begins = self._steps % _BLOCK == 1
        self._least = current if begins else min(self._least, current)
        if self._steps == _SETTLE * _BLOCK:
            tracemalloc.reset_peak()
        if self._steps >= _SETTLE * _BLOCK and self._steps % _BLOCK == 0:
            self._floors = [*self._floors[:1], self._least]

    def close(self) -> None:
        """At the end of the armed steps: what follows is no part of the loop. The first arming counts."""
        if not self.figures:
            self.figures = self._measure()

    def _measure(self) -> dict[str, Any]:
        """None for what was not traced, or not long enough."""
        ticks = self._steps - _BLOCK
        if ticks <= 0:
            return {"ticks": 0}
        peak = tracemalloc.get_traced_memory()[1] if self._traced else 0
        minor, major, collections = (now - then for now, then in zip(_counts(), self._before, strict=True))
        return {
            "ticks": ticks,
            "traced_growth_bytes": self._floors[-1] - self._floors[0] if self._floors else None,
            "traced_peak_bytes": peak - self._floors[0] if self._floors else None,
            "minor_faults": minor,
            "major_faults": major,
            "collections": collections,
        }


def _counts() -> tuple[int, int, int]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt, usage.ru_majflt, sum(generation["collections"] for generation in gc.get_stats())
