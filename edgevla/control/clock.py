"""Absolute deadlines on CLOCK_MONOTONIC, and the pure arithmetic of overruns."""

from __future__ import annotations

import ctypes
import errno
import time
from dataclasses import dataclass

_CLOCK_MONOTONIC = 1
_TIMER_ABSTIME = 1
_SECOND_NS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


_clock_nanosleep = ctypes.CDLL(None, use_errno=False).clock_nanosleep
_clock_nanosleep.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Timespec), ctypes.c_void_p)
_clock_nanosleep.restype = ctypes.c_int
_deadline = _Timespec()  # reused: one sleeping thread per process, and nothing is allocated on the path
_deadline_pointer = ctypes.pointer(_deadline)


def sleep_until(deadline_ns: int) -> int:
    """Sleep to an absolute CLOCK_MONOTONIC time; returns the time of waking. Signals do not end it early."""
    _deadline.tv_sec, _deadline.tv_nsec = divmod(deadline_ns, _SECOND_NS)
    while True:
        result = _clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, _deadline_pointer, None)
        if result == 0:
            return time.monotonic_ns()
        if result != errno.EINTR:
            raise OSError(result, "clock_nanosleep failed")


@dataclass(frozen=True)
class Grid:
    """Deadlines of the servo: `epoch_ns + step * period_ns`; steps only grow, the phase never moves."""

    epoch_ns: int
    period_ns: int

    def deadline_ns(self, step: int) -> int:
        return self.epoch_ns + step * self.period_ns

    def current_step(self, step: int, now_ns: int) -> int:
        """Step to serve when waking for `step` at `now_ns`: overslept periods are skipped, never made up."""
        return step + max(0, (now_ns - self.deadline_ns(step)) // self.period_ns)

    def first_step_at_or_after(self, time_ns: int) -> int:
        """First step whose deadline is not before `time_ns`."""
        return -((self.epoch_ns - time_ns) // self.period_ns)
