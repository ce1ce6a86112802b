"""moteus as the servo loop sees it: each cycle one frame to every joint, a position with its question, and one back.

Every position carries its own watchdog time (register 0x027). What moteus would do by itself and this driver does not
allow: a controller that restarted would take torque again at the next position; the first answer that shows it is
met by a stop to that joint, and the arm stops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from firmware_bridge.arm import Arm, Fault, Joint, JointInfo, Mode, StopKind
from firmware_bridge.bus_arm import FIRST_READ_S, TRIES, BusArm, Reading, reading_of
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.errors import ArmRefused, BridgeError, WatchdogMismatch, explain
from firmware_bridge.moteus import codec
from firmware_bridge.moteus import registers as reg
from firmware_bridge.moteus.codec import REV, PositionCommand, Status
from firmware_bridge.moteus.connect import arriving, check, configured, version
from firmware_bridge.moteus.registers import FLOAT, OWN_CODE, Register
from firmware_bridge.moteus.registers import Mode as Device
from firmware_bridge.moteus.scan import scan
from firmware_bridge.transport.base import Frame, FrameTransport, frame_of
from firmware_bridge.transport.open import open_transport

__all__ = ["MoteusArm", "make", "scan"]
DATA_BAUD = 5_000_000  # of CAN-FD's data phase: moteus speaks no CAN 2.0
ENABLE_S = 0.5  # s, from stopped to position mode: driver on, current sensors measured
_ENABLE_PERIOD_S = 0.01
_STANDARD_MAX = 0x7FF  # ids above have 29 bits
_STARTING = (Device.STOPPED, Device.ENABLING, Device.CALIBRATING, Device.CALIBRATED)
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

Accepts = Callable[[Status], bool]


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
            frame_of((can_id, move.data(value), extended, True, True, False))
            for (can_id, extended), move, value in zip(self._ids, self._moves, device_rad, strict=True)
        ]

    def _write(self, frames: object) -> None:
        self.transport.write(frames)  # type: ignore[arg-type]

    def _readings(self) -> list[Reading]:
        readings = []
        for index, status in self._statuses():
            at, position_rev, velocity_rev_s, torque_nm, _, temperature_c, fault = status
            usual = at == Device.POSITION and fault < reg.FIRST_LIMITING
            faults, code = (Fault.NONE, 0) if usual else self._faults_of(index, status)
            answer = (index, position_rev * REV, velocity_rev_s * REV, torque_nm, temperature_c, faults, code)
            readings.append(reading_of(answer))
        return readings

    def _statuses(self) -> list[tuple[int, Status]]:
        """What has arrived, in that order; each joint's newest is kept."""
        found = []
        for frame in self.transport.read():
            can_id, data, extended, _, _, remote = frame
            index = None if remote or extended != (can_id > _STANDARD_MAX) else self._by_id.get(can_id)
            status = codec.status(data) if index is not None else None
            if index is None or status is None:
                self.counts.foreign += 1
                continue
            self._last[index] = status
            found.append((index, status))
        return found

    def _faults_of(self, index: int, status: Status) -> tuple[Fault, int]:
        """Faults and code of a Reading; a joint that restarted is stopped: it must not take torque by itself."""
        if self.mode is Mode.ARMED and status.mode in _STARTING:
            self.transport.write([self._stops[index]])
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
            check(joint, versions[index])
            infos.append(self._set_up(index, joint, version(versions[index][Register.FIRMWARE])))
        return tuple(infos)

    def _set_up(self, index: int, joint: Joint, firmware: str) -> JointInfo:
        """Its commands, and its row. Raises WrongJoint; BadSetpoint where no register reaches as far as the profile."""
        found, question = configured(self.transport, joint), codec.query(self._resolution)
        move = PositionCommand(found.gains, self._timeout_s, self._resolution, question)
        for end_rad in joint.device_range_rad:
            move.data(end_rad)
        self._moves.append(move)
        self._holds.append(PositionCommand(found.gains, None, self._resolution, question))
        return found.info(joint, firmware, self._timeout_s, self._last.get(index))

    def _asked_all(self, data: bytes, wanted: Iterable[int]) -> dict[int, dict[int, float]]:
        """Registers of every joint, asked for up to TRIES times. Raises NoAnswer, JointSilent."""
        found: dict[int, dict[int, float]] = {}
        for _ in range(TRIES):
            self._waiting = set(range(len(self.joints))) - found.keys()
            self.transport.write([codec.frame(self.joints[index].id, data) for index in sorted(self._waiting)])
            deadline_ns = time.monotonic_ns() + int(FIRST_READ_S * 1e9)
            for frame in arriving(self.transport, deadline_ns):
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

    def torque_on(self) -> list[bool | None]:
        """The mode of each answer: from PWM on the controller drives its motor."""
        return [self._last[i].mode >= Device.PWM if i in self._last else None for i in range(len(self.joints))]

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

    def _until(
        self, frames: Sequence[Frame], accepts: Callable[[Status], bool], joints: Sequence[int] | None = None
    ) -> bool:
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
                self._statuses()

    def _mode_words(self, index: int) -> str:
        status, name = self._last.get(index), self.joints[index].name
        if status is None:
            return f"{name}: silent"
        known = status.mode in set(Device)
        words = Device(status.mode).name.lower().replace("_", " ") if known else f"mode {status.mode}"
        return f"{name}: {words}" + (f", {codec.sentence(status.fault)}" if status.fault else "")


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
