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
from collections.abc import Mapping, Sequence

from firmware_bridge.arm import Arm, Joint, JointInfo, Mode, StopKind
from firmware_bridge.bus_arm import BusArm, Reading, reading_of
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.errors import ArmRefused, explain
from firmware_bridge.odrive import codec, endpoints
from firmware_bridge.odrive.codec import CLOSED_LOOP, IDLE, TURN_RAD, Command
from firmware_bridge.odrive.connect import Boards, waited
from firmware_bridge.odrive.heartbeat import Check, Heartbeats
from firmware_bridge.odrive.scan import scan
from firmware_bridge.options import read
from firmware_bridge.transport.base import Frame, FrameTransport
from firmware_bridge.transport.open import open_transport

__all__ = ["OPTIONS", "ODriveArm", "make", "scan"]
OPTIONS: Mapping[str, tuple[type, Option | None]] = {
    "endpoints": (str, None),  # path of the boards' flat_endpoints.json: parameters are written and read back
    "watchdog_configured": (bool, False),  # the user's word that the watchdog is on, where nothing can be read back
    "effort": (bool, False),  # ask for torques in every cycle too: 158 bits a joint more
    "heartbeat_s": (float, 0.1),  # axis0.config.can.heartbeat_msg_rate_ms of the boards
    "velocity_limit_rev_s": (float, None),  # with current_limit_a: Set_Limits when armed
    "current_limit_a": (float, None),
}
_ENABLE_S, _STOP_S, _AGAIN_S = 1.0, 0.3, 0.01
_LOOK_BEATS = 5  # heartbeats that are waited for
_ASKED = (Command.GET_ENCODER_ESTIMATES, Command.GET_TORQUES)


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
        estimates, torques = ([codec.can_id(node, kind) for node in nodes] for kind in _ASKED)
        asked = estimates + torques if self._effort else estimates
        self._questions = [Frame(can_id, b"", remote=True) for can_id in asked]
        self._targets = [(codec.can_id(j.id, Command.SET_INPUT_POS), codec.milli(j.torque_ff)) for j in joints]
        # CAN id -> joint, of answers that are whole in one frame, and of those that come in two
        self._answer_of = {} if self._effort else {can_id: index for index, can_id in enumerate(estimates)}
        halves = ((ids, kind) for ids, kind in zip((estimates, torques), _ASKED, strict=True) if self._effort)
        self._half_of = {can_id: (index, kind) for ids, kind in halves for index, can_id in enumerate(ids)}
        super().__init__(transport, joints, watchdog_s)

    def _forget(self) -> None:
        super()._forget()
        self._beats = Heartbeats([joint.id for joint in self.joints], self._heartbeat_s)
        self._halves: list[tuple[float, float] | None] = [None] * len(self.joints)  # (rad, rad/s) without their torque
        self._last: list[Frame] = []  # the last command written
        self._closed = False  # the axes were seen in closed loop

    def _identify(self) -> tuple[JointInfo, ...]:
        boards = Boards(
            self.transport,
            self.joints,
            self._beats,
            self._endpoints,
            self.watchdog_s,
            self._trusted,
            self._heartbeat_s,
        )
        return boards.identify()

    # --- a cycle ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        self._halves = [None] * len(self.joints)
        self.transport.write(self._questions)

    def _frames(self, device_rad: Sequence[float]) -> list[Frame]:
        return codec.position_frames(self._targets, device_rad)

    def _write(self, frames: object) -> None:
        assert isinstance(frames, list)
        self._halves = [None] * len(self.joints)
        self._last = frames
        self.transport.write(frames + self._questions)

    def _readings(self) -> list[Reading]:
        readings: list[Reading] = []
        told = self._beats.told
        for frame in self.transport.read():
            joint = self._answer_of.get(frame[0])
            if joint is None or frame[2:] != codec.PLAIN or len(frame[1]) != 8:
                self._other(frame, readings)
                continue
            turns, turns_s = codec.ESTIMATES.unpack(frame[1])
            answer = (joint, turns * TURN_RAD, turns_s * TURN_RAD, math.nan, math.nan, *told[joint])
            readings.append(reading_of(answer))
        if readings and self._beats.late():  # seen only now: a host that slept finds heartbeats behind the answers
            return [reading_of((*reading[:5], *self._beats.told_late(reading[0]))) for reading in readings]
        return readings

    def _other(self, frame: Frame, readings: list[Reading]) -> None:
        """A heartbeat; with the option `effort` the halves of an answer; else nobody's."""
        joint, kind = self._half_of.get(frame.id, (-1, None))
        message = codec.decode(frame) if kind is not None else None
        if message is None:
            known = self._beats.take(frame, self.mode is Mode.ARMED)
            self.counts.foreign += not known
        elif kind is Command.GET_ENCODER_ESTIMATES:
            self._halves[joint] = codec.estimates(frame.data)
        else:
            self._torque(joint, float(message.values[1]), readings)

    def _torque(self, joint: int, torque_nm: float, readings: list[Reading]) -> None:
        half, self._halves[joint] = self._halves[joint], None
        if half is None:
            self.counts.foreign += 1
            return
        readings.append(Reading(joint, *half, torque_nm, math.nan, *self._beats.told[joint]))

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
        self._beats.clear()
        self.transport.write([*setup, *hold, *self._to_state(CLOSED_LOOP)])
        # The input is repeated while waiting: it feeds the watchdog, which runs from the first closed-loop instant.
        self._last = hold
        if not self._confirmed(lambda state, error: state == CLOSED_LOOP and not error, hold, _ENABLE_S):
            missing = [i for i, beat in enumerate(self._beats.newest) if beat != (CLOSED_LOOP, 0)]
            reasons = "; ".join(f"{self.joints[i].name}: {self._beats.words(i)}" for i in missing)
            self.transport.write(self._to_state(IDLE))
            todo = "remove the cause, calibrate with odrivetool where it says so, and arm again"
            what = f"axes on {self.transport.name} did not enter closed-loop control"
            raise ArmRefused(explain(what, "closed-loop control without errors", reasons or "no heartbeat", todo))
        self._beats.clear()
        self._closed = True

    def _disable(self) -> bool:
        off = self._to_state(IDLE)
        self.transport.write(off)
        confirmed = self._confirmed(lambda state, _: state != CLOSED_LOOP, off)
        self._closed = self._closed and not confirmed
        return confirmed

    def _look(self) -> list[bool | None]:
        """The axis state comes with the heartbeats, which nobody can ask for."""
        self._read_whole()
        until_ns = time.monotonic_ns() + round(_LOOK_BEATS * self._heartbeat_s * 1e9)
        while None in self._beats.newest and self.wait_readable(until_ns) and time.monotonic_ns() < until_ns:
            self.poll()
        return self.torque_on()

    def torque_on(self) -> list[bool | None]:
        """The axis state of the newest heartbeat."""
        return [None if beat is None else beat[0] == CLOSED_LOOP for beat in self._beats.newest]

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
        self._beats.expect()
        deadline_ns = time.monotonic_ns() + int(limit_s * 1e9)
        while time.monotonic_ns() < deadline_ns:
            again_ns = min(deadline_ns, time.monotonic_ns() + int(_AGAIN_S * 1e9))
            while waited(self.transport, again_ns):
                for frame in self.transport.read():
                    self._beats.take(frame)
                if self._beats.all(wanted):
                    return True
            self.transport.write(again)
        return False

    def _drain(self) -> None:
        """What was queued is older than the command; at most 20,000 frames of a babbling bus."""
        for _ in range(80):
            if not self.transport.read():
                return


def make(bus: BusConfig, watchdog_s: float | None, options: Mapping[str, Option]) -> Arm:
    """See `protocols`. Raises BridgeError for options that are not in OPTIONS."""
    return ODriveArm(open_transport("can", bus.port, bus.baud), bus.joints, watchdog_s, options)
