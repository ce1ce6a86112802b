"""One session at a time in a folder of checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from edgevla.errors import Refused, explain


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Makes the folder and keeps another session out of it. Raises Refused: one is at work there."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            todo = "wait for it, or choose another folder"
            raise Refused(explain(f"{work}", "one session at a time", "another is at work", todo)) from None
        yield
