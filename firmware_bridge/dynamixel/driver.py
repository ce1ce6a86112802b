"""Dynamixel X series as an `Arm`. One cycle is one write of two packets: a sync write of the goals, and a read of all.

What is read of each servo is the option `read`; the bytes are those of one servo:

    full      13  watchdog, hardware error, current, velocity, position, temperature    through indirect data
    motion    10  current, velocity, position                                           126..135
    position   4  position                                                              132..135

`full` is the default: 30 us more for each servo at 1 Mbaud than `motion` buy that every state says itself that the
servo's watchdog has not run out and that it has not restarted. Without that an arm that ignores its goals looks idle.

A restart forgets the indirect addresses with everything else, so such a block shows zeros: no state is made of it, and
from the next question on the registers themselves are read (as `motion`), until arm() has set the addresses again.

Answers carry no number. After a cycle that was not whole, the next question asks for a longer tail of the same block:
an answer to the old question has another length and cannot pass for an answer to the new one.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from firmware_bridge.arm import Fault, Joint, JointInfo, JointState, Mode, StopKind
from firmware_bridge.bus_arm import TRIES, BusArm, Reading
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.dynamixel import codec, models, setup
from firmware_bridge.dynamixel.bus import Bus
from firmware_bridge.dynamixel.codec import ALERT, Block, Decoder, GoalWriter, Status
from firmware_bridge.dynamixel.models import RAD_PER_COUNT, VELOCITY_RAD_S, WATCHDOG_EXPIRED, WATCHDOG_UNIT_S
from firmware_bridge.dynamixel.options import Options, parse
from firmware_bridge.dynamixel.setup import Servo
from firmware_bridge.errors import ArmRefused, BridgeError, JointFault, explain
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Transport
from firmware_bridge.transport.open import open_transport

_GUARD = 0xFFFF  # stands for the register that proves the servo's state, in _FULL
_FULL = (_GUARD, 70, *range(126, 136), 146, 122, 144, 145)  # indirect data, byte by byte; the last three: longer tails


class Read(NamedTuple):
    """One choice of the option `read`. `lengths`: of the questions, the second and later after unanswered ones."""

    address: int  # 0: the indirect data
    lengths: tuple[int, ...]


READS: dict[str, Read] = {
    "full": Read(0, (13, 14, 15, 16)),
    "motion": Read(126, (10, 14, 18, 21)),  # and velocity trajectory, position trajectory, voltage and temperature
    "position": Read(132, (4, 8, 12, 14)),
}
_LAYOUT = {"full": struct.Struct("<BBhiiB"), "motion": struct.Struct("<hii"), "position": struct.Struct("<i")}
_FAULTS = {0x01: Fault.VOLTAGE, 0x04: Fault.OVERHEAT, 0x08: Fault.ENCODER, 0x10: Fault.OTHER, 0x20: Fault.OVERLOAD}


def faults_of(hardware_error: int) -> Fault:
    """Hardware Error Status(70) as bits of Fault."""
    faults = Fault.NONE
    for bit, fault in _FAULTS.items():
        if hardware_error & bit:
            faults |= fault
    return faults if faults or not hardware_error else Fault.OTHER


class DynamixelArm(BusArm[Transport]):
    """Joints in channel order on one bus. For one thread."""

    def __init__(
        self, transport: Transport, joints: Sequence[Joint], watchdog_s: float | None, options: Options | None = None
    ) -> None:
        self.options = options or Options()
        self._units = setup.watchdog_units(watchdog_s)
        self._guard_register = models.BUS_WATCHDOG if self._units else models.TORQUE
        full = tuple(self._guard_register.address if a == _GUARD else a for a in _FULL)
        self.servos = setup.servos_of(joints, self.options, self._units, full if self._is_full else ())
        self._goals = GoalWriter(joints)
        self._by_id = {servo.id: servo for servo in self.servos}
        self._crowd = [sum(s.index == i for s in self.servos) for i in range(len(joints))]  # servos of each joint
        super().__init__(transport, joints, watchdog_s)

    def _forget(self) -> None:
        super()._forget()
        self.fast = False  # decided at connect, from the firmware of every servo
        self._decoder = Decoder()
        self._parts: dict[int, list[Reading]] = {}  # joint with shadows -> what its servos have said
        self._kind = self.options.read  # what is read now
        self._decode = _LAYOUT[self._kind].unpack_from
        self._restarted: set[int] = set()  # joints whose servos have forgotten what connecting set
        self._questions: list[bytes] = []
        self._length = 0  # data bytes of the answers to the question asked last
        self._variant = 0
        self._guarded = False  # armed since connect: the guard register has to be what arming wrote
        self._last_goals = b""  # of the last command
        self._whole_ns = 0  # when the last whole cycle was asked for
        self._lapsed = False  # read != full: so long without an answer that the watchdogs have run out

    @property
    def _is_full(self) -> bool:
        return self.options.read == "full"

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

    def _ask_by(self, kind: str) -> None:
        read = READS[kind]
        self._kind, self._variant, self._decode = kind, 0, _LAYOUT[kind].unpack_from

        def block(servo: Servo, length: int) -> Block:
            return Block(servo.id, read.address or servo.model.indirect_data(servo.firmware), length)

        self._questions = [
            codec.read_all([block(servo, length) for servo in self.servos], self.fast) for length in read.lengths
        ]
        longest = 8 + len(self.servos) * (4 + read.lengths[-1]) if self.fast else 2 * (11 + read.lengths[-1])
        self._decoder = Decoder(longest)

    def _with_shadows(self, info: JointInfo) -> JointInfo:
        notes = [info.note] if info.note else []
        for servo in self.servos:
            if servo.leader == info.id:
                notes.append(f"servo {servo.id} follows it" + "".join(f"; {note}" for note in servo.notes))
        return replace(info, note="; ".join(notes))

    # --- the cycle ------------------------------------------------------------------------------------------------

    def _frames(self, device_rad: Sequence[float]) -> bytes:
        return self._goals.encode(device_rad)

    def _write(self, frames: object) -> None:
        self._last_goals = cast(bytes, frames)
        self._begin()
        self.transport.write(self._last_goals + self._questions[self._variant])

    def _ask(self) -> None:
        self._begin()
        self.transport.write(self._questions[self._variant])

    def _begin(self) -> None:
        if self._restarted and self._kind == "full":
            self._ask_by("motion")
        self._length = READS[self._kind].lengths[self._variant]
        self._parts.clear()
        if self._decoder.rest:
            self._decoder.clear()

    def _close_cycle(self) -> None:
        before, unanswered = self.last_asked, self.counts.incomplete
        super()._close_cycle()
        if self.counts.incomplete != unanswered:
            self._variant = (self._variant + 1) % len(self._questions)
        elif before:
            self._variant, self._whole_ns = 0, self._asked_ns
        if self._guarded and not self._is_full and self._units:
            self._lapsed |= time.monotonic_ns() - self._whole_ns > self._units * int(WATCHDOG_UNIT_S * 1e9)

    def _readings(self) -> Iterable[Reading]:
        data = self.transport.read()
        if not data:
            return ()
        readings: list[Reading] = []
        for unit in self._decoder.feed(data):
            answers = codec.statuses(unit, self._length)
            self.counts.foreign += not answers
            for answer in answers:
                servo = self._by_id.get(answer.servo)
                if servo is None:
                    self.counts.foreign += 1
                    continue
                self._heard(servo, answer, readings)
        if self._decoder.junk:
            self.counts.foreign += 1
            self._decoder.junk = 0
        return readings

    def _heard(self, servo: Servo, answer: Status, readings: list[Reading]) -> None:
        reading = self._reading(servo, answer)
        if reading is None:
            return
        if self._crowd[servo.index] == 1:
            readings.append(reading)
            return
        parts = self._parts.setdefault(servo.index, [])
        parts.append(reading)
        if servo.leader is None:
            parts.insert(0, parts.pop())
        if len(parts) == self._crowd[servo.index]:
            readings.append(_together(parts))

    def _reading(self, servo: Servo, answer: Status) -> Reading | None:
        error, current, velocity, temperature = answer.error & ALERT, 0, math.nan, math.nan
        faults = Fault.OTHER if error else 0
        if self._kind == "full":
            guard, error, current, velocity, position, temperature = self._decode(answer.data)
            if guard != self._units or error or not temperature:
                if self._is_lost(servo, guard, error, temperature):
                    return None
                faults = self._faults(guard, error)
        elif self._kind == "motion":
            current, velocity, position = self._decode(answer.data)
        else:
            (position,) = self._decode(answer.data)
        if self._lapsed:
            faults |= Fault.WATCHDOG
        if self._guarded and servo.index in self._restarted:
            faults |= Fault.RESET
        effort = current * servo.model.nm_per_unit if self._kind != "position" else math.nan
        return Reading(
            servo.index,
            position * RAD_PER_COUNT,
            velocity * VELOCITY_RAD_S,
            effort,
            temperature,
            int(faults),
            error,
        )

    def _is_lost(self, servo: Servo, guard: int, error: int, temperature: int) -> bool:
        """The block is not what was set at connect: the servo has restarted since, and shows zeros for a position."""
        if self._units:
            known: tuple[int, ...] = (self._units, WATCHDOG_EXPIRED)
        else:  # torque is the guard: on once armed, until an error takes it
            known = (1,) if self._guarded and not error else (0, 1)
        if temperature and guard in known:
            return False
        self._restarted.add(servo.index)
        if self.mode is Mode.ARMED:
            self.mode = Mode.STOPPED
        return True

    def _faults(self, guard: int, error: int) -> Fault:
        expired = guard == WATCHDOG_EXPIRED and self._units
        return faults_of(error) | (Fault.WATCHDOG if expired else Fault.NONE)

    # --- modes ----------------------------------------------------------------------------------------------------

    def _enable(self) -> None:
        bus = Bus(self.transport)
        self._guarded = False
        goals = [round(j.to_device(at) / RAD_PER_COUNT) for j, at in zip(self.joints, self.held.tolist(), strict=True)]
        for servo in self.servos:
            setup.refuse_broken(bus, servo)
        for servo in reversed(self.servos):
            setup.prepare(bus, servo, self.options)
        self._restarted.clear()
        self._ask_by(self.options.read)
        for servo in self.servos:
            kept = setup.torque_on(bus, servo, goals[servo.index])
            if servo.leader is None:
                goals[servo.index] = kept
        at = [joint.to_channel(goal * RAD_PER_COUNT) for joint, goal in zip(self.joints, goals, strict=True)]
        self.held = self._channels.inside(np.array(at, np.float32))
        self._last_goals = self._goals.encode(
            [joint.to_device(value) for joint, value in zip(self.joints, self.held.tolist(), strict=True)]
        )
        self._lapsed, self._guarded = False, True
        state = self._read_whole()
        self._whole_ns = state.stamp_ns
        if state.faults:
            self._guarded = False
            todo = "power-cycle the arm"
            raise ArmRefused(
                explain(f"the arm on {self.transport.name} did not arm", "no fault", self._told(state), todo)
            )

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

    def silence(self) -> BridgeError:
        """See `BusArm`. Of a fast read's answer that is cut short, the servos before the cut have spoken."""
        if self.fast and self._decoder.rest:
            spoke = {self._by_id[a.servo].index for a in codec.fast_blocks(self._decoder.rest, self._length)}
            if spoke & self._waiting and self._waiting - spoke:
                self._waiting -= spoke
        again = self._waiting & self._restarted
        if again and self._kind == "full":
            names = ", ".join(self.joints[i].name for i in sorted(again))
            todo = "check its supply; arm() sets it up and switches it on again"
            got = "it has restarted: torque is off"
            return JointFault(explain(f"{names} on {self.transport.name}", "what connecting set", got, todo))
        return super().silence()

    def _silent_names(self) -> str:
        shadows = {servo.index: servo.id for servo in self.servos if servo.leader is not None}
        rows = [(i, self.joints[i]) for i in sorted(self._waiting)]
        return ", ".join(
            f"{joint.name} (id {joint.id}" + (f" or {shadows[i]})" if i in shadows else ")") for i, joint in rows
        )


