"""ODrives on one CAN bus. A cycle is Set_Input_Pos and an RTR question to every axis, and the answers.

Why questions and not the cyclic messages: a cyclic message that arrives after a command may have been sampled before
it, and nothing in it tells. An answer to a question was sampled after the question, so a state is as old as its stamp
says. Cyclic encoder estimates would pass for answers: connect() refuses a bus that carries them (or switches them off
where it has the endpoint file). Errors come with the heartbeats, which are cyclic only: a fault is known one heartbeat
(100 ms at the factory) late at most.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from firmware_bridge.arm import Arm, Fault, Joint, JointInfo, Mode, StopKind
from firmware_bridge.bus_arm import FIRST_READ_S, TRIES, BusArm, Reading
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.errors import ArmRefused, JointSilent, WatchdogMismatch, WrongJoint, explain
from firmware_bridge.odrive import codec, endpoints, models
from firmware_bridge.odrive.codec import CLOSED_LOOP, IDLE, Command
from firmware_bridge.options import read
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Frame, FrameTransport
from firmware_bridge.transport.open import open_transport

OPTIONS: Mapping[str, tuple[type, Option | None]] = {
    "endpoints": (str, None),  # path of the boards' flat_endpoints.json: parameters are written and read back
    "watchdog_configured": (bool, False),  # the user's word that the watchdog is on, where nothing can be read back
    "effort": (bool, False),  # ask for torques in every cycle too: 158 bits a joint more
    "heartbeat_s": (float, 0.1),  # axis0.config.can.heartbeat_msg_rate_ms of the boards
    "velocity_limit_rev_s": (float, None),  # with current_limit_a: Set_Limits when armed
    "current_limit_a": (float, None),
}
_OLDEST = (0, 6, 0)  # firmware: 0.5 has other layouts, and its watchdog is fed by questions
_HEARTBEATS = 5  # missed ones until what an axis reports counts as unknown
_ENABLE_S, _STOP_S, _AGAIN_S = 1.0, 0.3, 0.01
_WATCHDOG_ON, _WATCHDOG_S = "axis0.config.enable_watchdog", "axis0.config.watchdog_timeout"
_CYCLIC = "axis0.config.can.encoder_msg_rate_ms"
Check = Callable[[int, int], bool]  # (axis state, error bits) -> as asked for


class ODriveArm(BusArm[FrameTransport]):
    """See `Arm`. `options` as OPTIONS has them."""

    def __init__(
        self,
        transport: FrameTransport,
        joints: Sequence[Joint],
        watchdog_s: float | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> None:
        chosen = read("odrive", options or {}, OPTIONS)
        self._endpoints = endpoints.load(chosen["endpoints"]) if chosen["endpoints"] is not None else None
        self._trusted, self._effort = chosen["watchdog_configured"], chosen["effort"]
        self._heartbeat_s = chosen["heartbeat_s"]
        self._limits = (chosen["velocity_limit_rev_s"], chosen["current_limit_a"])
        nodes = [joint.id for joint in joints]
        self._targets = [(codec.can_id(j.id, Command.SET_INPUT_POS), codec.milli(j.torque_ff)) for j in joints]
        kinds = (Command.GET_ENCODER_ESTIMATES, Command.GET_TORQUES) if self._effort else (codec.Command(9),)
        self._questions = [codec.request(node, kind) for kind in kinds for node in nodes]
        heard = (Command.GET_ENCODER_ESTIMATES, Command.GET_TORQUES, Command.HEARTBEAT)
        self._heard = {codec.can_id(node, kind): (i, kind) for i, node in enumerate(nodes) for kind in heard}
        super().__init__(transport, joints, watchdog_s)

    def _forget(self) -> None:
        super()._forget()
        n = len(self.joints)
        self._beats: list[tuple[int, int] | None] = [None] * n  # newest heartbeat: (axis state, error bits)
        self._beat_ns = [0] * n
        self._codes = [0] * n
        self._estimates: list[tuple[float, float] | None] = [None] * n
        self._last: list[Frame] = []  # the last command written
        self._closed = False  # the axes were seen in closed loop

    # --- identify ---------------------------------------------------------------------------------------------

    def _identify(self) -> tuple[JointInfo, ...]:
        versions = self._ask_each(Command.GET_VERSION)
        for joint, version in zip(self.joints, versions, strict=True):
            self._check_board(joint, tuple(int(v) for v in version))
        if self._endpoints is not None:
            self._configure()
        self._listen()
        temperatures = self._ask_each(Command.GET_TEMPERATURE)
        supplies = self._ask_each(Command.GET_BUS_VOLTAGE_CURRENT)
        rows = zip(self.joints, versions, temperatures, supplies, strict=True)
        return tuple(
            JointInfo(
                joint.name,
                joint.id,
                models.PRODUCT_LINES.get(int(version[1]), f"line {version[1]}"),
                ".".join(str(int(v)) for v in version[4:7]),
                (joint.minimum, joint.maximum),
                self.watchdog_s if self._endpoints is not None else None,
                None,
                voltage_v=supply[0],
                temperature_c=_hottest(temperature),
                note=self._note(index),
            )
            for index, (joint, version, temperature, supply) in enumerate(rows)
        )

    def _check_board(self, joint: Joint, version: tuple[int, ...]) -> None:
        line, firmware = models.PRODUCT_LINES.get(version[1], f"line {version[1]}"), version[4:7]
        if joint.model not in (models.ANY, line) or firmware < _OLDEST:
            raise WrongJoint(
                explain(
                    f"joint {joint.name} (node {joint.id}) on {self.transport.name}",
                    f"model {joint.model}, firmware {'.'.join(map(str, _OLDEST))} or newer",
                    f"{line}, firmware {'.'.join(map(str, firmware))}",
                    f"correct `model` ({', '.join(models.PRODUCT_LINES.values())}, or {models.ANY}), or update it",
                )
            )
        if self._endpoints is not None:
            self._endpoints.check(f"joint {joint.name} (node {joint.id})", version)

    def _configure(self) -> None:
        """Cyclic estimates off, watchdog and torque limits on, each read back. In RAM: lost with the power."""
        for index, joint in enumerate(self.joints):
            self._set(index, _CYCLIC, 0)
            if self.watchdog_s is not None:
                self._set(index, _WATCHDOG_S, self.watchdog_s)
                self._set(index, _WATCHDOG_ON, True)
            if joint.max_effort is not None:
                limit_nm = joint.max_effort * joint.ratio
                self._set(index, "axis0.config.torque_soft_max", limit_nm)
                self._set(index, "axis0.config.torque_soft_min", -limit_nm)

    def _set(self, index: int, path: str, value: float) -> None:
        """Write one parameter and read it back. Raises WatchdogMismatch, JointSilent, BridgeError."""
        assert self._endpoints is not None
        endpoint, kind = self._endpoints.entry(path)
        node = self.joints[index].id
        write, ask = codec.write_parameter(node, endpoint, kind, value), codec.read_parameter(node, endpoint)
        got: float | None = None
        for _ in range(TRIES):
            self.transport.write([write, ask])
            for message in self._answers_of(codec.can_id(node, Command.TX_SDO)):
                raw = message.values[1]
                if message.values[0] == endpoint and isinstance(raw, bytes):
                    got = codec.parameter(raw, kind)
                    if got is not None and math.isclose(got, value, rel_tol=1e-6):
                        return
        name = f"joint {self.joints[index].name} (node {node})"
        if got is None:
            todo = f"check the plug and {self._endpoints.file}: is it of this firmware?"
            raise JointSilent(explain(f"{name} does not answer for {path}", "its value", "silence", todo))
        todo = "check that nothing else configures it; connect again"
        raise WatchdogMismatch(explain(f"{name}: {path} was not taken", value, got, todo))

    def _listen(self) -> None:
        """Heartbeats must come and cyclic estimates must not. Raises WrongJoint, JointSilent."""
        began_ns = time.monotonic_ns()
        unasked: set[int] = set()
        while time.monotonic_ns() - began_ns < 3 * self._heartbeat_s * 1e9:
            self.transport.wait_readable(time.monotonic_ns() + 10_000_000)
            for frame in self.transport.read():
                joint, kind = self._heard.get(frame.id, (-1, None))
                if kind is Command.GET_ENCODER_ESTIMATES and not frame.remote:
                    unasked.add(joint)
                elif kind is Command.HEARTBEAT:
                    self._beat(joint, frame)
            if all(beat is not None for beat in self._beats) and time.monotonic_ns() - began_ns > 25_000_000:
                break
        silent = [j.name for j, beat in zip(self.joints, self._beats, strict=True) if beat is None]
        if silent:
            expected = f"one within {3 * self._heartbeat_s:g} s"
            todo = "set axis0.config.can.heartbeat_msg_rate_ms and the profile's option heartbeat_s alike"
            raise JointSilent(explain("axes without heartbeat", expected, ", ".join(silent), todo))
        if unasked:
            raise WrongJoint(
                explain(
                    f"cyclic encoder estimates on {self.transport.name}: they pass for answers, but may be older",
                    f"{_CYCLIC} = 0 at every axis",
                    "unasked ones of " + ", ".join(self.joints[i].name for i in sorted(unasked)),
                    f"odrivetool: `odrv0.{_CYCLIC} = 0`, save_configuration(); or give the option `endpoints`",
                )
            )

    def _note(self, index: int) -> str:
        beat = self._beats[index]
        parts = [models.sentence(beat[1])] if beat and beat[1] else []
        if self._endpoints is None and self.watchdog_s is not None:
            word = "on the profile's word" if self._trusted else "UNKNOWN"
            parts.append(f"watchdog {self.watchdog_s:g} s {word}, not read back: CANSimple cannot without `endpoints`")
        if self._endpoints is None and self.joints[index].max_effort is not None:
            parts.append("torque limit of the profile not written: no `endpoints`")
        return "; ".join(parts)

    def _ask_each(self, command: Command) -> list[tuple[float, ...]]:
        return [self._ask_one(index, command) for index in range(len(self.joints))]

    def _ask_one(self, index: int, command: Command) -> tuple[float, ...]:
        """The values of one Get_ message. Raises JointSilent."""
        joint = self.joints[index]
        for _ in range(TRIES):
            self.transport.write([codec.request(joint.id, command)])
            for message in self._answers_of(codec.can_id(joint.id, command)):
                return tuple(value for value in message.values if not isinstance(value, bytes))
        todo = "check its power and plug, its node id and the bit rate; scan the bus"
        what = f"joint {joint.name} (node {joint.id}) does not answer on {self.transport.name}"
        raise JointSilent(explain(what, command.name.lower(), "silence", todo))

    def _answers_of(self, can_id: int) -> Iterable[codec.Message]:
        """Messages of that id for FIRST_READ_S; others are heard as usual."""
        deadline_ns = time.monotonic_ns() + int(FIRST_READ_S * 1e9)
        while _waited(self.transport, deadline_ns):
            for frame in self.transport.read():
                joint, kind = self._heard.get(frame.id, (-1, None))
                message = codec.decode(frame) if frame.id == can_id else None
                if message is not None:
                    yield message
                elif kind is Command.HEARTBEAT:
                    self._beat(joint, frame)

    # --- a cycle ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        self._estimates = [None] * len(self.joints)
        self.transport.write(self._questions)

    def _frames(self, device_rad: Sequence[float]) -> list[Frame]:
        return codec.position_frames(self._targets, device_rad)

    def _write(self, frames: object) -> None:
        assert isinstance(frames, list)
        self._estimates = [None] * len(self.joints)
        self._last = frames
        self.transport.write(frames + self._questions)

    def _readings(self) -> Iterable[Reading]:
        readings: list[Reading] = []
        for frame in self.transport.read():
            joint, kind = self._heard.get(frame.id, (-1, None))
            if joint < 0 or frame.remote or frame.extended or frame.fd or len(frame.data) != 8:
                self.counts.foreign += 1
            elif kind is Command.HEARTBEAT:
                self._beat(joint, frame)
            elif kind is Command.GET_TORQUES:
                self._torque(joint, frame.data, readings)
            elif self._effort:
                self._estimates[joint] = codec.estimates(frame.data)
            else:
                position, velocity = codec.estimates(frame.data)
                readings.append(self._reading(joint, position, velocity, math.nan))
        return readings

    def _torque(self, joint: int, data: bytes, readings: list[Reading]) -> None:
        estimate, self._estimates[joint] = self._estimates[joint], None
        if estimate is None or not self._effort:
            self.counts.foreign += 1
            return
        torque = codec.LAYOUTS[Command.GET_TORQUES].format.unpack(data)[1]
        readings.append(self._reading(joint, *estimate, torque))

    def _reading(self, joint: int, position: float, velocity: float, effort: float) -> Reading:
        code = self._codes[joint]
        if time.monotonic_ns() - self._beat_ns[joint] > _HEARTBEATS * self._heartbeat_s * 1e9:
            code |= models.NO_HEARTBEAT
        faults = models.faults_of(code) if code else Fault.NONE
        return Reading(joint, position, velocity, effort, math.nan, faults, code)

    def _beat(self, joint: int, frame: Frame) -> None:
        message = codec.decode(frame)
        if message is None:
            self.counts.foreign += 1
            return
        error, state, _, _ = (int(value) for value in message.values)
        self._beats[joint], self._beat_ns[joint] = (state, error), time.monotonic_ns()
        lost = self.mode is Mode.ARMED and state != CLOSED_LOOP and not error
        kept = self._codes[joint] & models.LOST_CLOSED_LOOP  # until it is armed again
        self._codes[joint] = error | kept | (models.LOST_CLOSED_LOOP if lost else 0)

    # --- modes ------------------------------------------------------------------------------------------------

    def _enable(self) -> None:
        if self.watchdog_s is not None and self._endpoints is None and not self._trusted:
            raise ArmRefused(
                explain(
                    f"the watchdog of the axes on {self.transport.name} is not known to be on",
                    "it read back, or someone's word",
                    "a profile with watchdog_s, no option `endpoints`, no `watchdog_configured`",
                    "give `endpoints = flat_endpoints.json`; or set it with odrivetool, save, and say so",
                )
            )
        setup = [codec.encode(joint.id, Command.CLEAR_ERRORS, 0) for joint in self.joints]
        mode = (codec.POSITION_CONTROL, codec.PASSTHROUGH)
        setup += [codec.encode(joint.id, Command.SET_CONTROLLER_MODE, *mode) for joint in self.joints]
        velocity, current = self._limits
        if velocity is not None and current is not None:
            setup += [codec.encode(joint.id, Command.SET_LIMITS, velocity, current) for joint in self.joints]
        hold = self._hold_frames()
        self._codes = [0] * len(self.joints)
        self.transport.write([*setup, *hold, *self._to_state(CLOSED_LOOP)])
        # The input is repeated while waiting: it feeds the watchdog, which runs from the first closed-loop instant.
        self._last = hold
        if not self._confirmed(lambda state, error: state == CLOSED_LOOP and not error, hold, _ENABLE_S):
            reasons = "; ".join(self._why(index) for index in range(len(self.joints)) if not self._in_loop(index))
            self.transport.write(self._to_state(IDLE))
            todo = "remove the cause, calibrate with odrivetool where it says so, and arm again"
            what = f"axes on {self.transport.name} did not enter closed-loop control"
            raise ArmRefused(explain(what, "closed-loop control without errors", reasons or "no heartbeat", todo))
        self._codes = [0] * len(self.joints)
        self._closed = True

    def _disable(self) -> bool:
        off = self._to_state(IDLE)
        self.transport.write(off)
        confirmed = self._confirmed(lambda state, _: state != CLOSED_LOOP, off)
        self._closed = self._closed and not confirmed
        return confirmed

    def _halt(self, kind: StopKind) -> bool:
        """HOLD lasts until the watchdog of the axes expires: they let go then. DAMP is velocity control at 0."""
        nodes = [joint.id for joint in self.joints]
        if kind is StopKind.FREE:  # latched in the board: cleared only by arming
            frames = [codec.encode(node, Command.ESTOP) for node in nodes]
        elif kind is StopKind.DAMP:
            mode = (codec.VELOCITY_CONTROL, codec.PASSTHROUGH)
            frames = [codec.encode(node, Command.SET_CONTROLLER_MODE, *mode) for node in nodes]
            frames += [codec.encode(node, Command.SET_INPUT_VEL, 0.0, 0.0) for node in nodes]
        else:
            frames = self._last or self._hold_frames()
        torque = self._closed and kind is not StopKind.FREE
        self.transport.write(frames)
        wanted: Check = (lambda state, error: state == CLOSED_LOOP and not error) if torque else (
            lambda state, _: state != CLOSED_LOOP
        )  # fmt: skip
        confirmed = self._confirmed(wanted, frames)
        self._closed = torque
        return confirmed

    def _hold_frames(self) -> list[Frame]:
        pairs = zip(self.joints, self.held.tolist(), strict=True)
        return codec.position_frames(self._targets, [joint.to_device(value) for joint, value in pairs])

    def _to_state(self, state: int) -> list[Frame]:
        return [codec.encode(joint.id, Command.SET_AXIS_STATE, state) for joint in self.joints]

    def _confirmed(self, wanted: Check, again: Sequence[Frame], limit_s: float = _STOP_S) -> bool:
        """True when a heartbeat that came after this call says so at every axis; `again` every 10 ms."""
        self._drain()
        self._beats = [None] * len(self.joints)
        deadline_ns = time.monotonic_ns() + int(limit_s * 1e9)
        while time.monotonic_ns() < deadline_ns:
            again_ns = min(deadline_ns, time.monotonic_ns() + int(_AGAIN_S * 1e9))
            while _waited(self.transport, again_ns):
                for frame in self.transport.read():
                    joint, kind = self._heard.get(frame.id, (-1, None))
                    if kind is Command.HEARTBEAT:
                        self._beat(joint, frame)
                if all(beat is not None and wanted(*beat) for beat in self._beats):
                    return True
            self.transport.write(again)
        return False

    def _drain(self) -> None:
        """What was queued is older than the command; at most 20,000 frames of a babbling bus."""
        for _ in range(80):
            if not self.transport.read():
                return

    def _in_loop(self, index: int) -> bool:
        return self._beats[index] == (CLOSED_LOOP, 0)

    def _why(self, index: int) -> str:
        beat, name = self._beats[index], self.joints[index].name
        if beat is None:
            return f"{name}: no heartbeat"
        return f"{name}: {models.AXIS_STATES.get(beat[0], f'state {beat[0]}')}, {models.sentence(beat[1])}"


def _hottest(temperature: tuple[float, ...]) -> float | None:
    known = [value for value in temperature if math.isfinite(value)]
    return max(known) if known else None


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> Arm:
    """See `protocols`. Raises BridgeError for options that are not in OPTIONS."""
    return ODriveArm(open_transport("can", bus.port, bus.baud), bus.joints, watchdog_s, options)


def scan(transport: FrameTransport, wait_s: float = 0.7) -> list[Found]:
    """Everything that answers a broadcast Address question on an open bus, within `wait_s` (boards spread answers)."""
    transport.write([codec.request(codec.BROADCAST, Command.ADDRESS)])
    found: dict[int, Found] = {}
    for message in _heard_for(transport, wait_s):
        if message.command is Command.ADDRESS and isinstance(message.values[1], bytes):
            note = f"serial {message.values[1][::-1].hex().upper()}"
            node = int(message.values[0])
            found[node] = Found(node, models.ANY, "", note if node != codec.BROADCAST else f"{note}, no node id yet")
    addressed = [node for node in sorted(found) if node != codec.BROADCAST]
    transport.write([codec.request(node, Command.GET_VERSION) for node in addressed])
    for message in _heard_for(transport, FIRST_READ_S):
        if message.command is Command.GET_VERSION and message.node in found:
            version = [int(value) for value in message.values]
            model = models.PRODUCT_LINES.get(version[1], f"line {version[1]}")
            found[message.node] = Found(message.node, model, ".".join(map(str, version[4:7])), found[message.node].note)
    return [found[node] for node in sorted(found)]


def _waited(transport: FrameTransport, deadline_ns: int) -> bool:
    """A frame is there and the deadline is not: a babbling bus is readable for ever."""
    return transport.wait_readable(deadline_ns) and time.monotonic_ns() < deadline_ns


def _heard_for(transport: FrameTransport, wait_s: float) -> Iterable[codec.Message]:
    deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
    while _waited(transport, deadline_ns):
        for frame in transport.read():
            message = codec.decode(frame)
            if message is not None:
                yield message
