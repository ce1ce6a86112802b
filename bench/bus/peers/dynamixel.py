"""dynamixel-sdk (ROBOTIS): GroupSyncWrite of goals, fast sync read of current, velocity and position.

Used as its examples do: one handler of each kind for the whole run, `changeParam` and `txPacket` a cycle, `getData` of
every servo and register. The SDK opens the port without a timeout and polls it until the answer is whole: its CPU time
is its wall time, the device's share of that included, and it never has to wake up. It has no setting for that.
Both sides read option `motion`, ten bytes a servo, because the SDK has no block of its own through indirect data. The
SDK checks the CRC of the whole answer and the ids, as ours does; of the servos' error bytes it tells nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import dynamixel_sdk as sdk

from bench.bus.case import Case, same
from bench.bus.measure import answered
from firmware_bridge.dynamixel.codec import cycle_bytes
from firmware_bridge.wire import uart_ns

LIBRARY = "dynamixel-sdk 4.1"
_PER_RAD = 4096 / (2 * math.pi)
_TORQUE_ENABLE, _GOAL, _PRESENT, _BYTES = 64, 116, 126, 10
_REGISTERS = ((126, 2), (128, 4), (132, 4))  # current, velocity, position


def case(joints: int) -> Case:
    """XM430 at 1 Mbaud, return delay 0, bus watchdog on."""
    alike = same(joints, unit="rad", minimum=-1.2, maximum=1.2, model="xm430-w350", zero_rad=math.pi)
    fast_ns = uart_ns(cycle_bytes(joints, _BYTES, fast=True), 1_000_000)
    return Case("dynamixel", alike, 1_000_000, watchdog_s=1.0, options={"read": "motion"}, fast_wire_ns=fast_ns)


class DynamixelPeer:
    def __init__(self, port: str, case: Case) -> None:
        self._ids = [joint.id for joint in case.joints]
        self._zeros = [joint.zero_rad for joint in case.joints]
        self._port = sdk.PortHandler(port)
        self._port.openPort()
        self._port.setBaudRate(case.baud)
        packets = sdk.PacketHandler(2.0)
        for servo in self._ids:
            packets.write1ByteTxRx(self._port, servo, 9, 0)  # Return Delay Time, as ours
            packets.write1ByteTxRx(self._port, servo, _TORQUE_ENABLE, 1)
        self._write = sdk.GroupSyncWrite(self._port, packets, _GOAL, 4)
        self._read = sdk.GroupSyncRead(self._port, packets, _PRESENT, _BYTES)
        for servo in self._ids:
            self._write.addParam(servo, bytearray(4))
            self._read.addParam(servo)

    def exchange(self, setpoint: Sequence[float]) -> None:
        for servo, zero, value in zip(self._ids, self._zeros, setpoint, strict=True):
            count = round((value + zero) * _PER_RAD)
            low, high = sdk.DXL_LOWORD(count), sdk.DXL_HIWORD(count)
            data = [sdk.DXL_LOBYTE(low), sdk.DXL_HIBYTE(low), sdk.DXL_LOBYTE(high), sdk.DXL_HIBYTE(high)]
            self._write.changeParam(servo, data)
        self._write.txPacket()
        failed = self._read.fastSyncRead() != sdk.COMM_SUCCESS
        answered([s for s in self._ids if failed or not self._read.isAvailable(s, _PRESENT, _BYTES)])
        for servo in self._ids:
            for register, size in _REGISTERS:
                self._read.getData(servo, register, size)

    def close(self) -> None:
        self._port.closePort()


def connect(port: str, case: Case) -> DynamixelPeer:
    return DynamixelPeer(port, case)
