"""moteus as the servo loop sees it: each cycle one frame to every joint, a position with its question, and one back.

Every position carries its own watchdog time (register 0x027). What moteus would do by itself and this driver does not
allow: a controller that restarted would take torque again at the next position; the first answer that shows it is
met by a stop to that joint, and the arm stops.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from firmware_bridge.arm import Arm, Fault, Joint, JointInfo, Mode, StopKind
from firmware_bridge.bus_arm import FIRST_READ_S, TRIES, BusArm, Reading
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.errors import ArmRefused, BridgeError, WatchdogMismatch, WrongJoint, explain
from firmware_bridge.moteus import codec
from firmware_bridge.moteus import registers as reg
from firmware_bridge.moteus.codec import REV, Gains, PositionCommand, Status
from firmware_bridge.moteus.registers import FLOAT, OWN_CODE, Register
from firmware_bridge.moteus.registers import Mode as Device
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Frame, FrameTransport
from firmware_bridge.transport.open import open_transport

MODEL_NUMBER, MAP_VERSION = 0, 5  # fw/moteus_hw.h, fw/moteus_controller.cc
DATA_BAUD = 5_000_000  # of CAN-FD's data phase: moteus speaks no CAN 2.0
ENABLE_S = 0.5  # s, from stopped to position mode: driver on, current sensors measured
_ENABLE_PERIOD_S = 0.01
_TEXT_S = 0.2
_STARTING = (Device.STOPPED, Device.ENABLING, Device.CALIBRATING, Device.CALIBRATED)
_CONFIG = ("servopos.position_min", "servopos.position_max", "servo.pid_position.kp", "servo.pid_position.kd")
_FAULTS: Mapping[int, Fault] = {
    33: Fault.OVERLOAD,
    34: Fault.VOLTAGE,
    40: Fault.VOLTAGE,
    35: Fault.ENCODER,
    42: Fault.ENCODER,
    43: Fault.ENCODER,
    38: Fault.OVERHEAT,
    39: Fault.LIMIT,
}
_ON_EXPIRY = {0: "goes free", 10: "slows down and holds", 12: "damps motion", 15: "brakes"}  # servo.timeout_mode


class MoteusArm(BusArm[FrameTransport]):
    """`resolution`: registers.FLOAT or INT16. Raises BridgeError for a profile without a watchdog time."""

    def __init__(
        self, transport: FrameTransport, joints: Sequence[Joint], watchdog_s: float, resolution: int = FLOAT
    ) -> None:
        super().__init__(transport, joints, watchdog_s)
        self._timeout_s = watchdog_s
        self._resolution = resolution
        self._by_id = {joint.id << 8: index for index, joint in enumerate(joints)}  # of answers to host 0
        question = codec.query(resolution)
        self._questions = [codec.frame(joint.id, question) for joint in joints]
        self._stops = [codec.frame(joint.id, codec.mode(Device.STOPPED) + question) for joint in joints]
        self._ids = [(question.id, question.extended) for question in self._questions]
        self._torque = False  # this host asked for it and has not taken it back
        self._moves: list[PositionCommand] = []
        self._holds: list[PositionCommand] = []  # without a watchdog, for a stop that holds
        self._last: dict[int, Status] = {}

    # --- cycle ------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        self.transport.write(self._questions)

    def _frames(self, device_rad: Sequence[float]) -> list[Frame]:
        return [
            Frame(can_id, move.data(value), extended, True, True)
            for (can_id, extended), move, value in zip(self._ids, self._moves, device_rad, strict=True)
        ]

    def _write(self, frames: object) -> None:
        self.transport.write(frames)  # type: ignore[arg-type]

    def _readings(self) -> Iterator[Reading]:
        for index, status in self._statuses():
            faults, code = self._faults_of(status)
            if self.mode is Mode.ARMED and status.mode in _STARTING:
                self.transport.write([self._stops[index]])  # it restarted: it must not take torque by itself
            yield Reading(
                index,
                status.position_rev * REV,
                status.velocity_rev_s * REV,
                status.torque_nm,
                status.temperature_c,
                faults,
                code,
            )

    def _statuses(self) -> Iterator[tuple[int, Status]]:
        for frame in self.transport.read():
            index = self._by_id.get(frame.id)
            status = codec.status(frame.data) if index is not None else None
            if index is None or status is None:
                self.counts.foreign += 1
                continue
            self._last[index] = status
            yield index, status

    def _faults_of(self, status: Status) -> tuple[Fault, int]:
        if status.mode == Device.FAULT:
            return _FAULTS.get(status.fault, Fault.OTHER), status.fault or OWN_CODE + Device.FAULT
        if status.mode == Device.TIMEOUT:
            return Fault.WATCHDOG, OWN_CODE + Device.TIMEOUT
        if self.mode is Mode.ARMED and status.mode != Device.POSITION:
            return Fault.RESET if status.mode in _STARTING else Fault.OTHER, OWN_CODE + status.mode
        return Fault.NONE, status.fault if status.fault >= reg.FIRST_LIMITING else 0

    # --- connecting -------------------------------------------------------------------------------------------

    def _identify(self) -> tuple[JointInfo, ...]:
        self._torque, self._moves, self._holds, self._last = False, [], [], {}
        versions = self._asked_all(codec.IDENTIFY, (Register.MODEL, Register.FIRMWARE, Register.MAP_VERSION))
        self._asked_all(codec.query(self._resolution), (Register.MODE,))
        infos = []
        for index, joint in enumerate(self.joints):
            found = versions[index]
            if joint.model != "moteus" or (found[Register.MODEL], found[Register.MAP_VERSION]) != (
                MODEL_NUMBER,
                MAP_VERSION,
            ):
                raise self._wrong(index, found)
            infos.append(self._info(index, _version(int(found[Register.FIRMWARE]))))
        return tuple(infos)

    def _info(self, index: int, firmware: str) -> JointInfo:
        joint = self.joints[index]
        low_rev, high_rev, kp, kd = (self._configured(index, name) for name in _CONFIG)
        expiry = self._configured(index, "servo.timeout_mode")
        gains = self._gains(joint, kp, kd)
        question = codec.query(self._resolution)
        self._moves.append(PositionCommand(gains, self._timeout_s, self._resolution, question))
        self._holds.append(PositionCommand(gains, None, self._resolution, question))
        for end_rad in joint.device_range_rad:
            self._moves[index].data(end_rad)  # the register must reach as far as the profile
        ends = sorted(joint.to_channel(_end(rev, side) * REV) for rev, side in ((low_rev, -1), (high_rev, 1)))
        reach = max(joint.minimum, ends[0]), min(joint.maximum, ends[1])
        note = f"at expiry it {_ON_EXPIRY.get(int(expiry), f'does what mode {expiry:g} does')}"
        if reach != (joint.minimum, joint.maximum):
            note += "; its own position limits are narrower than the profile's"
        last = self._last.get(index)
        volt, hot = (last.voltage_v, last.temperature_c) if last else (None, None)
        return JointInfo(joint.name, joint.id, joint.model, firmware, reach, self._timeout_s, None, volt, hot, note)

    def _gains(self, joint: Joint, kp: float, kd: float) -> Gains:
        """The profile's N m/rad as shares of what the device has configured, N m/rev."""
        scales = []
        for name, wanted, own in (("kp", joint.kp, kp), ("kd", joint.kd, kd)):
            scale = 1.0 if wanted is None else wanted * REV / own if own > 0 else math.inf
            if not scale <= 1.0 + 1e-6:  # its kp comes as text, rounded
                raise WrongJoint(
                    explain(
                        f"joint {joint.name} (id {joint.id}) cannot have the {name} of the profile",
                        f"{name} up to {own / REV:.4g} N m/rad, which it has configured",
                        f"{wanted:.4g} N m/rad",
                        f"lower it in the profile, or raise servo.pid_position.{name} with moteus_tool",
                    )
                )
            scales.append(min(scale, 1.0))
        limit = None if joint.max_effort is None else joint.max_effort * abs(joint.ratio)
        return Gains(scales[0], scales[1], joint.torque_ff, limit)

    def _configured(self, index: int, name: str) -> float:
        """A number of the device's configuration, by its diagnostic text. Raises WrongJoint."""
        joint = self.joints[index]
        self._text(joint.id, b"")  # what still lies there from somebody else
        self.transport.write([codec.frame(joint.id, codec.text_in(f"conf get {name}\n".encode()), reply=False)])
        text = self._text(joint.id, b"\n")
        try:
            return float(text.strip())
        except ValueError:
            what = f"joint {joint.name} (id {joint.id}) does not tell its {name}"
            raise WrongJoint(explain(what, "a number", text or "silence", "update its firmware")) from None

    def _text(self, joint_id: int, until: bytes) -> bytes:
        """Diagnostic text up to `until`; with b"" what is there now."""
        text, deadline_ns = b"", time.monotonic_ns() + int(_TEXT_S * 1e9)
        while time.monotonic_ns() < deadline_ns:
            self.transport.write([codec.frame(joint_id, codec.text_poll())])
            part = self._next_text(joint_id, time.monotonic_ns() + int(_TEXT_S * 1e9 / TRIES))
            text += part or b""
            if (until and until in text) or (not until and part == b""):
                break
        return text

    def _next_text(self, joint_id: int, deadline_ns: int) -> bytes | None:
        for frame in _arriving(self.transport, deadline_ns):
            if frame.id == joint_id << 8 and (text := codec.text_out(frame.data)) is not None:
                return text
        return None

    def _asked_all(self, data: bytes, wanted: Iterable[int]) -> dict[int, dict[int, float]]:
        """Registers of every joint, asked for up to TRIES times. Raises NoAnswer, JointSilent."""
        found: dict[int, dict[int, float]] = {}
        for _ in range(TRIES):
            self._waiting = set(range(len(self.joints))) - found.keys()
            self.transport.write([codec.frame(self.joints[index].id, data) for index in sorted(self._waiting)])
            deadline_ns = time.monotonic_ns() + int(FIRST_READ_S * 1e9)
            for frame in _arriving(self.transport, deadline_ns):
                self._take_registers(frame, wanted, found)
                if not self._waiting:
                    return found
        raise self.silence()

    def _take_registers(self, frame: Frame, wanted: Iterable[int], found: dict[int, dict[int, float]]) -> None:
        index = self._by_id.get(frame.id)
        try:
            values = codec.values(frame.data) if index is not None else {}
        except BridgeError:
            values = {}
        if index is None or not all(register in values for register in wanted):
            self.counts.foreign += 1
            return
        found[index] = values
        self._waiting.discard(index)
        if (status := codec.status(frame.data)) is not None:
            self._last[index] = status

    # --- modes ------------------------------------------------------------------------------------------------

    def _enable(self) -> None:
        latched = [i for i, status in self._last.items() if status.mode in (Device.FAULT, Device.TIMEOUT)]
        self.transport.write([self._stops[index] for index in latched])  # the only way out of either
        held_before, self._torque = self._torque, True
        held = [joint.to_device(value) for joint, value in zip(self.joints, self.held.tolist(), strict=True)]
        deadline_ns = time.monotonic_ns() + int(ENABLE_S * 1e9)
        while time.monotonic_ns() < deadline_ns:
            self._last = {}
            self._write(self._frames(held))
            self._collect(int(_ENABLE_PERIOD_S * 1e9))
            modes = [self._last[i].mode if i in self._last else -1 for i in range(len(self.joints))]
            if all(mode == Device.POSITION for mode in modes):
                return self._check_timeouts(held, held_before)
            if Device.FAULT in modes and Device.STOPPED not in modes:
                break
            time.sleep(_ENABLE_PERIOD_S / 10)
        modes_now = ", ".join(self._mode_words(index) for index in range(len(self.joints)))
        self._back(held_before)
        raise ArmRefused(
            explain(
                f"the arm on {self.transport.name} did not take torque",
                "position mode at every joint",
                modes_now,
                "clear the cause, then arm again",
            )
        )

    def _back(self, held_before: bool) -> None:
        """After arming failed: what held before holds again, what was free is free."""
        if held_before:
            self._halt(StopKind.HOLD)
        else:
            self._free()

    def _check_timeouts(self, held: Sequence[float], held_before: bool) -> None:
        """Read register 0x027 back from every joint. Raises WatchdogMismatch, after a stop."""
        found = self._asked_all(codec.READ_TIMEOUT, (Register.TIMEOUT,))
        self._last = {}
        self._write(self._frames(held))
        self._collect(int(_ENABLE_PERIOD_S * 1e9))
        for index, values in found.items():
            if not abs(values[Register.TIMEOUT] - self._timeout_s) < 1e-3:
                self._back(held_before)
                got = f"{values[Register.TIMEOUT]:g} s at {self.joints[index].name}"
                todo = "report this: another host writes to the same joints"
                raise WatchdogMismatch(explain("the watchdog is not the profile's", f"{self._timeout_s} s", got, todo))

    def _disable(self) -> bool:
        return self._free()

    def _free(self) -> bool:
        done = self._until(self._stops, lambda status: status.mode == Device.STOPPED)
        self._torque = self._torque and not done
        return done

    def _halt(self, kind: StopKind) -> bool:
        """A joint without torque gets none for a stop: only what is in a mode with torque is commanded."""
        if kind is StopKind.FREE:
            return self._free()
        if not self._until(self._questions, lambda status: True):
            return False
        powered = [i for i, status in self._last.items() if status.mode not in (*_STARTING, Device.FAULT)]
        complete = len(powered) == len(self.joints) or not self._torque  # else one that should hold has no torque
        if kind is StopKind.HOLD:
            frames, accepted = self._hold_frames(), (Device.POSITION, Device.TIMEOUT)
        else:
            data = codec.mode(Device.ZERO_VELOCITY) + codec.query(self._resolution)
            frames = [codec.frame(joint.id, data) for joint in self.joints]
            accepted = (Device.ZERO_VELOCITY, Device.TIMEOUT)
        return self._until([frames[i] for i in powered], lambda status: status.mode in accepted, powered) and complete

    def _hold_frames(self) -> list[Frame]:
        frames = []
        for index, joint in enumerate(self.joints):
            at_rad = joint.to_device(float(self.held[index]))
            frames.append(codec.frame(joint.id, self._holds[index].data(at_rad)))
        return frames

    def _until(self, frames: Sequence[Frame], accepts, joints: Sequence[int] | None = None) -> bool:  # type: ignore[no-untyped-def]
        """Send `frames` to `joints` until the answer of each is accepted; up to TRIES times. Raises nothing new."""
        who = list(range(len(self.joints))) if joints is None else list(joints)
        left = set(who)
        for _ in range(TRIES):
            for index in left:
                self._last.pop(index, None)
            self.transport.write([frame for index, frame in zip(who, frames, strict=True) if index in left])
            self._collect(int(FIRST_READ_S * 1e9), left)
            left = {index for index in left if index not in self._last or not accepts(self._last[index])}
            if not left:
                break
        self._waiting = left
        return not left

    def _collect(self, limit_ns: int, of: Iterable[int] | None = None) -> None:
        """Take answers until each of `of` (all) has one, or the limit."""
        wanted = set(range(len(self.joints))) if of is None else set(of)
        deadline_ns = time.monotonic_ns() + limit_ns
        while not wanted <= self._last.keys() and time.monotonic_ns() < deadline_ns:
            if self.transport.wait_readable(deadline_ns):
                for _ in self._statuses():
                    pass

    # --- words ------------------------------------------------------------------------------------------------

    def _mode_words(self, index: int) -> str:
        status, name = self._last.get(index), self.joints[index].name
        if status is None:
            return f"{name}: silent"
        known = status.mode in set(Device)
        words = Device(status.mode).name.lower().replace("_", " ") if known else f"mode {status.mode}"
        return f"{name}: {words}" + (f", {codec.sentence(status.fault)}" if status.fault else "")

    def _wrong(self, index: int, found: Mapping[int, float]) -> WrongJoint:
        joint = self.joints[index]
        got = f"model {found[Register.MODEL]:g}, register map {found[Register.MAP_VERSION]:g}"
        return WrongJoint(
            explain(
                f"joint {joint.name} (id {joint.id}) is not what the profile says",
                f"model {MODEL_NUMBER} (the profile: moteus, got {joint.model}), register map {MAP_VERSION}",
                got,
                "name its model `moteus`, and flash a firmware of this register map with moteus_tool",
            )
        )


