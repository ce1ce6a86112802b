"""Fresh processes to compute on, which end with the one that asked for them, however that ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from edgevla.control.realtime import die_with_parent


def spawned(workers: int, begin: Callable[..., None] | None = None, *given: Any) -> ProcessPoolExecutor:
    """A pool of fresh processes: torch and MuJoCo do not survive a fork.

    Args:
        workers: processes.
        begin: called with `given` in each process before its first job. All jobs have to be submitted by the thread
            that calls this: the kernel ends the processes when that thread does.
    """
    first = (os.getpid(), begin, given)
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=first)


def _begin(parent_pid: int, begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    die_with_parent(parent_pid, signal.SIGKILL)
    if begin is not None:
        begin(*given)
