"""The zero of Damiao motors: it lives in the motor, and one frame sets it where the joint is now.

As openarm_can 1.4.1 does it (setup/cli/commands/zero_position_commands.cpp): torque off, then FF..FE; its sources say
that the motor keeps it in flash. Here the arm has to be still, and every motor has to read 0 afterwards. The former
zero is nowhere kept, so nothing can be put back: an error says which motors have the new one.
"""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.arm import Joint
from firmware_bridge.config import BusConfig
from firmware_bridge.damiao import codec
from firmware_bridge.damiao.driver import DamiaoArm
from firmware_bridge.errors import ArmRefused, BridgeError, explain
from firmware_bridge.transport.base import FrameTransport
from firmware_bridge.transport.open import open_transport

STILL_RAD_S = 0.1  # two steps of the coarsest 12 bit velocity, +-45 rad/s, are 0.04
_AT_ZERO_RAD = 0.02  # a hanging arm sways between two readings
_TODO = "hold the arm in the same pose and calibrate again: every motor has to have its zero there"


class Zeroing(DamiaoArm):
    """Motors of one bus, never armed. `connect` first, `disarm`, a person's hand, then `set_zero`."""

    def __init__(self, transport: FrameTransport, joints: Sequence[Joint], fd: bool) -> None:
        super().__init__(transport, joints, None, fd)

    def require_still(self) -> None:
        """Raises ArmRefused for a joint that moves, before any zero of any bus is set."""
        velocity = self._read_whole().velocity
        assert velocity is not None  # every Damiao tells it
        pairs = zip(self.joints, velocity.tolist(), strict=True)
        moving = [f"{joint.name} {speed:.3g}" for joint, speed in pairs if abs(speed) > STILL_RAD_S]
        if moving:
            todo = "hold the arm still and calibrate again; no zero was changed"
            raise ArmRefused(explain("the arm moves", f"below {STILL_RAD_S} rad/s", ", ".join(moving), todo))

    def set_zero(self) -> dict[str, float]:
        """Where every motor stood by its former zero, rad of the motor. Raises ArmRefused, JointSilent, NoAnswer."""
        before = self._angles()
        answered = self._send_until(
            lambda i: codec.special(self.joints[i].id, codec.SET_ZERO, self._fd), lambda i: not self._is_on(i)
        )
        if not answered:
            got = f"none of {self._silent_names()}, where it may be the former one or this pose; all others: this pose"
            raise ArmRefused(explain("setting the zero", "an answer of every motor", got, _TODO))
        off = {name: at for name, at in self._angles().items() if abs(at) > _AT_ZERO_RAD}
        if off:
            got = ", ".join(f"{name} {at:.3f} rad" for name, at in off.items())
            raise ArmRefused(explain("motors after setting the zero", "0 rad", got, _TODO))
        return before

    def _angles(self) -> dict[str, float]:
        position = self._read_whole().position.tolist()
        return {joint.name: joint.to_device(at) for joint, at in zip(self.joints, position, strict=True)}


def zero_all(arms: Sequence[Zeroing]) -> dict[str, float]:
    """The zero of every bus. All are still before the first is set. Raises BridgeError that says which have it."""
    for arm in arms:
        arm.require_still()
    found: dict[str, float] = {}
    for arm in arms:
        try:
            found |= arm.set_zero()
        except BridgeError as error:
            have = ", ".join(found) or "no motor of another bus"
            raise ArmRefused(f"{error}\n  set here:  {have}") from error
    return found


def make(bus: BusConfig) -> Zeroing:
    """What `edgevla arm calibrate` calls. Raises BridgeError for joints that are none of Damiao's."""
    return Zeroing(open_transport("can", bus.port, bus.baud, bus.data_baud), bus.joints, bus.data_baud is not None)
