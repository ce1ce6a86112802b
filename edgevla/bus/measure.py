"""How long a cycle takes on this computer with this arm, and how much of that is not the wire."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware_bridge.arm import Arm, Float32, exchange
from firmware_bridge.errors import BridgeError
from firmware_bridge.transport.base import Frame
from firmware_bridge.wire import can_ns, uart_ns


class Counting:
    """A transport that adds up how long what passes takes on the wire, ns."""

    def __init__(self, inner: Any, baud: int, data_baud: int | None) -> None:
        self._inner, self._baud, self._data_baud = inner, baud, data_baud
        self.wire_ns = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: Any) -> None:
        self._inner.write(data)
        self._count(data)

    def read(self) -> Any:
        data = self._inner.read()
        self._count(data)
        return data

    def _count(self, data: Any) -> None:
        if isinstance(data, bytes):
            self.wire_ns += uart_ns(len(data), self._baud)
        else:
            self.wire_ns += sum(can_ns(frame, self._baud, self._data_baud) for frame in data if type(frame) is Frame)


@dataclass(frozen=True)
class Measured:
    """Milliseconds and microseconds of whole cycles. `jitter_us`: p99 of |period - its median|.

    `wire_ms` is arithmetic: what passed, at the profile's bit rate. `host_us_p50` is None where that rate or the
    declared delay is not this line's; `no_host_share` says which.
    """

    cycles: int
    failed: int
    errors: dict[str, int]
    cycle_ms_p50: float
    cycle_ms_p99: float
    cycle_ms_max: float
    hz: float
    wire_ms: float
    host_us_p50: float | None
    jitter_us_p99: float
    no_host_share: str = ""


def measure(
    arm: Arm, counters: list[Counting], cycles: int, armed: bool, return_delay_s: float, deadline_s: float
) -> Measured:
    """`cycles` exchanges one after the other: questions, or with `armed` commands to stay where the arm is.

    host share = cycle - wire - `return_delay_s`. Buses of one arm work side by side: the busiest counts.
    """
    once = _commands(arm, deadline_s) if armed else lambda: _ask(arm, deadline_s)
    took, ends, wires, errors = [], [], [], dict[str, int]()
    for _ in range(cycles):
        before = [counter.wire_ns for counter in counters]
        started_ns = time.monotonic_ns()
        try:
            once()
        except BridgeError as error:
            name = type(error).__name__
            errors[name] = errors.get(name, 0) + 1
            if name in ("PortGone", "BusOff", "NotArmed"):
                raise
            continue
        ends.append(time.monotonic_ns())
        took.append(ends[-1] - started_ns)
        wires.append(max(c.wire_ns - b for c, b in zip(counters, before, strict=True)))
    return _measured(took, ends, wires, errors, return_delay_s)


def _commands(arm: Arm, deadline_s: float) -> Callable[[], object]:
    held: Float32 = arm.held
    return lambda: exchange(arm, held, time.monotonic_ns() + int(deadline_s * 1e9))


def _ask(arm: Arm, deadline_s: float) -> None:
    arm.request_state()
    asked, deadline_ns = arm.last_asked, time.monotonic_ns() + int(deadline_s * 1e9)
    while arm.wait_readable(deadline_ns):
        state = arm.poll()
        if state is not None and state.last_seq == asked:
            return
        if time.monotonic_ns() >= deadline_ns:
            break
    raise arm.silence()


def _measured(
    took: list[int], ends: list[int], wires: list[int], errors: dict[str, int], return_delay_s: float
) -> Measured:
    failed = sum(errors.values())
    if not took:
        nan = float("nan")
        return Measured(0, failed, errors, nan, nan, nan, 0.0, nan, nan, nan)
    cycle_ns, periods = np.array(took, float), np.diff(ends) if len(ends) > 1 else np.zeros(1)
    p50, p99 = np.percentile(cycle_ns, [50, 99]) * 1e-6
    wire_ms = float(np.median(wires)) * 1e-6
    host_us = float(np.median((cycle_ns - np.array(wires)) * 1e-3 - return_delay_s * 1e6))
    reason = _no_host_share(float(p50), wire_ms, return_delay_s) if host_us < 0 else ""
    jitter = np.percentile(np.abs(periods - np.median(periods)), 99) * 1e-3
    return Measured(
        cycles=len(took),
        failed=failed,
        errors=errors,
        cycle_ms_p50=float(p50),
        cycle_ms_p99=float(p99),
        cycle_ms_max=float(cycle_ns.max() * 1e-6),
        hz=1e3 / float(p50),
        wire_ms=wire_ms,
        host_us_p50=None if reason else host_us,
        jitter_us_p99=float(jitter),
        no_host_share=reason,
    )


def _no_host_share(cycle_ms: float, wire_ms: float, return_delay_s: float) -> str:
    """Why cycle - wire - declared delay is less than nothing."""
    if cycle_ms < wire_ms:
        got = f"a cycle ({cycle_ms:.3f} ms) is shorter than its bytes at the profile's bit rate ({wire_ms:.3f} ms)"
        return f"{got}: this line has no bit rate; a virtual arm has one with `edgevla sim-arm PROFILE --paced`"
    left = f"{cycle_ms - wire_ms:.3f} ms of a cycle are left beside the wire"
    return f"{left}, less than return delay and USB turnaround of the profile ({1e3 * return_delay_s:g} ms)"


def in_words(found: Measured) -> list[tuple[str, str]]:
    """What was measured, a row each."""
    failed = ", ".join(f"{count} {name}" for name, count in found.errors.items())
    cycle = f"{found.cycle_ms_p50:.3f} / {found.cycle_ms_p99:.3f} / {found.cycle_ms_max:.3f} ms"
    rows = [
        ("cycles", f"{found.cycles:,}" + (f"; failed: {failed}" if failed else "")),
        ("one cycle, p50 / p99 / largest", cycle),
        ("cycles per second at p50", f"{found.hz:,.0f}"),
        ("period jitter, p99", f"{found.jitter_us_p99:,.0f} us"),
        ("wire time of what passed, arithmetic", f"{found.wire_ms:.3f} ms"),
    ]
    host = [("host share, p50", f"{found.host_us_p50:,.0f} us")] if found.host_us_p50 is not None else []
    return [*rows, *host]
