"""A driver without a protocol: its frames are the device angles themselves, its joints answer at once."""

import numpy as np

from firmware_bridge.arm import Joint, JointInfo
from firmware_bridge.bus_arm import BusArm, Reading

JOINTS = (
    Joint("pan", "rad", -1.0, 1.0, 1, "m", direction=-1, zero_rad=0.5),
    Joint("lift", "m", 0.0, 0.2, 2, "m", ratio=0.05),
    Joint("grip", "1", 0.0, 1.0, 3, "m", zero_rad=-0.25, ratio=2.0),
)
MIDDLE = np.array([0.25, 0.1, 0.5], np.float32)  # exact in binary but 0.1
HOUR_NS = 3_600_000_000_000


class Clock:
    """Stands for the module's `time`. Each look costs a microsecond."""

    def __init__(self):
        self.now_ns = 5_000_000_000

    def monotonic_ns(self):
        self.now_ns += 1_000
        return self.now_ns


class Bus:
    """Joints that answer at once, and a record of what was written. `arrived` may be filled by a test too."""

    name = "bus0"

    def __init__(self, clock):
        self.clock, self.log, self.arrived, self.mute, self.opened = clock, [], [], set(), False
        self.readings = [Reading(i, j.to_device(0.5 * (j.minimum + j.maximum)), 0.5, 2.0, 30.0 + i) for i, j in
                         enumerate(JOINTS)]  # fmt: skip

    def open(self):
        self.opened = True

    def close(self):
        self.opened = False

    def write(self, data):
        self.log.append((self.clock.now_ns, data))
        self.arrived += [reading for reading in self.readings if reading.joint not in self.mute]

    def read(self):
        arrived, self.arrived = self.arrived, []
        return arrived

    def wait_readable(self, deadline_ns):
        return bool(self.arrived)


class BenchArm(BusArm):
    """Its frames are the device angles themselves."""

    confirms = True

    def _identify(self):
        return tuple(
            JointInfo(j.name, j.id, j.model, "1", (j.minimum, j.maximum), 0.1 * j.id, 0.0) for j in self.joints
        )

    def _ask(self):
        self.transport.write("ask")

    def _frames(self, device_rad):
        return list(device_rad)

    def _write(self, frames):
        self.transport.write(frames)

    def _readings(self):
        return self.transport.read()

    def _enable(self):
        self.transport.log.append("enable")

    def _disable(self):
        return self.confirms

    def _halt(self, kind):
        self.transport.log.append(kind)
        return self.confirms


def written(arm):
    return [data for _, data in arm.transport.log]
