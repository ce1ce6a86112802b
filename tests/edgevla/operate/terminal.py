"""A program as the foreground process of a pty of its own, as under a shell."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time

OWN_SESSION = "import fcntl, os, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"


class Terminal:
    """Standard input and output are the pty; what the program says on its standard error is expected."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (40, 100)) if sys.version_info >= (3, 11) else None
        self.normal = termios.tcgetattr(self.slave)
        self.errors, write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_SESSION + program, *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=write,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(write)

    def expect(self, word: str) -> str:
        """Everything it says until `word`."""
        said, until = "", time.monotonic() + 20.0
        while word not in said:
            assert select.select([self.errors], [], [], max(0.0, until - time.monotonic()))[0], f"silent after {said!r}"
            data = os.read(self.errors, 4096)
            assert data, f"ended after {said!r}"
            said += data.decode()
        return said

    def drawn(self, word: str) -> str:
        """Everything it draws until `word`."""
        shown, until = "", time.monotonic() + 20.0
        while word not in shown:
            assert select.select([self.master], [], [], max(0.0, until - time.monotonic()))[0], f"dark after {shown!r}"
            shown += os.read(self.master, 65536).decode("utf-8", "replace")
        return shown

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.normal

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for fd in (self.master, self.slave, self.errors):
            os.close(fd)
