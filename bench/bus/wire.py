"""Cycles against the log of a line: how much of each the wire was busy, and what is left to the host. Pure, ns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevla.errors import Unsound, explain
from edgevla.telemetry.stats import nearest_rank
from firmware_bridge.virtual.line import TO_HOST

Array = NDArray[np.int64]
Interval = tuple[int, int, int]  # start ns, end ns, direction
WINDOWS = 10  # of a run, for the spread of its medians
_SHORTEST_GAP_NS = 1_000  # below: rounding


@dataclass(frozen=True)
class Cycles:
    """One row a cycle, int64 (n,): from one command to the next; the union of its busy intervals; declared waits."""

    cycle: Array
    wire: Array
    turnaround: Array

    @property
    def host(self) -> Array:
        return self.cycle - self.wire - self.turnaround

    def summary(self) -> dict[str, float | list[float]]:
        """Medians with the lowest and highest of WINDOWS consecutive windows, ms, us and Hz."""
        host_us, share = self.host / 1e3, self.wire / self.cycle
        return {
            "cycles": len(self.cycle),
            "wire_ms": float(np.median(self.wire)) / 1e6,
            "turnaround_ms": float(np.median(self.turnaround)) / 1e6,
            "hz": 1e9 / float(np.median(self.cycle)),
            "wire_efficiency": float(np.median(share)),
            "wire_efficiency_windows": _windows(share),
            "host_us_p50": float(np.median(host_us)),
            "host_us_p50_windows": _windows(host_us),
            "host_us_p99": float(np.sort(host_us)[nearest_rank(host_us.size, 0.99)]),
        }


def _windows(values: NDArray[np.float64]) -> list[float]:
    medians = [float(np.median(part)) for part in np.array_split(values, min(WINDOWS, len(values)))]
    return [min(medians), max(medians)]


def cycles(starts: Sequence[int], ends: Sequence[int], busy: Sequence[Interval], declared_ns: int) -> Cycles:
    """`starts` (n + 1,): first look at the clock of each exchange, and of the one behind the last. `ends` (n,): the
    state was in the caller's hands. `declared_ns`: the device's return delay, as connecting read it back.

    An interval belongs to the cycle it starts in. Raises Unsound when the line lies: a cycle shorter than its bytes, or
    a state that was there before its last bit.
    """
    at = np.searchsorted(np.array(starts, np.int64), [start for start, _, _ in busy], side="right") - 1
    rows: list[list[Interval]] = [[] for _ in ends]
    for cycle, interval in zip(at.tolist(), busy, strict=True):
        if 0 <= cycle < len(rows):
            rows[cycle].append(interval)
    usual = int(np.median([len(row) for row in rows]))
    wire, turnaround = [], []
    for row, start, end, following in zip(rows, starts[:-1], ends, starts[1:], strict=True):
        unasked = len(row) > usual  # a heartbeat may still be on its way when the answer is there, or the next command
        inside = [(begin, min(end, following), way) for begin, end, way in row] if unasked else row
        used, waited = _used(sorted(inside), declared_ns)
        wire.append(used)
        turnaround.append(waited)
        last = max((interval[1] for interval in row), default=start)
        if used > following - start or not row or (last > end and not unasked):
            got = f"{len(row)} intervals, {used} ns busy, the last until {last - start} ns"
            expected = f"busy intervals inside its cycle of {following - start} ns, over when its state came"
            todo = "the virtual line is wrong, or the exchange did not wait for its answer: no figure of it holds"
            raise Unsound(explain("a cycle faster than its wire", f"{expected} ({end - start} ns)", got, todo))
    return Cycles(np.diff(np.array(starts, np.int64)), np.array(wire, np.int64), np.array(turnaround, np.int64))


def _used(row: Sequence[Interval], declared_ns: int) -> tuple[int, int]:
    """(ns of the union, ns of the gaps before answers that the declared return delay explains)."""
    used = waited = 0
    until: int | None = None
    for start, end, direction in row:
        gap = 0 if until is None else start - until
        if direction == TO_HOST and gap > _SHORTEST_GAP_NS:
            waited += min(gap, declared_ns)
        used += max(0, end - max(start, start if until is None else until))
        until = end if until is None else max(until, end)
    return used, waited
