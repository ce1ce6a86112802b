"""Rows of measurements in shared memory: written without a system call, read by the parent when it is over.

One writer. The newest `capacity` rows are kept; `count` says how many there ever were.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.shm import create_memfd

_HEADER = 64  # bytes in front of the rows: one u64 count, padded to a cache line


def tick_dtype(channels: int, states: int) -> np.dtype[Any]:
    """One servo step. Times are CLOCK_MONOTONIC ns; write_ns 0 = nothing was written."""
    return np.dtype(
        [
            ("step", "<i8"),
            ("tick", "<i8"),
            ("deadline_ns", "<i8"),
            ("wake_ns", "<i8"),
            ("write_ns", "<i8"),
            ("chunk", "<i8"),  # tick k of the chunk in force, -1 = none
            ("answer", "<i8"),  # tick of the newest answer seen, -1 = none
            ("answer_done", "<i8"),  # first tick whose deadline is not before it was visible
            ("state_stamp_ns", "<i8"),
            ("instruction", "<i4"),  # epoch
            ("skipped", "<i4"),  # servo periods overslept before this one
            ("limited", "<u2"),  # control.limiter.Limited
            ("device_faults", "<u2"),
            ("device_mode", "<u1"),
            ("answer_valid", "<u1"),
            ("order", "<u1"),  # control.machine.Order obeyed at this tick
            ("trip", "<u1"),  # control.machine.Trip
            ("phase", "<u1"),
            ("late", "<u1"),  # the command had expired and was not written
            ("started", "<u1"),  # an inference was asked for in this step
            ("setpoint", "<f4", (channels,)),
            ("state", "<f4", (states,)),
            ("effort", "<f4", (channels,)),  # NaN = not measured
        ]
    )


def inference_dtype() -> np.dtype[Any]:
    """One inference of the policy process."""
    return np.dtype(
        [
            ("tick", "<i8"),
            ("asked_ns", "<i8"),  # observation sampled by the servo
            ("done_ns", "<i8"),  # chunk handed over
            ("frame_age_ns", "<i8"),  # at the start of the inference, of the oldest camera; -1 = no frame
            ("state_age_ns", "<i8"),
            ("infer_ns", "<i8"),  # the engine alone
            ("status", "<i8"),
            ("instruction", "<i8"),  # epoch
        ]
    )


class Rows:
    """Ring of rows of one dtype over a memfd; `fd` goes to the writing process."""

    def __init__(self, fd: int, dtype: np.dtype[Any]) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size
        self.capacity = (size - _HEADER) // dtype.itemsize
        if self.capacity < 1:
            raise ValueError(f"{size} bytes hold no row of {dtype.itemsize} bytes")
        self._map = mmap.mmap(fd, size)
        self._count: NDArray[np.uint64] = np.frombuffer(self._map, np.uint64, count=1)
        self._rows = np.frombuffer(self._map, dtype, count=self.capacity, offset=_HEADER)

    @classmethod
    def create(cls, dtype: np.dtype[Any], capacity: int) -> Rows:
        return cls(create_memfd("edgevla-rows", _HEADER + capacity * dtype.itemsize), dtype)

    @property
    def count(self) -> int:
        """Rows ever written."""
        return int(self._count[0])

    def append(self, row: tuple[Any, ...]) -> None:
        count = int(self._count[0])
        self._rows[count % self.capacity] = row
        self._count[0] = count + 1

    def newest(self) -> NDArray[Any]:
        """Copy of the rows that are kept, oldest first."""
        count = self.count
        if count <= self.capacity:
            return self._rows[:count].copy()
        turn = count % self.capacity
        return np.concatenate([self._rows[turn:], self._rows[:turn]])

    def since(self, cursor: int) -> tuple[NDArray[Any], int, int]:
        """Copy of the rows written after the first `cursor`, the next cursor, and how many of them were overwritten."""
        end = self.count
        first = max(cursor, end - self.capacity + 1, 0)
        rows = self._rows[np.arange(first, end) % self.capacity]
        torn = max(0, min(self.count - self.capacity + 1 - first, end - first))  # overwritten while we copied
        return rows[torn:], end, first + torn - cursor

    def close(self) -> None:
        """Unmap and close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            del self._rows, self._count  # they look into the mapping, which could not be closed under them
            self._map.close()
            os.close(self.fd)
            self.fd = -1
