"""Which joints have torque, as the actuators themselves report it: for whoever watches an arm that others may hold."""

from __future__ import annotations

from firmware_bridge.arm import Arm
from firmware_bridge.bus_arm import BusArm
from firmware_bridge.group import ArmGroup


def torque_on(arm: Arm) -> tuple[bool | None, ...]:
    """One for each joint, in channel order, see `BusArm.torque_on`; () where the arm has no actuators of its own.

    Edgelink reports the mode of its controller instead, in `JointState.mode`.
    """
    if isinstance(arm, ArmGroup):
        return arm.in_order([torque_on(part) for part in arm.parts])
    return tuple(arm.torque_on()) if isinstance(arm, BusArm) else ()
