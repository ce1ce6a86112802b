"""Driving virtual drives: the driver, whole cycles, what the drives say of themselves."""

import time

import numpy as np

from firmware_bridge.arm import exchange
from firmware_bridge.cia402.driver import Cia402Arm
from firmware_bridge.transport.socket_can import SocketCan
from tests.firmware_bridge.cia402.arms import JOINTS, OPTIONS, WATCHDOG_S

CYCLE_NS = 100_000_000


def driver(device, joints=JOINTS, watchdog_s=WATCHDOG_S, **options):
    return Cia402Arm(SocketCan(device.port), joints, watchdog_s, {**OPTIONS, **options})


def settled(device):
    """Commands taken, once those under way have arrived."""
    seen = -1
    while (now := device.do("report")["device"]["commands"]) != seen:
        seen = now
        time.sleep(0.02)
    return seen


def cycle(arm, setpoint):
    return exchange(arm, np.asarray(setpoint, np.float32), time.monotonic_ns() + CYCLE_NS)


def cycles_until(arm, setpoint, wanted, seconds=2.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = cycle(arm, setpoint)
        if wanted(state):
            return state
    raise AssertionError(f"not within {seconds} s: {state}")


def states(device):
    return set(device.do("report")["device"]["states"])
