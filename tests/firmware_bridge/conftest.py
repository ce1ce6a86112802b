"""A virtual device behind a real pty, served by a thread."""

from __future__ import annotations

import select
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from firmware_bridge.arm import ChannelLimits
from firmware_bridge.edgelink.controller import IntegratorPlant, VirtualDevice
from firmware_bridge.transport.pty import PtyPair

# No deadline: a test must not fail because the machine is busy. No database: nothing is written to the tree.
settings.register_profile("edgevla", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgevla")

CHANNELS = (ChannelLimits("x", "m", -0.5, 0.5), ChannelLimits("gripper", "1", -1.0, 1.0))


class ServedDevice:
    """`device` on `port`. `mute` drops its next answers, `speak` writes any bytes to the host."""

    def __init__(self, channels=CHANNELS, watchdog_us=10_000_000):
        self.line = PtyPair()
        self.port = self.line.port
        self.plant = IntegratorPlant(np.zeros(len(channels), np.float32))
        held = np.zeros(len(channels), np.float32)
        self.device = VirtualDevice(self.plant, channels, held, watchdog_us)
        self.clock_ahead_us = 4_000_000_000  # device clock minus host clock; wraps soon
        self.mute = 0
        self.received = bytearray()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while not self._end.is_set():
            if not select.select([self.line.master_fd], [], [], 0.01)[0]:
                continue
            data = self.line.read()
            self.received += data
            reply = self.device.feed(data, time.monotonic_ns() // 1000 + self.clock_ahead_us)
            if self.mute:
                self.mute -= 1
            else:
                self.line.write(reply)

    def speak(self, data):
        self.line.write(data)

    def unplug(self):
        self._end.set()
        self._thread.join()
        self.line.close()


@pytest.fixture
def serve():
    """Starts served devices, ends them with the test."""
    started = []

    def start(**options):
        started.append(ServedDevice(**options))
        return started[-1]

    yield start
    for served in started:
        served.unplug()
