"""One installer at a time, over processes and connections: a lock that dies with its holders, and who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgevla.errors import Refused, explain
from edgevla.install.durable import make_folders, open_lock
from edgevla.install.layout import Layout

_PATIENCE_S = 2.0  # the boot selector holds it for some milliseconds
_LOOK_S = 0.05


@dataclass(frozen=True)
class Holder:
    """Who has the lock. Time since boot: the wall clock of a robot may be anything."""

    pid: int
    who: str
    since_boot_s: float

    def __str__(self) -> str:
        held_s = time.clock_gettime(time.CLOCK_BOOTTIME) - self.since_boot_s
        return f"{self.who} (pid {self.pid}), for {held_s:.0f} s"


def this_holder(environment: Mapping[str, str] | None = None) -> Holder:
    """This process, with the user and the address that it serves."""
    known = os.environ if environment is None else environment
    user = known.get("SUDO_USER") or known.get("LOGNAME") or known.get("USER") or f"uid {os.getuid()}"
    address = known.get("SSH_CLIENT", "").split(" ")[0]
    who = f"{user} from {address}" if address else user
    return Holder(os.getpid(), who, round(time.clock_gettime(time.CLOCK_BOOTTIME), 3))


class InstallLock:
    """Held from `take` until `close`, and by every process that got `fileno`, until the last of them has ended."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def take(cls, layout: Layout, holder: Holder, patience_s: float = _PATIENCE_S) -> InstallLock:
        """Raises Refused, naming who has it and since when; OSError."""
        make_folders(layout.prefix)
        handle = open_lock(layout.lock)
        try:
            deadline_s = time.monotonic() + patience_s
            while not _try(handle):
                if time.monotonic() >= deadline_s:
                    raise _taken(layout)
                time.sleep(_LOOK_S)
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(asdict(holder)).encode(), 0)
        except BaseException:
            os.close(handle)
            raise
        return cls(handle)

    @classmethod
    def inherited(cls, handle: int) -> InstallLock:
        """In a process that was given `fileno`."""
        os.set_inheritable(handle, False)
        return cls(handle)

    def fileno(self) -> int:
        return self._handle

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def is_locked(layout: Layout) -> bool:
    """Whether an installer is at work now. Not for the one who holds the lock itself."""
    try:
        handle = os.open(layout.lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try(handle)
    finally:
        os.close(handle)


def holder_said(layout: Layout) -> Holder | None:
    """Who took the lock last, None where nobody can tell."""
    try:
        data: Any = json.loads(layout.lock.read_text())
        return Holder(int(data["pid"]), str(data["who"]), float(data["since_boot_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _taken(layout: Layout) -> Refused:
    todo = "wait for it: `edgevla deploy status` says how far it is"
    holder = holder_said(layout)
    return Refused(explain("another deploy is at work on this robot", "one at a time", holder or "somebody", todo))


def _try(handle: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
