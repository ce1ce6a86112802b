"""Whole frames from a pipe, the newest only, each with a stamp that is never later than its arrival."""

from __future__ import annotations

import os
import select
import time

from edgevla.errors import DeviceFault, explain


class FramePipe:
    """Frames of `frame_bytes` bytes, one after the other, from the read end of a pipe.

    A frame that makes the reader wait is stamped as its first byte arrives. One that was there already came after the
    last time the pipe was seen empty between two frames: that time is its stamp. So a reader that was stopped never
    takes an old picture for a new one.
    """

    def __init__(self, fd: int, frame_bytes: int, opened_ns: int) -> None:
        self._fd = fd
        self._frame = bytearray(frame_bytes)
        self._filled = 0
        self._empty_ns = opened_ns  # at a boundary between frames, nothing was in the pipe
        self._stamp_ns = opened_ns  # of the frame being read
        self.received = 0  # whole frames, those passed over too
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        os.set_blocking(fd, False)

    def read(self, timeout_s: float) -> tuple[bytes, int] | None:
        """The newest whole frame and its stamp; None when none came in time. Raises DeviceFault at the pipe's end."""
        until_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        newest: tuple[bytes, int] | None = None
        while True:
            left_ns = until_ns - time.monotonic_ns()
            if left_ns <= 0 and newest is not None:
                return newest  # a writer that never pauses
            if not self._await(0 if newest is not None else max(0, left_ns)):
                return newest
            if not self._take():
                return self._at_end(newest)
            if self._filled == len(self._frame):
                newest, self._filled = (bytes(self._frame), self._stamp_ns), 0
                self.received += 1

    def _await(self, patience_ns: int) -> bool:
        """Is there something to read? Decides the stamp of a frame whose first byte is next."""
        if self._poll.poll(0):
            if self._filled == 0:
                self._stamp_ns = self._empty_ns
            return True
        if self._filled == 0:
            self._empty_ns = time.monotonic_ns()
        if not patience_ns or not self._poll.poll(patience_ns / 1e6):
            return False
        if self._filled == 0:
            self._stamp_ns = time.monotonic_ns()
        return True

    def _take(self) -> int:
        """Bytes read into the frame; 0 at the pipe's end."""
        count = os.readv(self._fd, [memoryview(self._frame)[self._filled :]])
        self._filled += count
        return count

    def _at_end(self, newest: tuple[bytes, int] | None) -> tuple[bytes, int]:
        if newest is None:
            raise DeviceFault(explain("the frames ceased", "a running source", "the end of its pipe", "see its log"))
        return newest
