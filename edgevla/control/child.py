"""What every child process of a run does: events as JSON lines on stdout, errors as one event, no orphan."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from edgevla.control.realtime import die_with_parent


def emit(event: str, **fields: Any) -> None:
    """One event for the parent. Never on the servo's path."""
    with contextlib.suppress(OSError):  # the parent is gone: stdin says so too, and that ends the process
        os.write(1, (json.dumps({"event": event, **fields}) + "\n").encode())


def adopt(parent_pid: int, death_signal: int) -> None:
    """Signals of a child: Ctrl-C belongs to the parent, and its death is ours; a stray SIGUSR is no reason to die."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent_pid, death_signal)


def read_line(fd: int) -> str:
    """One line, byte by byte: what follows it stays in the descriptor for select()."""
    line = bytearray()
    while byte := os.read(fd, 1):
        if byte == b"\n":
            break
        line += byte
    return line.decode()


def guarded(main: Callable[[], int]) -> int:
    """Run `main`; any exception becomes one event {"event": "error", exit_code, message}."""
    try:
        return main()
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        code = getattr(error, "exit_code", None)
        known = isinstance(code, int)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        if not known:
            traceback.print_exc(file=sys.stderr)
        emit("error", exit_code=code if known else 5, message=message, known=known)
        return code if isinstance(code, int) else 5
