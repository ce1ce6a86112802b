"""Dynamixel X series as an `Arm`: connecting, arming, stopping. The cycles: cycle.py."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from firmware_bridge.arm import Fault, JointInfo, JointState, Mode, StopKind
from firmware_bridge.bus_arm import TRIES
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.dynamixel import codec, models, setup
from firmware_bridge.dynamixel.bus import Bus
from firmware_bridge.dynamixel.codec import ALERT
from firmware_bridge.dynamixel.cycle import ServoCycle
from firmware_bridge.dynamixel.models import RAD_PER_COUNT
from firmware_bridge.dynamixel.options import parse
from firmware_bridge.dynamixel.scan import scan
from firmware_bridge.errors import ArmRefused, BridgeError, explain
from firmware_bridge.transport.open import open_transport

__all__ = ["DynamixelArm", "make", "scan"]


class DynamixelArm(ServoCycle):
    """Joints in channel order on one bus. For one thread."""

    # --- connect --------------------------------------------------------------------------------------------------

    def _identify(self) -> tuple[JointInfo, ...]:
        bus = Bus(self.transport)
        setup.find(bus, self.servos)
        for servo in reversed(self.servos):  # shadows first: they follow their leader's volatile registers
            if servo.leader is not None:
                setup.identify(bus, servo, self.options)
        infos = [setup.identify(bus, servo, self.options) for servo in self.servos if servo.leader is None]
        self.fast = self.options.fast and all(s.model.reads_fast(s.firmware) for s in self.servos)
        self._ask_by(self.options.read)
        return tuple(self._with_shadows(info) for info in infos)

    def _with_shadows(self, info: JointInfo) -> JointInfo:
        notes = [info.note] if info.note else []
        for servo in self.servos:
            if servo.leader == info.id:
                notes.append(f"servo {servo.id} follows it" + "".join(f"; {note}" for note in servo.notes))
        return replace(info, note="; ".join(notes))

    # --- modes ----------------------------------------------------------------------------------------------------

    def _enable(self) -> None:
        bus = Bus(self.transport)
        self._guarded = False
        for servo in self.servos:
            setup.refuse_broken(bus, servo)
        for servo in reversed(self.servos):
            setup.prepare(bus, servo, self.options)
        self._restarted.clear()
        self._ask_by(self.options.read)
        self._switch_on(bus)
        self._asked_ns = self._whole_ns = time.monotonic_ns()  # the questions of arming feed watchdogs, too
        self._refuse_expired(bus)
        self._lapsed, self._guarded = False, True
        state = self._read_whole()
        self._whole_ns = state.stamp_ns
        if state.faults:
            self._guarded = False
            todo = "power-cycle the arm"
            raise ArmRefused(
                explain(f"the arm on {self.transport.name} did not arm", "no fault", self._told(state), todo)
            )

    def _switch_on(self, bus: Bus) -> None:
        """Torque at every servo; `held` is what they hold then."""
        goals = [round(j.to_device(at) / RAD_PER_COUNT) for j, at in zip(self.joints, self.held.tolist(), strict=True)]
        for servo in self.servos:
            kept = setup.torque_on(bus, servo, goals[servo.index])
            if servo.leader is None:
                goals[servo.index] = kept
        at = [joint.to_channel(goal * RAD_PER_COUNT) for joint, goal in zip(self.joints, goals, strict=True)]
        self.held = self._channels.inside(np.array(at, np.float32))
        self._last_goals = self._goals.encode(
            [joint.to_device(value) for joint, value in zip(self.joints, self.held.tolist(), strict=True)]
        )

    def _refuse_expired(self, bus: Bus) -> None:
        """A host that stalls while it arms may be too late for the servos that it has switched on already."""
        for servo in self.servos if self._units else []:
            found = bus.read(servo.id, models.BUS_WATCHDOG)
            if found != self._units:
                todo = "arm again; another program may be keeping this machine busy"
                what = f"bus watchdog of {servo.name} (id {servo.id}) while it was armed"
                raise ArmRefused(explain(what, self._units, f"{found}: it has run out", todo))

    def _told(self, state: JointState) -> str:
        pairs = zip(self.joints, state.joint_faults, strict=True)
        said = [f"{joint.name}: {models.hardware_sentence(code & ~ALERT)}" for joint, code in pairs if code]
        return "; ".join(said) or str(Fault(state.faults))

    def _disable(self) -> bool:
        bus = Bus(self.transport)
        done = [setup.torque_off(bus, servo) for servo in self.servos]
        self._guarded = self._guarded and not all(done)
        self._waiting = {servo.index for servo, off in zip(self.servos, done, strict=True) if not off}
        return all(done)

    def torque_on(self) -> list[bool | None]:
        """Register 64, asked for: a cycle does not read it."""
        return [self._reported(joint.id) for joint in self.joints]

    def _look(self) -> list[bool | None]:
        """A state is read through the indirect table, which connecting sets: the registers themselves are asked."""
        found = self.torque_on()
        if any(on is not None for on in found):
            return found
        self._waiting = set(self._everyone)
        raise self.silence()

    def _reported(self, servo: int) -> bool | None:
        try:
            return Bus(self.transport).read(servo, models.TORQUE) == 1
        except BridgeError:  # a servo that fell silent is the next cycle's to tell
            return None

    def _halt(self, kind: StopKind) -> bool:
        """HOLD; DAMP holds too: a servo in a position mode knows nothing between holding and letting go."""
        if kind is StopKind.FREE:
            return self._disable()
        for _ in range(TRIES):
            if self._last_goals and self._guarded:
                self.transport.write(self._last_goals)
            try:
                state = self._read_whole()
            except BridgeError:
                continue
            return not state.faults & Fault.RESET  # one that restarted has no torque: it holds nothing
        return False

    def reboot(self, joint: int) -> None:
        """Restart the servos of one joint: clears a hardware error. Their torque goes off. Raises JointSilent.

        Explicit, never done by arm(): the joint falls if nothing holds it.
        """
        self.mode = Mode.STOPPED if self.mode is Mode.ARMED else self.mode
        bus = Bus(self.transport)
        self._restarted.add(joint)
        for servo in self.servos:
            if servo.index == joint:
                bus.ask(codec.reboot(servo.id), servo.id, 0)


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> DynamixelArm:
    """Raises BridgeError for an unknown option or model, WatchdogMismatch for a time it cannot be set to."""
    return DynamixelArm(
        open_transport("serial", bus.port, bus.baud), bus.joints, watchdog_s, parse(options, bus.joints)
    )
