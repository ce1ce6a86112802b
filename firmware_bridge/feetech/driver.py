"""Feetech servos as an arm: goals by sync write, states by sync read (STS) or by one read after the other (SCS).

One cycle is one write: goals and the question. The status byte of every answer carries the servo's faults, so they
cost nothing. What changes slowly (voltage, temperature) and the torque switch are read every `slow_every` cycles, and
in the cycle after one that lost an answer: a servo that restarted comes back with its torque off, and stays so.
The servos have no watchdog. They keep their last goal, torque on, when the host dies: `edgevla.control.guardian`
stops an arm whose servo process died, nothing stops one whose computer did.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from firmware_bridge.arm import Arm, Fault, Joint, JointInfo, Mode, StopKind
from firmware_bridge.bus_arm import TRIES, BusArm, Reading, reading_of
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.errors import ArmRefused, BridgeError, NoAnswer, WatchdogMismatch, explain
from firmware_bridge.feetech import checks, codec
from firmware_bridge.feetech.bus import Servo, ServoBus, lock
from firmware_bridge.feetech.models import MODELS, SCS, Register
from firmware_bridge.feetech.options import Options, options_of, settings
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Transport
from firmware_bridge.transport.open import open_transport

_BLOCKING = Fault.VOLTAGE | Fault.ENCODER | Fault.OVERHEAT  # no torque while one of these lasts
Block = tuple[int, int]  # first register, bytes
_SIGN = 1 << 15  # of a speed
_OVERLOADED = 32  # status bit that option overload = "report" leaves to the caller


class FeetechArm(BusArm[Transport]):
    """Servos of one series on one half-duplex line."""

    def __init__(self, transport: Transport, joints: Sequence[Joint], options: Options | None = None) -> None:
        super().__init__(transport, joints)
        self.options = options or Options()
        models = [codec.model_of(joint) for joint in joints]
        self._series = models[0].series
        checks.require_one_series(joints)
        self._goals = codec.Goals(joints)
        self._index = {joint.id: i for i, joint in enumerate(joints)}
        self._top = [model.top for model in models]
        self._per_rad = [model.counts_per_rad for model in models]
        self._stall_nm = [model.stall_nm for model in models]
        self._speed = [1.0 / model.counts_per_rad for model in models]  # rad/s per unit; known after connect
        self._bus = ServoBus(transport)
        fast, slow = codec.block_of(joints, self.options.read), codec.BLOCKS["slow"]
        self._questions = {block: self._question(*block) for block in (fast, slow)}
        self._present = {block: codec.reader(min(block[1], 8), self._series.big_endian) for block in (fast, slow)}
        self._fast, self._slow = fast, slow
        self._at_once = fast if self._series.sync_read and fast == codec.BLOCKS["motion"] else None  # see _usual
        spare = _OVERLOADED if self.options.overload == "report" else 0
        self._faults = tuple(codec.faults_of(status & ~spare) for status in range(256))
        self._reset_cycle()

    def _reset_cycle(self) -> None:
        self._block = self._slow
        self._cycles = self._incomplete = 0
        self._want_slow, self._only_slow = True, False
        self._turn = 0  # of SCS: whose answer comes next
        self._decoder = codec.Decoder(self._slow[1] + 6)
        self._torque_on = [False] * len(self.joints)
        self._servo_goals = [b""] * len(self.joints)

    def _question(self, address: int, count: int) -> list[bytes]:
        """STS: one sync read. SCS: a read for each joint."""
        ids = [joint.id for joint in self.joints]
        if self._series.sync_read:
            return [codec.sync_read(address, count, ids)]
        return [codec.read(servo, address, count) for servo in ids]

    # --- connect ----------------------------------------------------------------------------------------------

    def _identify(self) -> tuple[JointInfo, ...]:
        self._reset_cycle()
        servos = self._bus.servos({joint.id: joint.name for joint in self.joints})
        offsets: Sequence[int | None] = self.options.offsets or [None] * len(servos)
        for servo, joint, offset in zip(servos, self.joints, offsets, strict=True):
            checks.require(servo, joint, offset, self.options)
        self._speed = [checks.speed_unit(s) / k for s, k in zip(servos, self._per_rad, strict=True)]
        for servo, joint in zip(servos, self.joints, strict=True):
            self._set_up(servo, joint)
        servos = [self._bus.servo(servo.id) for servo in servos]
        return tuple(checks.info(servo, joint) for servo, joint in zip(servos, self.joints, strict=True))

    def _set_up(self, servo: Servo, joint: Joint) -> None:
        """What the profile wants set, read back. Torque is left as it is."""
        wanted = [(register, bytes((value,))) for register, value in settings(self.options).items()]
        if wanted:
            lock(self._bus, servo)
        limit = self._torque_limit(joint)
        if limit:
            wanted.append((Register.TORQUE_LIMIT, limit))
        for register, data in wanted:
            if servo.registers[register : register + len(data)] != data:
                self._bus.write(servo.id, register, data)

    def _torque_limit(self, joint: Joint) -> bytes:
        """The option torque_limits and the joint's max_effort as the servo's own limit; b"" where there is none."""
        shares = [self.options.limits[self._index[joint.id]] / 100] if self.options.limits else []
        if joint.max_effort is not None:
            shares.append(joint.max_effort * joint.ratio / MODELS[joint.model].stall_nm)
        if not shares or not self._series.homing:
            return b""
        return codec.word(max(1, round(1000 * min(1.0, *shares))), self._series.big_endian)

    # --- a cycle ----------------------------------------------------------------------------------------------

    def _frames(self, device_rad: Sequence[float]) -> object:
        goals = self._goals.pack(device_rad)
        block = self._next_block()
        return block, goals + self._questions[block][0]

    def _write(self, frames: object) -> None:
        self._begin(*cast("tuple[Block, bytes]", frames))

    def _ask(self) -> None:
        block = self._next_block()
        self._begin(block, self._questions[block][0])

    def _next_block(self) -> Block:
        every = self.options.slow_every
        self._cycles += 1
        lost = self.counts.incomplete != self._incomplete
        self._incomplete = self.counts.incomplete
        self._want_slow = self._want_slow or lost or (every > 0 and self._cycles % every == 0)
        return self._slow if self._want_slow or self._only_slow else self._fast

    def _begin(self, block: Block, data: bytes) -> None:
        self._decoder.clear()
        self._block, self._turn = block, 0
        self._want_slow = False  # asked for; a lost answer makes it wanted again
        self.transport.write(data)

    def _readings(self) -> Iterable[Reading]:
        data = self.transport.read()
        if not data:
            return ()
        return self._usual(data) or self._any(data)

    def _usual(self, data: bytes) -> list[Reading]:
        """Whole answers with position and speed, and nothing else; none where `_any` has to look."""
        if self._block is not self._at_once or self._decoder.rest:
            return []
        readings = []
        for _, servo, _, status, position, speed, _ in codec.motions(data):
            joint = self._index.get(servo, -1)
            if joint < 0 or position > self._top[joint]:
                return []
            at_rad = position / self._per_rad[joint]
            rad_s = (speed if speed < _SIGN else _SIGN - speed) * self._speed[joint]
            reading = (joint, at_rad, rad_s, math.nan, math.nan, self._faults[status], status)
            readings.append(reading_of(reading))
        return readings

    def _any(self, data: bytes) -> list[Reading]:
        """Answers of any block among echoes, noise, pieces and spoiled packets."""
        found = []
        skipped = self._decoder.skipped
        for answer in self._decoder.feed(data):
            joint = self._index.get(answer.id, -1)
            asked = joint <= self._turn or self._series.sync_read
            expected = asked and len(answer.data) == self._block[1]
            reading = self._reading(joint, answer) if joint >= 0 and expected else None
            if reading is None:
                self.counts.foreign += 1  # an echo, a servo that is not in the profile, an answer of before
                continue
            found.append(reading)
            if joint == self._turn and not self._series.sync_read:
                self._next_turn()
        self.counts.foreign += self._decoder.skipped > skipped
        return found

    def _next_turn(self) -> None:
        """SCS: the line is free again, the next joint may be asked."""
        self._turn += 1
        if self._turn < len(self.joints):
            self.transport.write(self._questions[self._block][self._turn])

    def _reading(self, joint: int, answer: codec.Packet) -> Reading | None:
        """None for a position that its servo cannot have: an 8-bit checksum lets one wrong packet in 256 through."""
        data, faults = answer.data, self._faults[answer.code]
        present = self._present[self._block](data[-8:])
        if not 0 <= present.position <= self._top[joint]:
            return None
        if self._block == self._slow:
            faults |= self._look_at_torque(joint, data)
        return Reading(
            joint,
            present.position / self._per_rad[joint],
            present.speed * self._speed[joint],
            math.nan if present.load is None else present.load * 1e-3 * self._stall_nm[joint],
            math.nan if present.temperature is None else float(present.temperature),
            faults,
            answer.code,
        )

    def _look_at_torque(self, joint: int, data: bytes) -> int:
        """RESET for a joint of an armed arm whose torque is off: it restarted, or switched it off itself."""
        self._torque_on[joint] = data[0] == 1
        self._servo_goals[joint] = data[2:4]
        return Fault.RESET if self.mode is Mode.ARMED and not self._torque_on[joint] else 0

    # --- modes ------------------------------------------------------------------------------------------------

    def _enable(self) -> None:
        state = self._read_slow()
        if state & _BLOCKING:
            raise self._refused(f"a fault lasts: {Fault(state & _BLOCKING)}", "cool it, or correct its supply")
        counts = self._goals.counts([joint.to_device(at) for joint, at in zip(self.joints, self.held, strict=True)])
        goals = [codec.word(count, self._series.big_endian) for count in counts]
        self._write_all(Register.GOAL_POSITION, goals)
        self._write_ramp()
        self._write_all(Register.TORQUE_ENABLE, [b"\x01"] * len(goals))
        faults = self._read_slow()
        if all(self._torque_on) and self._servo_goals == goals and not faults:
            return
        on = [joint.name for joint, torque in zip(self.joints, self._torque_on, strict=True) if torque]
        self._disable()
        got = f"torque on at {', '.join(on) or 'none'}, faults {Fault(faults)}; torque is off again"
        raise self._refused(got, "clear the fault (power-cycle after an overload), then arm again")

    def _write_ramp(self) -> None:
        """The servo's own ramp and torque limit are lost at power-off: written at every arming."""
        count, big = len(self.joints), self._series.big_endian
        if self.options.acceleration is not None:
            self._write_all(Register.ACCELERATION, [bytes((self.options.acceleration,))] * count)
        if self.options.goal_speed is not None:
            self._write_all(Register.GOAL_SPEED, [codec.word(self.options.goal_speed, big)] * count)
        limited = {joint.id: self._torque_limit(joint) for joint in self.joints}
        if limited := {servo: limit for servo, limit in limited.items() if limit}:
            self.transport.write(codec.sync_write(Register.TORQUE_LIMIT, limited))

    def _disable(self) -> bool:
        for _ in range(TRIES):
            self._write_all(Register.TORQUE_ENABLE, [b"\x00"] * len(self.joints))
            with contextlib.suppress(NoAnswer, BridgeError):
                self._read_slow()
                if not any(self._torque_on):
                    return True
        return False

    def _look(self) -> list[bool | None]:
        self._reset_cycle()
        return super()._look()

    def torque_on(self) -> list[bool | None]:
        """Register 40, which every `slow_every`th cycle reads, the first one too."""
        return list(self._torque_on)

    def _halt(self, kind: StopKind) -> bool:
        """HOLD: the servos keep the last goal by themselves; it is asked whether they do. DAMP is FREE here."""
        if kind is not StopKind.HOLD:
            return self._disable()
        before = list(self._torque_on)
        try:
            self._read_slow()
        except BridgeError:
            return False
        return all(now or not was for now, was in zip(self._torque_on, before, strict=True))

    def _read_slow(self) -> int:
        """Torque switch, goal and all of every joint, read anew; bits of Fault."""
        self._only_slow = True
        try:
            return self._read_whole().faults
        finally:
            self._only_slow = False

    def _write_all(self, register: int, values: Sequence[bytes]) -> None:
        rows = {joint.id: value for joint, value in zip(self.joints, values, strict=True)}
        self.transport.write(codec.sync_write(register, rows))

    def _refused(self, got: str, todo: str) -> ArmRefused:
        what = f"the arm on {self.transport.name} is not armed"
        return ArmRefused(explain(what, "torque on at every joint, goal = where it stands", got, todo))


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> Arm:
    """Not yet connected. Raises WatchdogMismatch, and BridgeError for wrong options, models or ranges."""
    if watchdog_s is not None:
        todo = 'write watchdog_s = "none" in the profile and run with --accept-no-watchdog'
        raise WatchdogMismatch(explain("a watchdog is asked of Feetech servos", "none", f"{watchdog_s:g} s", todo))
    return FeetechArm(open_transport("serial", bus.port, bus.baud), bus.joints, options_of(options, len(bus.joints)))


def scan(transport: Transport, ids: Iterable[int] = range(254)) -> list[Found]:
    """Every servo that answers on the open `transport`, by its id; some 30 ms for each that does not."""
    bus = ServoBus(transport)
    found = []
    for servo in ids:
        if bus.ping(servo):
            with contextlib.suppress(NoAnswer):  # an adapter's echo answers pings, but reads nothing
                told = bus.servo(servo)
                note = codec.sentence(told.status) + ("; one read per joint" if told.series is SCS else "")
                found.append(Found(servo, told.model, told.firmware, note))
    return found
