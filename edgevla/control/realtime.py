"""What a deadline needs from the kernel: SCHED_FIFO, locked memory that stays, its own core, shallow idle, no GC."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import struct
import sys
from dataclasses import asdict, dataclass

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # mallopt(3)
_HEAP_STEP = 8 << 20  # bytes by which the heap grows, before the loop begins and once and for all
_IDLE_DEVICE = "/dev/cpu_dma_latency"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Granted:
    """What the process really has; `missing` says what it asked for and did not get, and why."""

    fifo_priority: int  # 0: SCHED_OTHER
    memory_locked: bool
    core: int | None
    missing: tuple[str, ...]
    shallow_idle: bool = False  # the kernel keeps every core out of the idle states that are slow to leave

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def ask(priority: int, core: int | None) -> Granted:
    """Take what the kernel gives this process: real-time class, locked pages, the core; freeze the heap.

    Shallow idle is asked for too, but a kernel that does not offer it breaks nothing: it is not in `missing`.
    """
    missing: list[str] = []
    pinned = _pin(core, missing)
    _keep_heap()
    locked = _lock_memory(missing)
    fifo = _fifo(priority, missing)
    gc.collect()
    gc.freeze()
    gc.disable()
    return Granted(fifo, locked, pinned, tuple(missing), _stay_shallow())


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


def _keep_heap() -> None:
    """Freed memory stays in the heap and large blocks come from it: what was touched once never faults again."""
    _libc.mallopt(_M_MMAP_MAX, 0)
    _libc.mallopt(_M_TRIM_THRESHOLD, -1)
    _libc.mallopt(_M_TOP_PAD, _HEAP_STEP)
    _libc.free.argtypes, _libc.malloc.restype = (ctypes.c_void_p,), ctypes.c_void_p
    _libc.free(_libc.malloc(_HEAP_STEP))  # mlockall() makes these pages present


def _stay_shallow() -> bool:
    """Ask for a wake-up latency of 0 us for as long as this process lives; True when the kernel takes it.

    On a host with cpuidle a core in a deep state wakes several times later, the servo's share of a period with it.
    """
    global _idle_fd
    try:
        if _idle_fd < 0:
            _idle_fd = os.open(_IDLE_DEVICE, os.O_WRONLY | os.O_CLOEXEC)
        os.write(_idle_fd, struct.pack("i", 0))
        return True
    except OSError:
        return False


_idle_fd = -1  # open for the life of the process: closing it takes the request back


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
