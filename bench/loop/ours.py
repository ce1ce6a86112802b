"""One window of our loop: a process that does what the servo process does between two commands, and times it.

    python -m bench.loop.ours --rate-hz 1000 --samples 4603 --core 1 --out window.npy

Per period: sleep to the absolute deadline, find the step to serve, note one row of the servo's own dtype in
shared memory. A sample is the wake latency, deadline to the clock read after waking, in ns; a period that was
overslept is no sample, as in cyclictest, but is counted. `--tail-us` spins before each deadline.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgevla.bundle.arrays import npy_bytes
from edgevla.control.child import adopt, emit, guarded
from edgevla.control.clock import Grid, sleep_until
from edgevla.control.realtime import ask
from edgevla.telemetry.rows import Rows, tick_dtype

CHANNELS = 4  # of the reference arm
WARM_UP = 100  # periods that are not counted: a servo process runs for hours
_LEAD_NS = 20_000_000  # before the first deadline


def spin_until(deadline_ns: int, tail_ns: int) -> int:
    """Sleep to `tail_ns` before the deadline, then read the clock until it is there; the time of waking."""
    now_ns = sleep_until(deadline_ns - tail_ns)
    while now_ns < deadline_ns:
        now_ns = time.monotonic_ns()
    return now_ns


def measure(rows: Rows, row: tuple[Any, ...], period_ns: int, count: int, tail_ns: int = 0) -> None:
    """`count` steps into `rows`: `row` with step, deadline and time of waking put in at its front."""
    wake: Callable[[int], int] = sleep_until
    if tail_ns:

        def wake(deadline_ns: int) -> int:
            return spin_until(deadline_ns, tail_ns)

    grid = Grid(time.monotonic_ns() + _LEAD_NS, period_ns)
    step = 0
    for _ in range(count):
        wake_ns = wake(grid.deadline_ns(step))
        served = grid.current_step(step, wake_ns)
        rows.append((served, served, grid.deadline_ns(step), wake_ns, *row))
        step = served + 1


def blank_row(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """A row of zeros without its first four fields."""
    zeros = np.zeros(1, dtype)[0]
    return tuple(zeros[name].copy() for name in (dtype.names or ())[4:])


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 and the samples in --out, or one error event."""
    arguments = _arguments(argv)
    adopt(arguments.parent, signal.SIGTERM)
    dtype = tick_dtype(CHANNELS, CHANNELS)
    rows = Rows.create(dtype, arguments.samples + WARM_UP)
    granted = ask(arguments.priority, None if arguments.core < 0 else arguments.core)
    cpu_ns, wall_ns = time.process_time_ns(), time.monotonic_ns()
    period_ns = round(1e9 / arguments.rate_hz)
    measure(rows, blank_row(dtype), period_ns, arguments.samples + WARM_UP, round(arguments.tail_us * 1e3))
    cpu_share = (time.process_time_ns() - cpu_ns) / (time.monotonic_ns() - wall_ns)
    found = rows.newest()[WARM_UP:]
    Path(arguments.out).write_bytes(npy_bytes(found["wake_ns"] - found["deadline_ns"]))
    skipped = int(found["step"][-1] - found["step"][0]) + 1 - len(found)
    emit("measured", granted=granted.as_dict(), cpu_share=cpu_share, skipped=skipped)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.loop.ours")
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--out", required=True, help="where the samples go, .npy, ns")
    parser.add_argument("--core", type=int, default=-1, help="-1: not pinned")
    parser.add_argument("--priority", type=int, default=80, help="SCHED_FIFO")
    parser.add_argument("--tail-us", type=float, default=0.0, help="spin this long before each deadline")
    parser.add_argument("--parent", type=int, default=os.getppid())
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(guarded(main))
