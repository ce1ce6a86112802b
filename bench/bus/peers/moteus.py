"""moteus (mjbots): `Transport.cycle` of one `make_position(query=True)` for each controller, over its PythonCan device.

Used as its multi-controller example does: controllers made once, one cycle awaited at a time, in one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from unittest import mock

import can
import moteus
from moteus.pythoncan_device import PythonCanDevice

from bench.bus.case import Case, same
from bench.bus.measure import answered
from bench.bus.peers.unix_can import make

LIBRARY = "moteus 1.1"
_PER_RAD = 1.0 / 6.283185307179586
_WATCHDOG_S = 1.0


def case(joints: int) -> Case:
    """CAN-FD at 1 and 5 Mbit/s with bit-rate switch, registers as float, as the library's default."""
    alike = same(joints, unit="rad", minimum=-1.5, maximum=1.5, model="moteus")
    return Case("moteus", alike, 1_000_000, 5_000_000, watchdog_s=_WATCHDOG_S)


class MoteusPeer:
    def __init__(self, port: str, case: Case) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._open(port, [joint.id for joint in case.joints]))

    async def _open(self, port: str, ids: Sequence[int]) -> None:
        with mock.patch.object(can, "Bus", lambda **asked: make(asked["channel"], fd=True)):  # our bus, their transport
            self._device = PythonCanDevice(interface="socketcan", channel=port, fd=True)
        self._transport = moteus.Transport([self._device])
        self._joints = [moteus.Controller(joint, transport=self._transport) for joint in ids]
        await self._transport.cycle([joint.make_stop() for joint in self._joints])

    async def _cycle(self, setpoint: Sequence[float]) -> None:
        commands = [
            joint.make_position(position=value * _PER_RAD, velocity=0.0, watchdog_timeout=_WATCHDOG_S, query=True)
            for joint, value in zip(self._joints, setpoint, strict=True)
        ]
        results = await self._transport.cycle(commands)
        heard = {result.id for result in results if moteus.Register.POSITION in result.values}
        answered([joint.id for joint in self._joints if joint.id not in heard])

    def exchange(self, setpoint: Sequence[float]) -> None:
        self._loop.run_until_complete(self._cycle(setpoint))

    def close(self) -> None:
        self._device.close()
        self._loop.close()


def connect(port: str, case: Case) -> MoteusPeer:
    return MoteusPeer(port, case)
