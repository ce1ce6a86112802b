"""A progress bar with time left on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 15.0


class Reporter:
    """Shows how far a long job is. `total` in any unit; silent unless `active`.

    Time left is told by what this run has done since it first said how far it is: what an earlier run had done counts
    as done, and says nothing of the pace.
    """

    def __init__(self, title: str, total: float, active: bool = True) -> None:
        self._title, self._total, self._active = title, max(total, 1e-9), active
        self._shown = time.monotonic()
        self._first: tuple[float, float] | None = None  # what was done, when
        self._bar: Progress | None = None
        if active and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                       TextColumn("{task.fields[note]}"))  # fmt: skip
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(title, total=self._total, note="")
            self._bar.start()

    def show(self, done: float, note: str = "") -> None:
        """Updates the bar, or prints a line when the last is old enough."""
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
            if self._bar is not None:
                self._bar.reset(self._task, completed=int(done), note=note)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
            return
        if self._active and now - self._shown >= LINE_EVERY_S:
            self._shown = now
            left = time_left(self._first, (done, now), self._total)
            share = 100 * min(1.0, done / self._total)
            print(f"  {self._title}: {share:3.0f} %, {left}, {note}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.stop()


def time_left(first: tuple[float, float], now: tuple[float, float], total: float) -> str:
    """In words. first, now: what was done of the total, and at which second."""
    done, took_s = now[0] - first[0], now[1] - first[1]
    if done <= 0:
        return "0 s left" if now[0] >= total else "time left not known yet"
    return f"about {max(0.0, total - now[0]) * took_s / done:.0f} s left"
