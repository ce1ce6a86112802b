"""Delays put into a real run of the guard, each by what really delays there.

EDGEVLA_PLANT says which one, EDGEVLA_PLANT_S how long; a part that is not that one runs as it is. Policy and camera ask
for a real-time class below the servo's once they run, so that a busy machine hardly shows in what is measured.

servo: it is late after every sleep, busily, as one that was preempted. bus: the write to the line blocks, as with a
slow adapter. line: bytes arrive later at the device. capture: the camera delivers later. policy: the engine takes
longer.

    python -m tests.bench.planted servo|bus|capture      in place of the real process
    python -m tests.bench.planted line ARM_PORT
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

_PRIORITY = 10  # SCHED_FIFO


def delay_s(what: str) -> float:
    """How long that part is delayed."""
    return float(os.environ["EDGEVLA_PLANT_S"]) if os.environ.get("EDGEVLA_PLANT") == what else 0.0


def prompt() -> None:
    """Before other programs, where that is permitted."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))


def slow_policy(config: Any) -> Any:
    """Engine factory: that of the bundle, and a rest before each answer."""
    from edgevla.policy.process import bundle_engine

    slow = SlowEngine(bundle_engine(config))
    prompt()
    return slow


class SlowEngine:
    """A real engine that takes longer."""

    def __init__(self, engine: Any) -> None:
        self._engine, self._delay_s = engine, delay_s("policy")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def infer(self, *inputs: Any) -> Any:
        time.sleep(self._delay_s)
        return self._engine.infer(*inputs)


def servo() -> int:
    from edgevla.control import servo as real

    sleep_until, late_ns = real.sleep_until, int(delay_s("servo") * 1e9)

    def late(deadline_ns: int) -> int:
        until_ns = sleep_until(deadline_ns) + late_ns
        while time.monotonic_ns() < until_ns:
            pass
        return time.monotonic_ns()

    real.sleep_until = late
    return real.main()


def bus() -> int:
    from edgevla.control import servo as real

    driver_of, blocked_s = real.driver_of, delay_s("bus")

    def slow(profile: Any, ports: Any) -> Any:
        arm = driver_of(profile, ports)
        write = arm.transport.write

        def blocking(data: bytes) -> None:
            time.sleep(blocked_s)
            write(data)

        arm.transport.write = blocking
        return arm

    real.driver_of = slow
    return real.main()


def capture() -> int:
    from edgevla.sensors import process as real

    open_source, late_s = real.open_source, delay_s("capture")

    def slow(*asked: Any) -> Any:
        prompt()  # the thread that reads takes it over
        source = open_source(*asked)
        read = source.read

        def late(timeout_s: float) -> Any:
            shot = read(timeout_s)
            time.sleep(late_s)
            return shot

        source.read = late
        return source

    real.open_source = slow
    return real.main()


def line(arm_port: str) -> int:
    """The line recorder of the fault tests, slow from the second command on. Ends when stdin does.

    A line slow in one direction from the start looks half as slow: the device's clock is estimated over it.
    """
    import json

    from firmware_bridge.edgelink.codec import Command, Decoder
    from tests.faults.line import Line

    class SlowLine(Line):
        moving, heard = False, Decoder(4)

        def _deliver(self, data: bytes) -> None:
            if self.moving:
                time.sleep(late_s)
            self.moving = self.moving or any(isinstance(said, Command) for said in self.heard.feed(data))
            super()._deliver(data)

    late_s = delay_s("line")
    prompt()
    slow = SlowLine(arm_port)
    print(json.dumps({"port": slow.pair.port}), flush=True)
    while slow.step(0):
        pass
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "line":
        sys.exit(line(sys.argv[2]))
    from edgevla.control.child import guarded

    sys.exit(guarded({"servo": servo, "bus": bus, "capture": capture}[sys.argv[1]]))
