"""Does the servo's memory stand still? Counted inside the servo process, from a warm loop to its end.

"memory" traces every allocation (tracemalloc), which itself takes memory; "faults" counts page faults without that.
Collections are counted in both. The figures go into the servo's `end` event under `steady`.
"""

from __future__ import annotations

import gc
import resource
import tracemalloc

MODES = ("", "memory", "faults")
WARM_STEPS = 2000  # servo steps: every path taken, the driver's ring of sent commands and the free lists filled


class Audit:
    """`step()` once a servo step; `figures()` when the loop is over. Mode "" costs one comparison a step."""

    def __init__(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"audit is one of {MODES}, got {mode!r}")
        self._mode = mode
        self._left = WARM_STEPS if mode else 0
        self._steps = 0
        self._traced = self._minor = self._major = self._collections = 0

    def step(self) -> None:
        """Counts down to the warm loop, takes the start figures there, then counts steps."""
        if not self._left:
            self._steps += 1
            return
        self._left -= 1
        if self._left == WARM_STEPS // 2 and self._mode == "memory":
            tracemalloc.start()  # half-way: what the rings hold when it begins is traced too
        if not self._left:
            self._begin()

    def _begin(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._minor, self._major, self._collections = usage.ru_minflt, usage.ru_majflt, _collections()
        if self._mode == "memory":
            tracemalloc.reset_peak()
            self._traced, _ = tracemalloc.get_traced_memory()

    def figures(self) -> dict[str, int | None]:
        """None: not measured in this mode. {} without an audit, or where the loop ended before it was warm."""
        if not self._mode or self._left:
            return {}
        traced = tracemalloc.get_traced_memory() if self._mode == "memory" else None
        usage = resource.getrusage(resource.RUSAGE_SELF)
        faults = self._mode == "faults"
        return {
            "ticks": self._steps,
            "traced_growth_bytes": traced[0] - self._traced if traced else None,
            "traced_peak_bytes": traced[1] - self._traced if traced else None,
            "minor_faults": usage.ru_minflt - self._minor if faults else None,
            "major_faults": usage.ru_majflt - self._major if faults else None,
            "collections": _collections() - self._collections,
        }


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())
