"""CPU time of processes that this one started, by what they run. Linux: proc(5)."""

from __future__ import annotations

import itertools
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

_LOOK_S = 0.25  # between two looks: a process is measured from the first to the last of them
_UTIME, _STIME, _PPID = 11, 12, 1  # fields of /proc/PID/stat behind the name


@dataclass
class CpuWatch:
    """Looks at all descendants whose command line names `module`, until `stop`."""

    module: str
    seen: dict[int, list[tuple[float, float]]] = field(default_factory=dict)  # pid -> (monotonic s, CPU s)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(_LOOK_S):
            self.look()

    def look(self) -> None:
        for pid, used in descendants(self.module).items():
            self.seen.setdefault(pid, []).append((time.monotonic(), used))

    @property
    def share(self) -> float | None:
        """CPU time over time, of one core, all matching processes together; None where none was seen twice."""
        spans = [(looks[0], looks[-1]) for looks in self.seen.values() if len(looks) > 1]
        if not spans:
            return None
        return sum((last[1] - first[1]) / (last[0] - first[0]) for first, last in spans)

    @property
    def shares(self) -> list[float]:
        """Of the process that was seen most often, look by look."""
        looks = max(self.seen.values(), key=len, default=[])
        return [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(looks)]


def descendants(module: str, proc: Path = Path("/proc")) -> dict[int, float]:
    """CPU seconds of this process's descendants that run `python -m module`, by pid."""
    parents, found = {}, {}
    for folder in proc.iterdir():
        if folder.name.isdigit() and (told := _read(folder)) is not None:
            parents[int(folder.name)] = told[0]
            if module in told[2]:
                found[int(folder.name)] = told[1]
    return {pid: used for pid, used in found.items() if _under(pid, parents)}


def _under(pid: int, parents: dict[int, int]) -> bool:
    mine = os.getpid()
    while pid in parents:
        pid = parents[pid]
        if pid == mine:
            return True
    return False


def _read(folder: Path) -> tuple[int, float, list[str]] | None:
    """Parent, CPU seconds, command line; None where it has ended."""
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        line = (folder / "cmdline").read_text().split("\0")
    except OSError:
        return None
    ticks = int(fields[_UTIME]) + int(fields[_STIME])
    exact = _exact_s(folder)
    return int(fields[_PPID]), ticks / os.sysconf("SC_CLK_TCK") if exact is None else exact, line


def _exact_s(folder: Path) -> float | None:
    """Of all threads, ns by the scheduler; None where the kernel does not say, and ticks of 10 ms have to do."""
    try:
        return sum(int(path.read_text().split()[0]) for path in folder.glob("task/*/schedstat")) / 1e9 or None
    except (OSError, ValueError, IndexError):
        return None
