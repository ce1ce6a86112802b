"""feetech-servo-sdk (the maker's Python SDK as published): GroupSyncWrite of goals, GroupSyncRead of what we read.

Used as its examples do: one handler of each kind for the whole run, `changeParam` and `txPacket` a cycle, `getData` of
every joint and register. The SDK opens the port without a timeout and polls it until the answer is whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import scservo_sdk as sdk

from bench.bus.case import Case, same
from bench.bus.measure import answered

LIBRARY = "feetech-servo-sdk 1.0"
_PER_RAD = 4096 / (2 * math.pi)
_TORQUE_ENABLE, _GOAL, _PRESENT, _BYTES = 40, 42, 56, 4  # position and speed, as the driver's fast block


def case(joints: int) -> Case:
    """STS3215 at 1 Mbaud, no return delay, no watchdog: they have none. Only the fast block is read."""
    return Case(
        "feetech",
        same(joints, unit="rad", minimum=-1.5, maximum=1.5, model="sts3215", zero_rad=math.pi),
        1_000_000,
        options={"slow_every": 0},
    )


class FeetechPeer:
    def __init__(self, port: str, case: Case) -> None:
        self._ids = [joint.id for joint in case.joints]
        self._zeros = [joint.zero_rad for joint in case.joints]
        self._port = sdk.PortHandler(port)
        self._port.openPort()
        self._port.setBaudRate(case.baud)
        packets = sdk.PacketHandler(0)  # 0: STS, little endian
        for servo in self._ids:
            packets.write1ByteTxRx(self._port, servo, _TORQUE_ENABLE, 1)
        self._write = sdk.GroupSyncWrite(self._port, packets, _GOAL, 2)
        self._read = sdk.GroupSyncRead(self._port, packets, _PRESENT, _BYTES)
        for servo in self._ids:
            self._write.addParam(servo, [0, 0])
            self._read.addParam(servo)

    def exchange(self, setpoint: Sequence[float]) -> None:
        for servo, zero, value in zip(self._ids, self._zeros, setpoint, strict=True):
            count = round((value + zero) * _PER_RAD)
            self._write.changeParam(servo, [sdk.SCS_LOBYTE(count), sdk.SCS_HIBYTE(count)])
        self._write.txPacket()
        failed = self._read.txRxPacket() != sdk.COMM_SUCCESS
        answered([s for s in self._ids if failed or not self._read.isAvailable(s, _PRESENT, _BYTES)])
        for servo in self._ids:
            for register in (_PRESENT, _PRESENT + 2):
                sdk.SCS_TOHOST(self._read.getData(servo, register, 2), 15)

    def close(self) -> None:
        self._port.closePort()


def connect(port: str, case: Case) -> FeetechPeer:
    return FeetechPeer(port, case)