def _together(parts: Sequence[Reading]) -> Reading:
    """One reading of a joint with several servos: the leader's place, the sum of efforts, every fault."""
    leader = parts[0]
    faults = code = 0
    for part in parts:
        faults |= part.faults
        code |= part.code
    effort = sum(part.effort_nm for part in parts)
    hottest = max(part.temperature_c for part in parts)
    return leader._replace(effort_nm=effort, temperature_c=hottest, faults=faults, code=code)


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> DynamixelArm:
    """Raises BridgeError for an unknown option or model, WatchdogMismatch for a time it cannot be set to."""
    return DynamixelArm(
        open_transport("serial", bus.port, bus.baud), bus.joints, watchdog_s, parse(options, bus.joints)
    )


def scan(transport: Transport, wait_s: float = 1.0) -> list[Found]:
    """Every servo that answers a ping to all within `wait_s`, by id. Opens and closes `transport`.

    They answer one after another, each in the place of its id: 253 places take 0.8 s (e-manual, Ping).
    """
    transport.open()
    try:
        transport.read()
        transport.write(codec.ping(codec.BROADCAST))
        decoder, found = Decoder(), {}
        deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
        while transport.wait_readable(deadline_ns):
            for unit in decoder.feed(transport.read()):
                for answer in codec.statuses(unit, 3):
                    found[answer.servo] = answer
    finally:
        transport.close()
    return [_found(found[servo]) for servo in sorted(found)]


def _found(answer: Status) -> Found:
    number, firmware = answer.data[0] + (answer.data[1] << 8), answer.data[2]
    model = models.BY_NUMBER.get(number)
    note = "hardware error: read register 70" if answer.error & ALERT else ""
    return Found(answer.servo, model.name if model else f"unknown ({number})", str(firmware), note)
