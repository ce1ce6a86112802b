"""A driver on a transport that is the device itself, in this process."""

from __future__ import annotations

import time

import numpy as np

from firmware_bridge.arm import exchange
from firmware_bridge.dynamixel import virtual
from firmware_bridge.dynamixel.driver import DynamixelArm
from firmware_bridge.dynamixel.options import parse
from firmware_bridge.virtual.__main__ import plant_of
from tests.firmware_bridge.dynamixel.arms import ALIKE, WATCHDOG_S


class Wire:
    """A transport that is the device: what is written is answered at once. `silent`: servos whose answers are lost."""

    name = "wire"

    def __init__(self, device):
        self.device, self.written, self.held = device, [], b""
        self.silent: set[int] = set()
        self.late = 0  # answers to that many writes come one write later
        self._late = b""
        self.clock_us = 0  # the device's own: a machine that stalls does not wake its watchdogs

    def now_us(self):
        return self.clock_us

    def open(self):
        pass

    def close(self):
        pass

    def write(self, data):
        self.written.append(data)
        self.clock_us += 200
        self.device.tick(self.now_us())
        self.held, self._late = self.held + self._late, b""
        answers = b"".join(r.data for r in self.device.feed(data, self.now_us()) if r.joint not in self.silent)
        if self.late:
            self.late, self._late = self.late - 1, answers
        else:
            self.held += answers
        self.device.tick(self.now_us())

    def read(self):
        data, self.held = self.held, b""
        return data

    def wait_readable(self, deadline_ns):
        return bool(self.held)

    def later(self, seconds):
        self.clock_us += int(seconds * 1e6)
        self.device.tick(self.now_us())


def wired(joints=ALIKE, options=(), device_options=None, watchdog_s=WATCHDOG_S, gravity=0.0):
    options = dict(options)
    asked = {**{k: v for k, v in options.items() if k in ("shadows", "reverse")}, **(device_options or {})}
    wire = Wire(virtual.make(joints, plant_of(list(joints), gravity), asked))
    return DynamixelArm(wire, joints, watchdog_s, parse(options, joints)), wire


def armed(*args, **more):
    arm, wire = wired(*args, **more)
    arm.connect()
    arm.arm()
    return arm, wire


def cycle(arm, value=0.1):
    return exchange(arm, np.full(len(arm.joints), value, np.float32), soon())


def asked(arm):
    arm.request_state()
    return arm.poll()


def soon():
    return time.monotonic_ns() + 3 * 10**9
