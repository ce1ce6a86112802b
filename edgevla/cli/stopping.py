"""How a command ends that somebody else ends: Ctrl-C, SIGTERM, SIGHUP, or a reader of stdout that has left."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a dropped connection must not leave an arm on its way


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that everything is closed; exit code 130.

    The first one counts: what is being closed is not interrupted by a second. Where one is ignored (nohup) it stays so.
    """
    if threading.current_thread() is not threading.main_thread():  # there Python takes no signals
        yield
        return

    def once(_number: int, _frame: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOPS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, once)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def until_told() -> Iterator[None]:
    """For what goes on until it is told to end: the same signals are its proper end, exit code 0, as of `edgevla run`.

    So is a reader of stdout that has left (`| head`).
    """
    try:
        with stoppable():
            yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        if not Stdout().reader_left():
            raise
        silence_stdout()


class Stdout:
    """Standard output as a command found it: what is told of it afterwards holds even where it was replaced."""

    def __init__(self) -> None:
        try:
            self._fd = os.dup(1)
        except OSError:  # closed
            self._fd = -1

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def reader_left(self) -> bool:
        """It is a pipe that nobody reads any more (`| head`)."""
        if self._fd < 0:
            return False
        asked = select.poll()
        asked.register(self._fd, 0)
        return any(event & select.POLLERR for _, event in asked.poll(0))


def stdout_error() -> OSError | None:
    """Why standard output does not take what was printed: a full disk, or a reader that has left."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return OSError(error.errno, error.strerror, "standard output")
    return None


def stdout_full() -> OSError | None:
    """For an error that names no file: whether it was standard output that took no more. Puts a newline where not."""
    try:
        os.write(1, b"\n")
    except OSError as error:
        return OSError(error.errno, error.strerror, "standard output")
    return None


def silence_stdout() -> None:
    """What is left in it goes nowhere, or Python complains at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
