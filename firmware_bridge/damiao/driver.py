"""Damiao motors as an arm: the answer to a command is the state, so a cycle is one frame each way per joint.

A joint with `kp` and `kd` is driven in MIT mode; one without, in force-position mode, with nine tenths of `max_effort`
as its force (a gripper). While disarmed a state is asked for by request 0xCC, which commands nothing.

Registers are set in the motor's RAM and read back, never saved: a motor that lost its supply is set again by arm().
Every motor switches itself off when commands cease for the watchdog time, and stays off until armed: the arm falls. A
stop that holds therefore takes the watchdog away first; the motors then hold without the host, as other arms do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from firmware_bridge import options as options_of
from firmware_bridge.arm import Arm, Joint, JointInfo, Mode, StopKind
from firmware_bridge.bus_arm import FIRST_READ_S, TRIES, BusArm, Reading
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.damiao import codec, cycle, registers
from firmware_bridge.damiao.access import Access, judge_number, judge_scale, scan
from firmware_bridge.damiao.models import scale_of
from firmware_bridge.errors import ArmRefused, BridgeError, WrongJoint, explain
from firmware_bridge.transport.base import Frame, FrameTransport
from firmware_bridge.transport.open import open_transport

REPLY_OFFSET = 0x10  # MST_ID where the profile names none: ESC_ID + 16, as the OpenArm is set up
SPEED_RAD_S = 5.0  # of a force-position joint, unless option `speed_rad_s` says otherwise (openarm_can's own default)
FORCE_SHARE = 0.9  # of max_effort: gripping as hard as it may is not yet the overload that `max_effort` watches for
OPTIONS = {"speed_rad_s": (float, SPEED_RAD_S)}
_EACH_S = 0.002  # s, for one motor's answer before the next one is commanded, outside cycles
_SETTINGS = (registers.CTRL_MODE, registers.TIMEOUT)


class DamiaoArm(BusArm[FrameTransport]):
    """`joints` on one CAN bus. `fd`: CAN-FD with bit-rate switch."""

    def __init__(
        self,
        transport: FrameTransport,
        joints: Sequence[Joint],
        watchdog_s: float | None = None,
        fd: bool = False,
        speed_rad_s: float = SPEED_RAD_S,
    ) -> None:
        super().__init__(transport, joints, watchdog_s)
        self._fd, self._speed_rad_s = fd, speed_rad_s
        self._scales = [scale_of(joint.model) for joint in joints]
        self._timeout = 0 if watchdog_s is None else codec.timeout_units(watchdog_s)
        self._reply_ids = [joint.id + REPLY_OFFSET if joint.reply_id is None else joint.reply_id for joint in joints]
        self._senders = cycle.senders([joint.id for joint in joints], self._reply_ids, self._scales)
        self._status = [codec.DISABLED] * len(joints)  # as last heard
        self._judge_joints()
        self._tails = [self._tail(i) for i in range(len(joints))]
        self._commands = [self._command(i) for i in range(len(joints))]
        self._questions = [codec.refresh(joint.id, fd) for joint in joints]
        self._last: list[Frame] = []  # commands written last
        self._access = Access(transport, [joint.id for joint in joints], self._whose, fd)

    # --- the servo loop's path --------------------------------------------------------------------------------

    def _frames(self, device_rad: Sequence[float]) -> list[Frame]:
        return [command(at_rad) for command, at_rad in zip(self._commands, device_rad, strict=True)]

    def _write(self, frames: object) -> None:
        assert isinstance(frames, list)
        self.transport.write(frames)
        self._last = frames

    def _ask(self) -> None:
        self.transport.write(self._questions)

    def _readings(self) -> list[Reading]:
        frames = self.transport.read()
        readings = cycle.readings(frames, self._senders, self.mode is Mode.ARMED, self._status)
        self.counts.foreign += len(frames) - len(readings)
        return readings

    def _command(self, joint: int) -> cycle.Command:
        motor, scale, tail = self.joints[joint].id, self._scales[joint], self._tails[joint]
        if tail is None:
            return cycle.force_command(motor, scale, self._speed_rad_s, self._force_nm(joint), self._fd)
        return cycle.mit_command(motor, scale, tail, self._fd)

    def _whose(self, frame: Frame) -> int | None:
        return cycle.whose(frame, self._senders)

    # --- modes ------------------------------------------------------------------------------------------------

    def _identify(self) -> tuple[JointInfo, ...]:
        self.transport.read()  # what was on the bus before us
        self._last = []
        found = self._registers(registers.IDENTITY)
        for i, values in found.items():
            judge_scale(self._who(i), self.joints[i].model, self._scales[i], values)
            judge_number(self._who(i), registers.ESC_ID, self.joints[i].id, values)
            judge_number(self._who(i), registers.MST_ID, self._reply_ids[i], values)
        self._read_whole()
        off = [i for i, status in enumerate(self._status) if status != codec.ENABLED]
        self._set_up(off)  # one that holds would let go: nobody feeds its watchdog until arm()
        return tuple(self._info(i, values, i in off) for i, values in found.items())

    def _enable(self) -> None:
        was_on = [i for i, status in enumerate(self._status) if status == codec.ENABLED]
        self._last = self._frames([j.to_device(at) for j, at in zip(self.joints, self.held.tolist(), strict=True)])
        try:
            self._set_up([i for i in range(len(self.joints)) if i not in was_on])
            self._clear_faults()
            self._send_until(lambda i: codec.special(self.joints[i].id, codec.ENABLE, self._fd), self._is_on)
            self._send_until(lambda i: self._last[i], self._is_on)
            self._refuse_unless(self._is_on, "torque on at every joint")
            if was_on:  # their watchdogs run from the command in front of this
                self._set_up(was_on)
        except BridgeError:
            self._halt(StopKind.HOLD if was_on else StopKind.FREE)
            raise

    def _disable(self) -> bool:
        self._last = []
        return self._send_until(
            lambda i: codec.special(self.joints[i].id, codec.DISABLE, self._fd), lambda i: not self._is_on(i)
        )

    def torque_on(self) -> list[bool | None]:
        """The status nibble of each answer."""
        return [status == codec.ENABLED for status in self._status]

    def _halt(self, kind: StopKind) -> bool:
        if kind is StopKind.FREE:
            return self._disable()
        if not self._last:  # never commanded: nothing to hold, and nothing may be switched on
            return self._send_until(lambda i: codec.refresh(self.joints[i].id, self._fd), lambda i: True)
        done = self._send_until(lambda i: self._damp(i) if kind is StopKind.DAMP else self._last[i], self._is_on)
        on = [i for i in range(len(self.joints)) if i not in self._waiting]
        self._access.write(registers.TIMEOUT, dict.fromkeys(on, 0))  # no commands will follow
        left = self._access.read([registers.TIMEOUT], on)
        return done and all(values.get(registers.TIMEOUT) == 0 for values in left.values())

    def _clear_faults(self) -> None:
        faulty = [i for i, status in enumerate(self._status) if status > codec.ENABLED]
        if faulty:
            self.transport.write([codec.special(self.joints[i].id, codec.CLEAR, self._fd) for i in faulty])
            self._read_whole()
            self._refuse_unless(lambda i: self._status[i] <= codec.ENABLED, "no fault at any joint")

    def _set_up(self, joints: Sequence[int]) -> None:
        """Mode, then watchdog, of these motors, in their RAM, read back. WatchdogMismatch, WrongJoint, JointSilent."""
        wanted = [
            {registers.CTRL_MODE: self._mode_of(i), registers.TIMEOUT: self._timeout} for i in range(len(self.joints))
        ]
        if not joints:
            return
        for number in _SETTINGS:
            self._access.write(number, {i: wanted[i][number] for i in joints})
        found = self._registers(_SETTINGS)
        for i in joints:
            for number in _SETTINGS:
                judge_number(self._who(i), number, wanted[i][number], found[i])

    def _registers(self, numbers: Sequence[int]) -> dict[int, dict[int, float]]:
        """These registers of every joint. Raises NoAnswer, JointSilent."""
        found = self._access.read(numbers)
        most = max(len(values) for values in found.values())
        if most < len(numbers) or any(len(values) < most for values in found.values()):
            behind = {i for i, values in found.items() if len(values) < most}
            self._waiting = behind or set(found)
            raise self.silence()
        return found

    def _send_until(self, frame: Callable[[int], Frame], done: Callable[[int], bool]) -> bool:
        """Send `frame(joint)`, which has one answer, until it leaves the joint `done`, up to TRIES times; True: all."""
        self.transport.read()  # answers to what was before say nothing about this
        self._waiting = set(range(len(self.joints)))
        for _ in range(TRIES):
            for i in sorted(self._waiting):
                self.transport.write([frame(i)])
                self._listen(done, i, time.monotonic_ns() + int(_EACH_S * 1e9))
            self._listen(done, None, time.monotonic_ns() + int(FIRST_READ_S * 1e9))
            if not self._waiting:
                return True
        return False

    def _listen(self, done: Callable[[int], bool], joint: int | None, deadline_ns: int) -> None:
        """Until `joint` is done, or all are, or the deadline."""
        while (self._waiting if joint is None else joint in self._waiting) and self.transport.wait_readable(
            deadline_ns
        ):
            self._waiting -= {reading.joint for reading in self._readings() if done(reading.joint)}

    # --- one joint --------------------------------------------------------------------------------------------

    def _is_on(self, joint: int) -> bool:
        return self._status[joint] == codec.ENABLED

    def _mode_of(self, joint: int) -> int:
        return registers.FORCE_POS if self._tails[joint] is None else registers.MIT

    def _tail(self, joint: int) -> bytes | None:
        """The part of an MIT command that never changes; None in force-position mode. Raises BadSetpoint."""
        motor, scale, at = self.joints[joint].id, self._scales[joint], self.joints[joint]
        if at.kp is None or at.kd is None:
            codec.force_position(motor, scale, 0.0, self._speed_rad_s, self._force_nm(joint))
            return None
        torque_nm = at.direction * at.torque_ff * at.ratio
        codec.mit(motor, scale, scale.pmax_rad, 0.0, at.kp, at.kd, torque_nm)  # judged once, at the worst position
        return codec.mit_tail(motor, scale, 0.0, at.kp, at.kd, torque_nm)

    def _damp(self, joint: int) -> Frame:
        at, scale = self.joints[joint], self._scales[joint]
        if at.kd is None:  # force-position mode has no damping: no force is less than that
            return codec.frame(codec.FORCE_ID + at.id, codec.force_position(at.id, scale, 0.0, 0.0, 0.0), self._fd)
        return codec.frame(at.id, codec.mit(at.id, scale, 0.0, kd=at.kd), self._fd)

    def _force_nm(self, joint: int) -> float:
        """Of a force-position joint, at the motor: the channel's effort is the motor's divided by `ratio`."""
        return (self.joints[joint].max_effort or 0.0) * FORCE_SHARE * self.joints[joint].ratio

    def _who(self, joint: int) -> str:
        return f"{self.joints[joint].name} (id {self.joints[joint].id}) on {self.transport.name}"

    def _info(self, joint: int, found: Mapping[int, float], is_off: bool) -> JointInfo:
        at = self.joints[joint]
        notes = [] if is_off else ["torque was on already: its watchdog is set by arm()"]
        if self._tails[joint] is None:
            notes.insert(0, f"force-position, at most {self._force_nm(joint) / at.ratio:g}")
        firmware = f"{found[registers.SW_VER]:g}"
        watchdog_s = None if self.watchdog_s is None else self._timeout * codec.TIMEOUT_UNIT_S
        reach = at.minimum, at.maximum
        return JointInfo(at.name, at.id, at.model, firmware, reach, watchdog_s, None, note="; ".join(notes))

    # --- judging ----------------------------------------------------------------------------------------------

    def _refuse_unless(self, good: Callable[[int], bool], expected: str) -> None:
        bad = [i for i in range(len(self.joints)) if not good(i)]
        if bad:
            got = "; ".join(f"{self.joints[i].name}: {codec.sentence(self._status[i])}" for i in bad)
            todo = "remove its cause (supply, heat, load, cable), then arm again"
            raise ArmRefused(explain(f"the arm on {self.transport.name} is not armed", expected, got, todo))

    def _judge_joints(self) -> None:
        """What the profile asks for must be something these motors can do. Raises WrongJoint."""
        if len(self._senders) < 16 * len(self.joints):
            raise self._wrong("two joints", "reply_id and the lowest 4 bits of id, together once", self._reply_ids)
        for joint, scale in zip(self.joints, self._scales, strict=True):
            low, high = joint.device_range_rad
            gains = joint.kp is not None, joint.kd is not None
            if not 0 < joint.id < 0x100:
                raise self._wrong(joint.name, "id 1..255: above, its commands meet those of other modes", joint.id)
            if not -scale.pmax_rad < low < high < scale.pmax_rad:
                raise self._wrong(joint.name, f"its range within +-{scale.pmax_rad:g} rad", f"{low:g}..{high:g} rad")
            if any(gains) != all(gains) or (not any(gains) and not joint.max_effort):
                got = f"kp {joint.kp}, kd {joint.kd}, max_effort {joint.max_effort}"
                raise self._wrong(joint.name, "kp and kd, or neither and a max_effort", got)

    def _wrong(self, who: str, expected: object, got: object) -> WrongJoint:
        todo = "correct the joint in the arm's profile"
        return WrongJoint(explain(f"{who} on {self.transport.name}", expected, got, todo))


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> Arm:
    """The driver for one bus. Option: `speed_rad_s`. Raises BridgeError for others, and for joints it cannot drive."""
    transport = open_transport("can", bus.port, bus.baud, bus.data_baud)
    chosen = options_of.read("damiao", options, OPTIONS)
    return DamiaoArm(transport, bus.joints, watchdog_s, bus.data_baud is not None, chosen["speed_rad_s"])


__all__ = ["DamiaoArm", "make", "scan"]
