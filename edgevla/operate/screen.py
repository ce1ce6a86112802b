"""The terminal that the view is drawn on. One that stands still (Ctrl-S, a dead connection) never holds the run."""

from __future__ import annotations

import contextlib
import io
import os
import select
import time
from typing import IO, cast

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.live import Live

_LAST_S = 0.2  # to leave the alternate screen of a slow terminal


class PatientTerminal(io.TextIOBase):
    """What is printed waits in memory for a terminal that is slow; `behind` says so. Never blocks.

    It opens the terminal anew: O_NONBLOCK on the descriptor that was inherited would change the shell's too.
    Raises OSError: `fd` is no terminal.
    """

    def __init__(self, fd: int = 1) -> None:
        self._fd = os.open(os.ttyname(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        self._waiting = b""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    @property
    def behind(self) -> bool:
        """Something that was printed earlier has not reached the terminal yet."""
        self.flush()
        return bool(self._waiting)

    def write(self, text: str) -> int:
        self._waiting += text.encode("utf-8", "replace")
        return len(text)

    def flush(self) -> None:
        if self.closed:
            return
        with contextlib.suppress(OSError):  # full, or hung up: SIGHUP tells the run
            while self._waiting:
                self._waiting = self._waiting[os.write(self._fd, self._waiting) :]

    def drain(self) -> None:
        """Wait until the terminal has everything, `_LAST_S` at most."""
        until = time.monotonic() + _LAST_S
        while self.behind and (left := until - time.monotonic()) > 0.0:
            select.select([], [self._fd], [], left)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


class Screen:
    """The alternate screen of a terminal while the `with` block lasts. No thread refreshes it."""

    def __init__(self, fd: int = 1) -> None:
        self._terminal = PatientTerminal(fd)
        width, height = _size(fd)
        self._fd = fd
        self.console = Console(file=cast(IO[str], self._terminal), force_terminal=True, width=width, height=height)
        self._live = Live(
            console=self.console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @staticmethod
    def possible(fd: int = 1) -> bool:
        """A terminal that can address its cursor; nothing is ever drawn on anything else."""
        return os.isatty(fd) and os.environ.get("TERM", "dumb") != "dumb"

    def enter(self) -> None:
        """To the alternate screen: at the start, and when a suspended run goes on."""
        self._live.start()
        self._terminal.flush()

    def leave(self) -> None:
        """Back to the screen that was there before: at the end, and before the run is suspended."""
        self._live.stop()
        self._terminal.drain()

    def __enter__(self) -> Screen:
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._terminal.close()

    def show(self, view: RenderableType) -> bool:
        """Draw; False when this one was left out: the terminal is still busy, or belongs to another job now."""
        if _of_another_job(self._fd) or self._terminal.behind:
            return False
        with contextlib.suppress(OSError):
            self.console.size = ConsoleDimensions(*_size(self._fd))
        self._live.update(view, refresh=True)
        self._terminal.flush()
        return True


def _size(fd: int) -> tuple[int, int]:
    """Columns and lines; a terminal that does not know its size counts as 80 x 24."""
    size = os.get_terminal_size(fd)
    return size.columns or 80, size.lines or 24


def _of_another_job(fd: int) -> bool:
    """The run was put into the background: the shell writes there now."""
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:
        return False  # not the controlling terminal of this session: no shell shares it
