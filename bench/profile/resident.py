"""Peak resident memory of a process and of all that it starts, read from outside while it runs."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

_LOOK_S = 0.25  # the figure only grows: what matters is a look shortly before the end
NAMES = {
    "edgevla.policy.process": "policy",
    "edgevla.control.servo": "servo",
    "edgevla.control.guardian": "guardian",
    "edgevla.flight.recorder": "recorder",
    "edgevla.sensors.process": "camera",
    "edgevla.sim.virtual_arm": "virtual arm",
    "edgevla.cli.entry": "run",
}


class Resident(threading.Thread):
    """Looks at a process and its descendants four times a second; `peaks` are the largest VmHWM seen, bytes."""

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        super().__init__(name="resident", daemon=True)
        self._pid, self._proc, self._ended = pid, proc, threading.Event()
        self.peaks: dict[str, int] = {}

    def run(self) -> None:
        while True:
            self.look()
            if self._ended.wait(_LOOK_S):
                return

    def end(self) -> None:
        """Ask it to end, and wait for that."""
        self._ended.set()
        self.join()

    def look(self) -> None:
        """One look; processes that end meanwhile are left out of it."""
        for pid in descendants(self._pid, self._proc):
            name, peak = process_name(pid, self._proc), peak_bytes(pid, self._proc)
            if name and peak is not None:
                self.peaks[name] = max(peak, self.peaks.get(name, 0))


def descendants(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """`pid` and every process below it."""
    children: dict[int, list[int]] = {}
    for stat in proc.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            after_name = stat.read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def process_name(pid: int, proc: Path = Path("/proc")) -> str:
    """What a process of a run is called; '' for one that is none of them."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    return NAMES.get(module, "")


def peak_bytes(pid: int, proc: Path = Path("/proc")) -> int | None:
    """VmHWM: the largest resident size since it began; None where it has ended."""
    with contextlib.suppress(OSError):
        for line in (proc / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
