"""What drivers of actuators on a shared bus have in common: cycles, ages, limits, modes. A driver adds its frames.

One cycle is a command (or none) and a question to every joint; it is whole when every joint has answered. A state is
made of one whole cycle only, and is as old as the question: `stamp_ns` is never later than any joint's sample. What
arrives when the next cycle begins belongs to nobody any more and is thrown away. For LATE_S after a missing answer a
state may be dated by an earlier question: see `firmware_bridge.late`.
"""

from __future__ import annotations

import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from firmware_bridge.arm import ArmInfo, Fault, Float32, Joint, JointInfo, JointState, LinkCounts, Mode, StopKind
from firmware_bridge.channels import Channels
from firmware_bridge.errors import (
    ArmRefused,
    BridgeError,
    JointSilent,
    NoAnswer,
    NotArmed,
    OutsideRange,
    explain,
    or_another_protocol,
)
from firmware_bridge.late import LateAnswers
from firmware_bridge.transport.base import FrameTransport, Transport

FIRST_READ_S = 0.1  # s, of one try
LATE_S = 0.05  # s: an answer later than this is lost
MOST_RAD = 1e12  # of an answer: far beyond any count of turns, and far below where float32 becomes infinite
TRIES = 3  # at connect and in arm(), disarm(), stop(): never inside a cycle
Line = TypeVar("Line", Transport, FrameTransport)


class Reading(NamedTuple):
    """One joint's answer, in the device's own frame. NaN: not measured."""

    joint: int  # index, not id
    position_rad: float
    velocity_rad_s: float = math.nan
    effort_nm: float = math.nan
    temperature_c: float = math.nan
    faults: int = 0  # bits of Fault
    code: int = 0  # the protocol's own


reading_of = partial(tuple.__new__, Reading)  # a Reading of a tuple of all its fields, in half the time of Reading(...)


