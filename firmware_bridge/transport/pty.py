"""A pseudo-terminal pair: a virtual device holds the master, the host opens `port` like any serial port."""

from __future__ import annotations

import contextlib
import os
import pty
import tty


class PtyPair:
    """Raw pty. The kernel removes it with the process that holds it: even a kill leaves nothing."""

    def __init__(self) -> None:
        self.master_fd, self._slave_fd = pty.openpty()
        tty.setraw(self._slave_fd)  # no echo and no newline translation before the host configures its side
        os.set_blocking(self.master_fd, False)
        self.port = os.ttyname(self._slave_fd)
        # The slave stays open here: without it the master reads EIO whenever no host is connected.

    def read(self) -> bytes:
        """What the host has sent, b"" when nothing."""
        try:
            return os.read(self.master_fd, 4096)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> bool:
        """Hand `data` to the host; False when the line is full (nobody reads) and bytes were lost."""
        try:
            return os.write(self.master_fd, data) == len(data)
        except BlockingIOError:
            return False

    def close(self) -> None:
        for fd in (self.master_fd, self._slave_fd):
            with contextlib.suppress(OSError):
                os.close(fd)
        self.master_fd = self._slave_fd = -1

    def __enter__(self) -> PtyPair:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
