"""Steps the wall clock by a year and back, in a process of its own that nobody's death keeps from the second half.

    python -m tests.faults.clock SECONDS

It says {"at_ns": ...} when the clock is wrong. How far back is told by CLOCK_MONOTONIC, which a step does not touch.
"""

from __future__ import annotations

import json
import signal
import sys
import time

YEAR_NS = 365 * 86_400 * 1_000_000_000


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    real_ns, begun_ns = time.clock_gettime_ns(time.CLOCK_REALTIME), time.monotonic_ns()
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, real_ns + YEAR_NS)
        print(json.dumps({"at_ns": time.monotonic_ns()}), flush=True)
        time.sleep(float(sys.argv[1]))
    finally:
        time.clock_settime_ns(time.CLOCK_REALTIME, real_ns + time.monotonic_ns() - begun_ns)
    return 0


def refused() -> str:
    """Why the wall clock cannot be stepped here; "" when it can. Sets it to what it is."""
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))
    except OSError as error:
        return f"the wall clock cannot be set here: {error.strerror}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
