"""damiao-motor (PyPI): `send_cmd_mit` of every motor, then `poll_feedback` of its controller until all have answered.

Its controller's own polling thread is not started: polled in the loop, it costs less.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from unittest import mock

import can
from damiao_motor import DaMiaoController

from bench.bus.case import Case
from bench.bus.measure import answered
from bench.bus.peers.unix_can import UnixBus
from firmware_bridge.arm import Joint

LIBRARY = "damiao-motor 1.0.6"
_PATIENCE_S = 1.0
_KP, _KD = 24.0, 0.3
_MODELS = ("dm8009", "dm8009", "dm4340", "dm4340", "dm4310", "dm4310", "dm4310")


def case(joints: int) -> Case:
    """The joints of an OpenArm's side in MIT mode, CAN 2.0 at 1 Mbit/s."""
    rows = tuple(
        Joint(f"joint{i}", "rad", -1.2, 1.2, i, model, kp=_KP, kd=_KD, reply_id=0x10 + i)
        for i, model in enumerate(_MODELS[:joints], start=1)
    )
    return Case("damiao", rows, 1_000_000, watchdog_s=1.0)


class DamiaoPeer:
    def __init__(self, port: str, case: Case) -> None:
        # its own bus would be a SocketCAN interface
        with mock.patch.object(can.interface, "Bus", lambda channel, **_: UnixBus(channel)):
            self._controller = DaMiaoController(port)
        self._bus = self._controller.bus
        self._controller._start_polling = lambda: None
        self._motors = [
            self._controller.add_motor(joint.id, joint.reply_id, joint.model.removeprefix("dm"))
            for joint in case.joints
        ]
        for motor in self._motors:
            motor.enable()
        time.sleep(0.05)
        self._controller.poll_feedback()

    def exchange(self, setpoint: Sequence[float]) -> None:
        for motor, value in zip(self._motors, setpoint, strict=True):
            motor.state = {}
            motor.send_cmd_mit(value, 0.0, _KP, _KD, 0.0)
        until = time.monotonic() + _PATIENCE_S
        while not all(motor.state for motor in self._motors):
            self._controller.poll_feedback()
            if time.monotonic() > until:
                answered([motor.motor_id for motor in self._motors if not motor.state])

    def close(self) -> None:
        self._bus.shutdown()


def connect(port: str, case: Case) -> DamiaoPeer:
    return DamiaoPeer(port, case)
