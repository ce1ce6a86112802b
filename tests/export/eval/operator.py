"""A scripted operator: a real process on a pseudo-terminal, what it prints, and what is typed."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
LIMIT_S = 20.0


class Operator:
    """Types only after the prompt that it waits for."""

    def __init__(self, *arguments: object) -> None:
        self.shown = ""
        self._read = 0
        script = str(Path(__file__).with_name("edgevla_eval.py"))
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.environ.update(TERM="dumb", COLUMNS="200", PYTHONPATH=str(ROOT))
            os.execv(sys.executable, [sys.executable, script, *map(str, arguments)])

    def wait_for(self, pattern: str) -> str:
        """Until it is printed behind what was waited for before; returns all that was new."""
        deadline = time.monotonic() + LIMIT_S
        while (found := re.search(pattern, self.shown[self._read :])) is None:
            if time.monotonic() > deadline or not self._more():
                raise AssertionError(f"never printed: {pattern!r}; printed:\n{self.shown[self._read :]}")
        new = self.shown[self._read : self._read + found.end()]
        self._read += found.end()
        return new

    def type(self, text: str, end: str = "\n") -> None:
        os.write(self._terminal, (text + end).encode())

    def trial(self, number: int, answer: str) -> None:
        self.wait_for(rf"trial {number} · scene {(number + 1) // 2},.*Enter starts it")
        self.type("")
        self.wait_for(rf"trial {number} · success\?")
        self.type(answer)

    def interrupt(self) -> int:
        """Ctrl-C at a prompt, as often as a person would: Python misses one that comes while it prints the prompt."""
        for _ in range(5):
            self.type("\x03", end="")
            pause = time.monotonic() + 2
            while time.monotonic() < pause:
                if select.select([self._terminal], [], [], 0.1)[0] and not self._more():
                    return self.end()
                if "stopped by Ctrl-C" in self.shown:
                    return self.end()
        return self.end()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)

    def end(self) -> int:
        """Reads to the end; returns the exit code."""
        while self._more():
            pass
        deadline = time.monotonic() + LIMIT_S
        while (ended := os.waitpid(self.pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        if ended == (0, 0):
            self.kill()
            raise AssertionError(f"it goes on and says nothing more; printed:\n{self.shown[self._read :]}")
        status = ended[1]
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)

    def _more(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], LIMIT_S)
        try:
            raw = os.read(self._terminal, 65536) if ready else b""
        except OSError:  # the other end is closed
            raw = b""
        self.shown += raw.decode(errors="replace").replace("\r\n", "\n")
        return bool(raw)