class BusArm(ABC, Generic[Line]):
    """Base of the drivers. `joints` in channel order; `watchdog_s` of the profile, None where it has none."""

    def __init__(self, transport: Line, joints: Sequence[Joint], watchdog_s: float | None = None) -> None:
        self.transport: Line = transport
        self.joints = tuple(joints)
        self.watchdog_s = watchdog_s
        self._channels = Channels(self.joints)
        self._everyone = frozenset(range(len(self.joints)))
        self._forget()

    def _forget(self) -> None:
        self.mode = Mode.DISARMED
        self.counts = LinkCounts()
        self.last_asked = 0
        self.held: Float32 = np.zeros(len(self.joints), np.float32)
        self._asked_ns = 0
        self._late = LateAnswers()
        self._waiting: set[int] = set()
        self._cycle_over = True  # the last cycle has been counted; its late answers still make it whole
        self._answers = [Reading(i, math.nan) for i in range(len(self.joints))]  # of this cycle: all but _waiting
        self._newest: JointState | None = None

    # --- what a protocol adds ---------------------------------------------------------------------------------

    @abstractmethod
    def _identify(self) -> tuple[JointInfo, ...]:
        """Ask every joint who it is and set what the profile wants set; torque stays off. Raises BridgeError."""

    @abstractmethod
    def _ask(self) -> None:
        """Write the question for a state of every joint; commands nothing and feeds no watchdog."""

    @abstractmethod
    def _frames(self, device_rad: Sequence[float]) -> object:
        """The command for every joint and the question, encoded by the codec, which judges the values again."""

    @abstractmethod
    def _write(self, frames: object) -> None:
        """Hand over what `_frames` made, in as few writes as the transport allows."""

    @abstractmethod
    def _readings(self) -> Iterable[Reading]:
        """Read what has arrived, without waiting; answers of nobody are counted in `counts.foreign`."""

    @abstractmethod
    def _enable(self) -> None:
        """Goal = present position `held`, watchdog on, torque on; confirmed by reading back. Raises ArmRefused."""

    @abstractmethod
    def _disable(self) -> bool:
        """Torque off; True when every joint confirmed."""

    @abstractmethod
    def _halt(self, kind: StopKind) -> bool:
        """Stop as `kind` says; True when every joint confirmed. Sent more than once where answers are missing."""

    def torque_on(self) -> list[bool | None]:
        """Of each joint as it reports it itself; None: not known. Between cycles, after a whole state; never raises."""
        return [None] * len(self.joints)

    def look_at_torque(self) -> list[bool | None]:
        """`torque_on` of an arm that is not connected: opened, asked, closed. Sets nothing in any actuator.

        Raises PortError, NoAnswer, JointSilent.
        """
        self._forget()
        self.transport.open()
        try:
            return self._look()
        finally:
            self.transport.close()

    def _look(self) -> list[bool | None]:
        """What `look_at_torque` asks; a protocol whose state needs a set-up first asks something else."""
        self._read_whole()
        return self.torque_on()

    # --- Arm: modes -------------------------------------------------------------------------------------------

    def connect(self) -> ArmInfo:
        """See `Arm`. Raises PortError, NoAnswer, JointSilent, WrongJoint, WatchdogMismatch. Never enables torque."""
        self._forget()
        self.transport.open()
        try:
            joints = self._identify()
            started_ns = time.monotonic_ns()
            state = self._read_whole()
        except BaseException:
            self.transport.close()
            raise
        rtt_us = (time.monotonic_ns() - started_ns) // 1000
        self.held = self._channels.inside(state.position)
        watchdogs = [joint.watchdog_s or 0.0 for joint in joints]
        shortest_ms = round(min(watchdogs) * 1e3)
        return ArmInfo(self.transport.name, 0, len(self.joints), shortest_ms, 0, rtt_us, self.held, joints)

    def arm(self) -> None:
        """See `Arm`. The arm holds where it is found now (`held`). Raises ArmRefused, JointSilent."""
        self.judge()
        self._enable()
        self.mode = Mode.ARMED

    def judge(self) -> None:
        """What `arm` does before it enables anything: where is it now? Raises ArmRefused, JointSilent."""
        self.mode = Mode.STOPPED
        state = self._read_whole()
        self.held = self._channels.inside(state.position)
        if outside := self._channels.outside(state.position):
            raise OutsideRange(
                explain(
                    f"the arm on {self.transport.name} is not armed: {', '.join(outside)} outside its range",
                    self._channels.ranges(),
                    ", ".join(f"{at:.4g}" for at in state.position),
                    "move it inside by hand (support it, then disarm if it holds), or correct the calibration",
                )
            )

    def disarm(self) -> None:
        """See `Arm`. Raises ArmRefused when a joint does not confirm."""
        self.mode = Mode.STOPPED
        if not self._disable():
            raise ArmRefused(
                explain(
                    f"the arm on {self.transport.name} did not confirm that it is disarmed",
                    "torque off at every joint",
                    self._silent_names() or "torque still on",
                    "use the emergency stop or cut its power; mind that it may fall",
                )
            )
        self.mode = Mode.DISARMED

    def stop(self, kind: StopKind = StopKind.HOLD) -> bool:
        """See `Arm`."""
        if self.mode is Mode.ARMED:
            self.mode = Mode.STOPPED
        return self._halt(kind)

    def close(self) -> None:
        """See `Arm`."""
        if self.mode is Mode.ARMED:
            with contextlib.suppress(BridgeError):
                self.stop()
        self.mode = Mode.DISARMED
        self.transport.close()

    # --- Arm: the servo loop's path ---------------------------------------------------------------------------

    def send(self, setpoint: Float32, expiry_ns: int) -> int:
        """See `Arm`. Never waits. Raises BadSetpoint, NotArmed, LinkCongested, BusOff, PortGone."""
        return self.write(self.encode(setpoint), expiry_ns)

    def encode(self, setpoint: Float32) -> object:
        """The first half of `send`: judged and encoded, nothing written. Raises BadSetpoint, NotArmed."""
        values = self._channels.judged(setpoint)
        if self.mode is not Mode.ARMED:
            raise self._not_armed()
        return self._frames(self._channels.device_rad(values))

    def write(self, frames: object, expiry_ns: int) -> int:
        """The second half: what `encode` made, unless it has expired.

        Raises LinkCongested, BusOff, PortGone; NotArmed where what came in meanwhile tells a fault.
        """
        self._close_cycle()
        if self.mode is not Mode.ARMED:
            raise self._not_armed()
        now_ns = time.monotonic_ns()  # nothing may come between this look at the clock and the write
        if now_ns >= expiry_ns:
            self.counts.late += 1
            return 0
        self._write(frames)
        written_ns = time.monotonic_ns()
        self._open_cycle(now_ns)
        self.counts.sent += 1
        self.counts.overtaken += written_ns > expiry_ns
        return written_ns

    def request_state(self) -> None:
        """See `Arm`."""
        self._close_cycle()
        now_ns = time.monotonic_ns()
        self._ask()
        self._open_cycle(now_ns)

    def poll(self) -> JointState | None:
        """See `Arm`. Raises BusOff, PortGone."""
        self._take()
        newest, self._newest = self._newest, None
        return newest

    def wait_readable(self, deadline_ns: int) -> bool:
        """See `Arm`."""
        return self.transport.wait_readable(deadline_ns)

    def silence(self) -> BridgeError:
        """See `Arm`."""
        name = self.transport.name
        if len(self._waiting) == len(self.joints):
            todo = "check the arm's power, the cable, the bit rate and the ids of its profile"
            todo += "" if self.counts.replies else or_another_protocol(name)
            return NoAnswer(explain(f"no joint answers on {name}", f"{len(self.joints)} answers", "silence", todo))
        todo = "check the plug between the last joint that answers and the first that does not, and their ids"
        return JointSilent(explain(f"joints silent on {name}", "an answer of each", self._silent_names(), todo))

    # --- inside -----------------------------------------------------------------------------------------------

    def _open_cycle(self, asked_ns: int) -> None:
        self._asked_ns = asked_ns
        self._late.asked(asked_ns)
        self.last_asked += 1
        self._waiting, self._cycle_over = set(self._everyone), False

    def _close_cycle(self) -> None:
        """Before a new question: what still comes from the old one must not pass for an answer to the new."""
        self._take()
        if self._waiting and not self._cycle_over:
            self.counts.incomplete += 1
            self._stop_for_faults()  # no state will tell
            until_ns = self._asked_ns + int(LATE_S * 1e9)
            for joint in self._waiting:
                self._late.missed(joint, until_ns)
        self._cycle_over = True

    def _stop_for_faults(self) -> None:
        """A fault in a cycle that was not whole ends motion too."""
        if self.mode is Mode.ARMED and any(self._answers[joint].faults for joint in self._everyone - self._waiting):
            self.mode = Mode.STOPPED

    def _take(self) -> None:
        waiting = self._waiting
        for reading in self._readings():
            joint = reading[0]
            if not -MOST_RAD <= reading[1] <= MOST_RAD:  # NaN fails too
                self.counts.bad_replies += 1
            elif joint in waiting or self._late.repaid(joint):
                waiting.discard(joint)
                self._answers[joint] = reading
                if not waiting:
                    self._newest = self._state()
            else:
                self.counts.foreign += 1

    def _state(self) -> JointState:
        asked_ns = self._late.earliest_ns(time.monotonic_ns()) if self._late.owed else self._asked_ns
        _, position, velocity, effort, temperature, faults, codes = zip(*self._answers, strict=True)
        seen = 0
        for bits in faults:
            seen |= bits
        if seen and self.mode is Mode.ARMED:
            self.mode = Mode.STOPPED  # a fault at any joint ends motion at all of them; only arm() clears it
        rows = self._channels.measured(position, velocity, effort, temperature)
        self.counts.replies += 1
        return _joint_state(
            position=rows[0],
            velocity=rows[1],
            faults=Fault(seen) if seen else Fault.NONE,
            stamp_ns=asked_ns,
            device_us=(asked_ns // 1000) & 0xFFFF_FFFF,
            last_seq=self.last_asked,
            mode=self.mode,
            verdict=0,
            rejected=0,
            effort=rows[2],
            temperature=rows[3],
            joint_faults=codes,
        )

    def _read_whole(self) -> JointState:
        """A state of every joint as they are now, asked for up to TRIES times. Raises NoAnswer, JointSilent.

        An answer that may be of an earlier question is not taken: an arm must not be armed where it was.
        """
        begun_ns = time.monotonic_ns()
        for _ in range(TRIES):
            self.request_state()
            deadline_ns = time.monotonic_ns() + int(FIRST_READ_S * 1e9)
            while self.wait_readable(deadline_ns):
                state = self.poll()
                if state is not None and state.stamp_ns >= begun_ns:
                    return state
                if time.monotonic_ns() >= deadline_ns:  # a babbling bus is readable for ever
                    break
        raise self.silence()

    def _silent_names(self) -> str:
        return ", ".join(f"{self.joints[i].name} (id {self.joints[i].id})" for i in sorted(self._waiting))

    def _not_armed(self) -> NotArmed:
        faults = [f"{self.joints[r.joint].name}: {Fault(r.faults)!r}" for r in self._answers if r.faults]
        return NotArmed(
            explain(
                f"set-point for an arm on {self.transport.name} that is not armed",
                "mode ARMED",
                f"mode {self.mode.name}" + "".join(f"; {fault}" for fault in faults),
                "call arm() first; a stop is cleared only by arming explicitly",
            )
        )


def _joint_state(**values: object) -> JointState:
    """JointState(**values) with every field given: a frozen dataclass's own way costs a third of a cycle."""
    state = object.__new__(JointState)
    object.__setattr__(state, "__dict__", values)
    return state
