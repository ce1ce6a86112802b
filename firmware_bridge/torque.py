"""Which joints have torque, as the actuators themselves report it: for whoever watches an arm that others may hold.

To be asked between cycles, after a whole state. Nothing is commanded. None where it is not known: the protocol does not
report it, or the joint has not answered yet. Edgelink reports the mode of its controller instead, in `JointState.mode`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from firmware_bridge.arm import Arm
from firmware_bridge.bus_arm import BusArm
from firmware_bridge.errors import BridgeError
from firmware_bridge.group import ArmGroup

Torque = bool | None


def torque_on(arm: Arm) -> tuple[Torque, ...]:
    """One for each joint, in channel order; () where the arm has no actuators of its own on the bus."""
    if isinstance(arm, ArmGroup):
        return arm.in_order([torque_on(part) for part in arm.parts])
    if not isinstance(arm, BusArm):
        return ()
    look = _LOOKS.get(type(arm).__module__.split(".")[-2])
    return tuple(look(arm)) if look is not None else (None,) * len(arm.joints)


def _feetech(arm: Any) -> Sequence[Torque]:
    """Register 40, which every `slow_every`th cycle reads, the first one too."""
    return list(arm._torque_on)


def _dynamixel(arm: Any) -> list[Torque]:
    """Register 64, asked for: a cycle does not read it."""
    from firmware_bridge.dynamixel.bus import Bus
    from firmware_bridge.dynamixel.models import TORQUE

    bus, found = Bus(arm.transport), list[Torque]()
    for joint in arm.joints:
        on: Torque = None
        with contextlib.suppress(BridgeError):  # a servo that fell silent is the next cycle's to tell
            on = bus.read(joint.id, TORQUE) == 1
        found.append(on)
    return found


def _damiao(arm: Any) -> list[Torque]:
    """The status nibble of each answer."""
    from firmware_bridge.damiao.codec import ENABLED

    return [status == ENABLED for status in arm._status]


def _odrive(arm: Any) -> list[Torque]:
    """The axis state of the newest heartbeat."""
    from firmware_bridge.odrive.codec import CLOSED_LOOP

    return [None if beat is None else beat[0] == CLOSED_LOOP for beat in arm._beats]


def _cia402(arm: Any) -> list[Torque]:
    """The statusword of each TPDO."""
    from firmware_bridge.cia402.states import TORQUE, state_of

    return [None if word is None else state_of(word) in TORQUE for word in arm._heard.words]


def _moteus(arm: Any) -> list[Torque]:
    """The mode of each answer: from PWM on the controller drives its motor."""
    from firmware_bridge.moteus.registers import Mode

    return [None if i not in arm._last else arm._last[i].mode >= Mode.PWM for i in range(len(arm.joints))]


_LOOKS: Mapping[str, Callable[[Any], Iterable[Torque]]] = {
    "feetech": _feetech,
    "dynamixel": _dynamixel,
    "damiao": _damiao,
    "odrive": _odrive,
    "cia402": _cia402,
    "moteus": _moteus,
}
