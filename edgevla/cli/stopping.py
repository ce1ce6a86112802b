"""How a command ends that somebody else ends: Ctrl-C, SIGTERM, SIGHUP, or a reader of stdout that has left."""

from __future__ import annotations

import os
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
