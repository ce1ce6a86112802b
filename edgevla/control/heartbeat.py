"""Is a counting process alive, as seen by a watcher that may itself be held up? Pure."""

from __future__ import annotations


class Heartbeat:
    """How long a count has not risen, in the looks of this process: a stall of the whole host is no silence."""

    def __init__(self, longest_gap_s: float) -> None:
        self.silent_s = 0.0
        self._longest_gap_s = longest_gap_s  # what a gap between two looks counts as, at most
        self._count = -1
        self._looked_s: float | None = None

    def look(self, count: int, now_s: float) -> float:
        """Seconds of silence."""
        gap_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, self._longest_gap_s)
        self.silent_s = 0.0 if count != self._count else self.silent_s + gap_s
        self._count, self._looked_s = count, now_s
        return self.silent_s
