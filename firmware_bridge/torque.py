"""Which joints have torque, as the actuators themselves report it: for whoever watches an arm that others may hold."""

from __future__ import annotations

from firmware_bridge.arm import Arm, Mode
from firmware_bridge.bus_arm import BusArm
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.group import ArmGroup


def torque_on(arm: Arm) -> tuple[bool | None, ...]:
    """One for each joint, in channel order, see `BusArm.torque_on`; () where the arm has no actuators of its own.

    Edgelink reports the mode of its controller instead, in `JointState.mode`.
    """
    if isinstance(arm, ArmGroup):
        return arm.in_order([torque_on(part) for part in arm.parts])
    return tuple(arm.torque_on()) if isinstance(arm, BusArm) else ()


def look(arm: Arm) -> tuple[bool | None, ...] | Mode:
    """As `torque_on`, of an arm that nobody has connected to: opened for this and closed again.

    Sets nothing in any actuator, unlike connect(). Mode: of an arm with a controller of its own (edgelink).

    Raises PortError, NoAnswer, JointSilent, SchemaMismatch.
    """
    if isinstance(arm, ArmGroup):
        return arm.in_order([tuple(part.look_at_torque()) for part in arm.parts])
    if isinstance(arm, BusArm):
        return tuple(arm.look_at_torque())
    if not isinstance(arm, EdgelinkArm):
        return ()
    try:
        arm.look()
        state = arm.poll()
    finally:
        arm.close()
    return () if state is None else Mode(state.mode)
