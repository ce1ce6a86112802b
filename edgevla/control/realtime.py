"""What a deadline needs from the kernel: SCHED_FIFO, locked memory, its own core, no garbage collection."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from dataclasses import asdict, dataclass

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Granted:
    """What the process really has; `missing` says what it asked for and did not get, and why."""

    fifo_priority: int  # 0: SCHED_OTHER
    memory_locked: bool
    core: int | None
    missing: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def ask(priority: int, core: int | None) -> Granted:
    """Take what the kernel gives this process: real-time class, locked pages, the core; freeze the heap."""
    missing: list[str] = []
    pinned = _pin(core, missing)
    locked = _lock_memory(missing)
    fifo = _fifo(priority, missing)
    gc.collect()
    gc.freeze()
    gc.disable()
    return Granted(fifo, locked, pinned, tuple(missing))


def _fifo(priority: int, missing: list[str]) -> int:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        return priority
    except OSError as error:
        missing.append(f"SCHED_FIFO priority {priority} ({error.strerror})")
        return 0


def _lock_memory(missing: list[str]) -> bool:
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0:
        return True
    missing.append(f"mlockall ({os.strerror(ctypes.get_errno())})")
    return False


def _pin(core: int | None, missing: list[str]) -> int | None:
    if core is None:
        return None
    try:
        os.sched_setaffinity(0, {core})
        return core
    except OSError as error:
        missing.append(f"core {core} ({error.strerror})")
        return None


def pin(core: int | None) -> str | None:
    """Pin this process to a core; the reason when that is refused."""
    missing: list[str] = []
    _pin(core, missing)
    return missing[0] if missing else None


def die_with_parent(parent_pid: int, with_signal: int = signal.SIGTERM) -> None:
    """Have the kernel send `with_signal` when the parent's thread ends; leave at once if it already has."""
    if _libc.prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit(0)
