"""When a silent camera is a fault, how long it is waited for, and how often it is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BACK_OFF_S = (0.1, 2.0)  # before the first attempt to open it again, and the longest wait between two
HUNG_S = 15.0  # a read or an open that takes longer will not come back (GStreamer has 10 s to start)
_START_S = 5.0  # from opening to the first frame: exposure settles, a camera daemon starts
_SILENCE_S = 1.0  # shorter silences are waited out: opening again takes as long


def back_off_s(failures: int) -> float:
    """Seconds to wait before trying again, after `failures` attempts in a row that failed."""
    first, longest = BACK_OFF_S
    return float(min(longest, first * 2 ** min(failures, 16)))


def patience_s(stall_s: float, fresh: bool) -> float:
    """Seconds of silence after which an open camera is closed and opened again. fresh: no frame yet since it opened."""
    return max(_START_S if fresh else _SILENCE_S, stall_s)


@dataclass
class Watch:
    """Says "stalled" once when the newest frame is older than `stall_ns`, "resumed" once when a young one came."""

    stall_ns: int
    opened_ns: int
    stalled: bool = False

    def age_ns(self, now_ns: int, newest_ns: int | None) -> int:
        """Age of the newest frame; before the first: time since the camera was opened."""
        return now_ns - (self.opened_ns if newest_ns is None else newest_ns)

    def step(self, now_ns: int, newest_ns: int | None) -> Literal["stalled", "resumed"] | None:
        """Judge the stamp of the newest frame, None before the first: a camera takes its time to start."""
        allowed_ns = self.stall_ns if newest_ns is not None else max(self.stall_ns, round(_START_S * 1e9))
        was, self.stalled = self.stalled, self.age_ns(now_ns, newest_ns) > allowed_ns
        if self.stalled == was:
            return None
        return "stalled" if self.stalled else "resumed"