def _arriving(transport: FrameTransport, deadline_ns: int) -> Iterator[Frame]:
    """Frames as they come, until the deadline, also on a bus that never falls silent."""
    while time.monotonic_ns() < deadline_ns and transport.wait_readable(deadline_ns):
        yield from transport.read()


def _end(rev: float, side: int) -> float:
    return side * codec.MOST_REV if math.isnan(rev) else rev  # NaN: no limit


def _version(number: int) -> str:
    return f"{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> Arm:
    """The driver for one bus, not connected. Raises BridgeError for options it does not know."""
    known = "resolution: float or int16"
    resolution = options.get("resolution", "float")
    if set(options) - {"resolution"} or resolution not in codec.RESOLUTIONS:
        raise BridgeError(explain("options of moteus", known, dict(options), "correct [options] of the arm profile"))
    if watchdog_s is None or not 0.0 < watchdog_s < 32.0:
        todo = "set watchdog_s in the arm profile, 0.1 as a rule"
        raise BridgeError(explain("moteus has a watchdog", "watchdog_s within 0..32 s", watchdog_s, todo))
    transport = open_transport("can", bus.port, bus.baud, bus.data_baud or DATA_BAUD)
    return MoteusArm(transport, bus.joints, watchdog_s, codec.RESOLUTIONS[str(resolution)])


def scan(transport: FrameTransport, ids: Sequence[int] = range(1, 127), window_s: float = 0.2) -> list[Found]:
    """Controllers that answer within `window_s`, on an open transport. Sixteen are asked at a time."""
    found: dict[int, Found] = {}
    ids = [joint_id for joint_id in ids if 0 < joint_id < codec.BROADCAST]
    for start in range(0, len(ids), 16):
        transport.write([codec.frame(joint_id, codec.IDENTIFY) for joint_id in ids[start : start + 16]])
        deadline_ns = time.monotonic_ns() + int(window_s * 1e9 / math.ceil(len(ids) / 16))
        for frame in _arriving(transport, deadline_ns):
            if (one := _found(frame)) is not None:
                found[one.id] = one
    return [found[joint_id] for joint_id in sorted(found)]


def _found(frame: Frame) -> Found | None:
    try:
        values = codec.values(frame.data)
    except BridgeError:
        return None
    if frame.id & 0x80FF or Register.FIRMWARE not in values:
        return None
    note = f"register map {values.get(Register.MAP_VERSION, 0):g}"
    return Found(frame.id >> 8 & 0x7F, "moteus", _version(int(values[Register.FIRMWARE])), note)
