"""One exchange of each protocol with its virtual device over a pty (serial) or a Unix socket (CAN): command, states.

The device is a process of its own, on another core where there is one. Needs the case of `bench.bus`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from .path import Made, Paths, Place

PATHS = Paths()
JOINTS = 6
PROTOCOLS = ("edgelink", "feetech", "dynamixel", "damiao", "odrive", "cia402", "moteus")


def _other_core() -> set[int]:
    """Where a device runs: not on the core of this process, if there is another."""
    everywhere = set(range(os.cpu_count() or 1))
    here = os.sched_getaffinity(0)
    return (everywhere - {min(here)}) or here


def _add(protocol: str) -> None:
    @PATHS.add(f"bus/{protocol}: exchange")
    def _exchange(place: Place) -> Made:
        from bench.bus.measure import Ours
        from firmware_bridge.errors import NotArmed
        from firmware_bridge.virtual.client import VirtualProcess

        case = import_module(f"bench.bus.peers.{protocol}").case(JOINTS)
        options = dict(case.options if case.device is None else case.device)
        served = place.stack.enter_context(VirtualProcess(case.protocol, case.joints, options=options))
        os.sched_setaffinity(served.pid, _other_core())
        ours = Ours(case, served.port)
        place.stack.callback(ours.arm.close)
        ours.arm.arm()
        steps = iter(range(1 << 62))

        def right(state: Any) -> bool:
            return state is not None and len(state.position) == JOINTS

        def again() -> None:
            """One exchange tells that the device's watchdog stopped the arm, the next is refused: then it is armed."""
            for _ in range(2):
                try:
                    ours.call(next(steps))
                except NotArmed:
                    ours.arm.arm()

        return Made(lambda: ours.call(next(steps)), right, again)


for _protocol in PROTOCOLS:
    _add(_protocol)
