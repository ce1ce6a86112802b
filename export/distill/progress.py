"""A progress bar with time left on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 15.0


class Reporter:
    """Shows how far a long job is. `total` in any unit; silent unless `active`."""

    def __init__(self, title: str, total: float, active: bool = True) -> None:
        self._title, self._total, self._active = title, max(total, 1e-9), active
        self._started = self._shown = time.monotonic()
        self._bar: Progress | None = None
        if active and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                       TextColumn("{task.fields[note]}"))  # fmt: skip
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(title, total=self._total, note="")
            self._bar.start()

    def show(self, done: float, note: str = "") -> None:
        """Updates the bar, or prints a line when the last is old enough."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if self._active and now - self._shown >= LINE_EVERY_S:
            self._shown = now
            share = min(1.0, done / self._total)
            left = (now - self._started) * (1 - share) / max(share, 1e-6)
            print(
                f"  {self._title}: {100 * share:3.0f} %, about {left:.0f} s left, {note}",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.stop()
