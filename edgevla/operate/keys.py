"""Single keys of the terminal while a run lasts: space stops, `a` arms, `q` stops and quits, `?` helps.

The terminal is in cbreak mode inside the `with` block and as it was outside it, on every way out. Suspending
the run (Ctrl-Z) stops the arm first: nobody can press a key while the run sleeps.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

_READ = 256  # bytes at once; a hand does not type as many
_LFLAG, _CC = 3, 6  # places in what tcgetattr returns


class Key(Enum):
    """What the operator pressed."""

    STOP = " "
    ARM = "a"
    QUIT = "q"
    HELP = "?"


def keys_of(data: bytes) -> list[Key]:
    """Keys in what one read returned.

    Arming takes a key struck alone: a pasted text or the bytes of a function key never arm. A stop counts
    wherever it stands.
    """
    if len(data) == 1:
        return [key for key in Key if key.value.encode() == data.lower()]
    if data.startswith(b"\x1b"):
        return [Key.STOP] if b" " in data else []
    return [key for key in (Key.STOP, Key.QUIT) if key.value.encode() in data.lower()]


class Keys:
    """Keys of the terminal `fd`; none where it is no terminal or belongs to another job (`edgevla run &`).

    `suspending` is called before the process is suspended (stop the arm, leave the screen), `resumed` after it
    goes on (draw again). Both run in a signal handler of the main thread: let them be short.
    """

    def __init__(
        self,
        fd: int = 0,
        suspending: Callable[[], None] = lambda: None,
        resumed: Callable[[], None] = lambda: None,
    ) -> None:
        self._fd = fd
        self._suspending, self._resumed = suspending, resumed
        self._normal: list[Any] | None = None  # as the terminal was; None: not ours now
        self._gone = False  # hung up
        self._previous: Any = None  # handler of SIGTSTP

    @property
    def fd(self) -> int | None:
        """For select; None while there are no keys."""
        return self._fd if self._normal is not None else None

    def poll(self) -> list[Key]:
        """Keys struck since the last call; never waits."""
        if self._normal is None and not self._gone:
            self._take()  # a run that was put into the background is back in front
        if self._normal is None or not _foreground(self._fd) or not select.select([self._fd], [], [], 0.0)[0]:
            return []
        try:
            data = os.read(self._fd, _READ)
        except OSError:
            data = b""
        if not data:  # hung up: SIGHUP stops the run
            self._normal, self._gone = None, True
        return keys_of(data)

    def __enter__(self) -> Keys:
        self._take()
        if self._normal is not None and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTSTP, self._suspend)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTSTP, self._previous)
            self._previous = None
        self._give_back()

    def _take(self) -> None:
        if not os.isatty(self._fd) or not _foreground(self._fd):
            return
        with contextlib.suppress(termios.error):
            self._normal = termios.tcgetattr(self._fd)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, _cbreak(self._normal))

    def _give_back(self) -> None:
        if self._normal is not None and _foreground(self._fd):
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._normal)
        self._normal = None

    def _suspend(self, _number: int, _frame: object) -> None:
        self._suspending()
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # sleeps here until SIGCONT
        signal.signal(signal.SIGTSTP, self._suspend)
        self._take()
        self._resumed()


def _cbreak(normal: list[Any]) -> list[Any]:
    """Byte by byte, unseen; Ctrl-C and Ctrl-Z stay signals, Ctrl-S no longer halts the output."""
    mode = [*normal]
    mode[0] = normal[0] & ~termios.IXON
    mode[_LFLAG] = normal[_LFLAG] & ~(termios.ECHO | termios.ICANON)
    mode[_CC] = [*normal[_CC]]
    mode[_CC][termios.VMIN], mode[_CC][termios.VTIME] = 1, 0
    return mode


def _foreground(fd: int) -> bool:
    """The terminal listens to this process group: another one that touches it is suspended by the kernel."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False  # not the controlling terminal of this session
