"""Chrome's Trace Event format, as Perfetto and chrome://tracing load it: events in, one JSON object out. Pure.

Fields as in the format's own document: `ph` is the kind (X complete, i instant, C counter, M metadata, s/t/f the start,
step and end of a flow), `ts` and `dur` are microseconds. Ours are CLOCK_MONOTONIC of the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
Point = tuple["Track", int]  # a track and a time in ns, inside a slice of it


@dataclass(frozen=True)
class Track:
    """A line of the time line: a thread of a process. The numbers order them; they are not those of the kernel."""

    pid: int
    tid: int


@dataclass
class Trace:
    """Collects events."""

    events: list[Event] = field(default_factory=list)

    def process(self, pid: int, name: str) -> None:
        """Name a process; they are shown in the order of their numbers."""
        self._meta(Track(pid, 0), "process_name", name=name)
        self._meta(Track(pid, 0), "process_sort_index", sort_index=pid)

    def thread(self, track: Track, name: str) -> None:
        """Name a thread; they are shown in the order of their numbers."""
        self._meta(track, "thread_name", name=name)
        self._meta(track, "thread_sort_index", sort_index=track.tid)

    def slice(
        self, track: Track, name: str, category: str, begin_ns: int, end_ns: int, args: Mapping[str, Any] | None = None
    ) -> None:
        """Something that lasted. Slices of a track nest or lie apart."""
        self.events.append(
            {
                **_head("X", track, name, category, begin_ns),
                "dur": max(0, end_ns - begin_ns) / 1e3,
                "args": dict(args or {}),
            }
        )

    def instant(self, track: Track, name: str, category: str, at_ns: int) -> None:
        """Something that happened, on its thread."""
        self.events.append({**_head("i", track, name, category, at_ns), "s": "t"})

    def counter(self, pid: int, name: str, at_ns: int, values: Mapping[str, float]) -> None:
        """A value over time, a track of its own."""
        self.events.append({**_head("C", Track(pid, 0), name, "counter", at_ns), "args": dict(values)})

    def flow(self, number: int, name: str, points: Sequence[Point]) -> None:
        """Arrows from slice to slice, at least two."""
        last = len(points) - 1
        for index, (track, at_ns) in enumerate(points):
            kind = "s" if index == 0 else "f" if index == last else "t"
            event = {**_head(kind, track, name, "flow", at_ns), "id": number}
            self.events.append({**event, "bp": "e"} if kind == "f" else event)

    def document(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """What the file holds: events in the order of time, names first."""
        ordered = sorted(self.events, key=lambda event: (event["ph"] != "M", event["ts"], -event.get("dur", 0.0)))
        return {"displayTimeUnit": "ms", "otherData": {**about, "clock": "CLOCK_MONOTONIC"}, "traceEvents": ordered}

    def _meta(self, track: Track, kind: str, **args: Any) -> None:
        self.events.append({**_head("M", track, kind, "__metadata", 0), "args": args})


def _head(kind: str, track: Track, name: str, category: str, at_ns: int) -> Event:
    return {"ph": kind, "name": name, "cat": category, "pid": track.pid, "tid": track.tid, "ts": at_ns / 1e3}
