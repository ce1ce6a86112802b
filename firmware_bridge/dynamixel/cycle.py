"""What a Dynamixel arm does in a cycle. It is one write of two packets: a sync write of the goals, and a read of all.

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

import struct
import time
from collections.abc import Iterable, Sequence
from typing import cast

from firmware_bridge.arm import Fault, Joint, Mode
from firmware_bridge.bus_arm import BusArm, Reading
from firmware_bridge.dynamixel import codec, models, setup
from firmware_bridge.dynamixel.answers import READS, UsualAnswer, faults_of, servo_reading, together
from firmware_bridge.dynamixel.codec import ALERT, Block, Decoder, GoalWriter, Status
from firmware_bridge.dynamixel.models import WATCHDOG_EXPIRED, WATCHDOG_UNIT_S
from firmware_bridge.dynamixel.options import Options
from firmware_bridge.dynamixel.setup import Servo
from firmware_bridge.errors import BridgeError, JointFault, explain
from firmware_bridge.transport.base import Transport

_GUARD = 0xFFFF  # stands for the register that proves the servo's state, in _FULL
_FULL = (_GUARD, 70, *range(126, 136), 146, 122, 144, 145)  # indirect data, byte by byte; the last three: longer tails


class ServoCycle(BusArm[Transport]):
    """Joints in channel order on one bus; for one thread. Modes are those of DynamixelArm."""

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
        self._usual: UsualAnswer | None = None  # to the first of the questions
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

    def _ask_by(self, kind: str) -> None:
        read = READS[kind]
        self._kind, self._variant, self._length = kind, 0, 0
        self._decode = struct.Struct("<" + read.layout).unpack_from
        alone = max(self._crowd) == 1
        self._usual = UsualAnswer(self.servos, read, self.fast) if alone else None

        def block(servo: Servo, length: int) -> Block:
            return Block(servo.id, read.address or servo.model.indirect_data(servo.firmware), length)

        self._questions = [
            codec.read_all([block(servo, length) for servo in self.servos], self.fast) for length in read.lengths
        ]
        longest = 8 + len(self.servos) * (4 + read.lengths[-1]) if self.fast else 2 * (11 + read.lengths[-1])
        self._decoder = Decoder(longest)

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
        before, unanswered = self.last_asked and not self._cycle_over, self.counts.incomplete
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
        usual, decoder = self._usual, self._decoder
        if usual is None or self._length != usual.length or decoder.junk or self._restarted or self._lapsed:
            return self._unusual(data)
        whole = decoder.rest + data
        if len(whole) == usual.size:
            readings = usual.readings(whole, self._units or int(self._guarded))
            if readings is not None:
                decoder.rest = b""
                return readings
        elif usual.begins(whole):
            decoder.rest = whole
            return ()
        return self._unusual(data)

    def _unusual(self, data: bytes) -> list[Reading]:
        readings: list[Reading] = []
        for unit in self._decoder.feed(data):
            answers = codec.statuses(unit, self._length) if self._length else []
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
            readings.append(together(parts))

    def _reading(self, servo: Servo, answer: Status) -> Reading | None:
        values = dict(zip(READS[self._kind].fields, self._decode(answer.data), strict=True))
        error = answer.error & ALERT
        faults = Fault.OTHER if error else 0
        if self._kind == "full":
            guard, error, temperature = values["guard"], values["hardware"], values["temperature"]
            if guard != (self._units or int(self._guarded)) or error or not temperature:
                if self._is_lost(servo, guard, error, temperature):
                    return None
                faults = self._faults(guard, error)
        if self._lapsed:
            faults |= Fault.WATCHDOG
        if self._guarded and servo.index in self._restarted:
            faults |= Fault.RESET
        return servo_reading(servo, values, int(faults), error)

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
