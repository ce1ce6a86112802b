"""A process that does what the servo does every period, and times it: wake, read the reply, write a command.

    python -m edgevla.check.servo_probe --port /dev/pts/3 --arm metaworld-sawyer --out host.npy ...

One sample is the host's share of one servo period in seconds: from the absolute deadline to the return of the
write. The arm holds: every command is the set-point that it holds already. A period that was overslept is a
sample too (it was late by so much), so that a stall is not counted once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevla.bundle.arrays import npy_bytes
from edgevla.control.child import adopt, emit, guarded
from edgevla.control.clock import Grid, sleep_until
from edgevla.control.realtime import Granted, ask
from firmware_bridge.arm import Arm
from profiles import ArmProfile, load_arm
from profiles.bridge import driver_of, parse_ports

_LEAD_NS = 20_000_000  # before the first deadline: arming is over and the caches are as they will be
_WARM_UP = 200  # periods that are not counted


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 and the samples in --out, or one error event."""
    arguments = _arguments(argv)
    adopt(arguments.parent, signal.SIGTERM)
    profile = load_arm(arguments.arm)
    link = driver_of(profile, parse_ports(profile, arguments.port))
    granted = ask(arguments.priority, None if arguments.core < 0 else arguments.core)
    samples = measure(link, profile, arguments.period_us * 1000, arguments.samples)
    Path(arguments.out).write_bytes(npy_bytes(samples))
    _report(granted, link)
    return 0


def measure(link: Arm, profile: ArmProfile, period_ns: int, count: int) -> NDArray[np.float64]:
    """Seconds from deadline to the return of the write, float64 (count,), on an arm that holds."""
    held = link.connect().held_setpoint
    try:
        link.arm()
        return _loop(link, held, round(profile.command_ttl_s * 1e9), period_ns, count)
    finally:
        link.close()


def _loop(link: Arm, held: NDArray[np.float32], ttl_ns: int, period_ns: int, count: int) -> NDArray[np.float64]:
    late_ns = np.zeros(count + _WARM_UP, np.int64)
    grid = Grid(time.monotonic_ns() + _LEAD_NS, period_ns)
    step = 0
    while step < len(late_ns):
        wanted = step
        woke_ns = sleep_until(grid.deadline_ns(wanted))
        step = min(grid.current_step(wanted, woke_ns), len(late_ns) - 1)
        link.poll()
        link.send(held, woke_ns + ttl_ns)
        done_ns = time.monotonic_ns()
        for passed in range(wanted, step + 1):
            late_ns[passed] = done_ns - grid.deadline_ns(passed)
        step += 1
    return late_ns[_WARM_UP:].astype(np.float64) * 1e-9


def _report(granted: Granted, link: Arm) -> None:
    counts = link.counts
    emit("measured", granted=granted.as_dict(), sent=counts.sent, replies=counts.replies, late=counts.late)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m edgevla.check.servo_probe")
    parser.add_argument("--port", required=True)
    parser.add_argument("--arm", required=True, help="name or path of the arm profile")
    parser.add_argument("--out", required=True, help="where the samples go, .npy")
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--period-us", type=int, required=True)
    parser.add_argument("--core", type=int, default=-1, help="-1: not pinned")
    parser.add_argument("--priority", type=int, required=True, help="SCHED_FIFO")
    parser.add_argument("--parent", type=int, default=os.getppid())
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(guarded(main))
