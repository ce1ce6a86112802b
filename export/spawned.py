"""Fresh processes to compute on, which end with the one that asked for them, however that ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from edgevla.control.realtime import die_with_parent

P = ParamSpec("P")
T = TypeVar("T")


class Pool(ProcessPoolExecutor):
    """Processes that never hear Ctrl-C, which goes to all of a terminal. An error that leaves the `with`, Ctrl-C among
    them, ends them in the middle of their work; what is queued is dropped."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with _held_back(signal.SIGINT):  # the processes start here, and inherit it
            return super().submit(fn, *args, **kwargs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.shutdown()
            return
        with _held_back(signal.SIGINT):  # a second Ctrl-C does not break off the end
            for process in list((self._processes or {}).values()):
                process.kill()
            self.shutdown(cancel_futures=True)


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """The signal waits meanwhile for this thread; processes that are started never hear it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def spawned(workers: int, begin: Callable[..., None] | None = None, *given: Any) -> Pool:
    """A pool of fresh processes: torch and MuJoCo do not survive a fork.

    Args:
        workers: processes.
        begin: called with `given` in each process before its first job. All jobs have to be submitted by the thread
            that calls this: the kernel ends the processes when that thread does.
    """
    first = (os.getpid(), begin, given)
    return Pool(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=first)


def _begin(parent_pid: int, begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    die_with_parent(parent_pid, signal.SIGKILL)
    if begin is not None:
        begin(*given)
