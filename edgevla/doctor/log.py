"""The kernel's log since boot: throttling, resets and disconnects that are over, and come again."""

from __future__ import annotations

import re

from edgevla.doctor.finding import Finding, passed, unknown, warned
from edgevla.doctor.host import Host, Wanted

# subject -> (pattern, what to do about it)
_SIGNS = {
    "real-time throttling": (
        r"sched: (RT|DL) throttling activated|dl_server",
        "find the busy one: ps -eLo pid,cls,rtprio,pcpu,comm --sort=-pcpu | grep FF",
    ),
    "thermal throttling": (
        r"cpu clock throttled|temperature above threshold|thermal.*throttl|throttl.*thermal",
        "cool it: a fan, a heat sink, a lower power mode",
    ),
    "supply": (
        r"under-?voltage detected|over-?current|throttled due to",
        "a supply and a cable that hold the voltage under load",
    ),
    "USB": (
        r"usb \S+: (reset \S+ USB device|USB disconnect)|disabled by hub|cannot enable|converter now disconnected",
        "another cable or port; no hub without its own supply; usbcore.autosuspend=-1 at boot",
    ),
    "memory": (r"Out of memory: Killed process|oom-kill:", "ps -eo pid,rss,comm --sort=-rss | head"),
}


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject."""
    del wanted
    reading = host.run(["dmesg"])
    if reading.text is None:
        return [unknown("kernel log", reading.reason, "no throttling, no USB reset", "sudo dmesg | tail -50")]
    found = [_sign(reading.text, name, pattern, todo) for name, (pattern, todo) in _SIGNS.items()]
    signs = [finding for finding in found if finding is not None]
    lines = len(reading.text.splitlines())
    return signs or [passed("kernel log", f"{lines} lines, none of it", "no throttling, no USB reset")]


def _sign(log: str, name: str, pattern: str, todo: str) -> Finding | None:
    lines = [line.strip() for line in log.splitlines() if re.search(pattern, line, re.IGNORECASE)]
    if not lines:
        return None
    return warned(f"kernel log: {name}", f"{len(lines)} times, last: {lines[-1]}", "none", todo)
