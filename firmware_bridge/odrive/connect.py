"""Connecting to the ODrives of one bus: who they are, their parameters, and what must and must not come unasked."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from firmware_bridge.arm import Joint, JointInfo
from firmware_bridge.bus_arm import FIRST_READ_S, TRIES
from firmware_bridge.errors import JointSilent, WatchdogMismatch, WrongJoint, explain
from firmware_bridge.odrive import codec, models
from firmware_bridge.odrive.codec import Command
from firmware_bridge.odrive.endpoints import Endpoints
from firmware_bridge.odrive.heartbeat import Heartbeats
from firmware_bridge.transport.base import FrameTransport

_OLDEST = (0, 6, 0)  # firmware: 0.5 has other layouts, and its watchdog is fed by questions
_WATCHDOG_ON, _WATCHDOG_S = "axis0.config.enable_watchdog", "axis0.config.watchdog_timeout"
_CYCLIC = "axis0.config.can.encoder_msg_rate_ms"
_UNASKED_S = 0.025  # s, listened for at least: cyclic estimates come every 10 ms at the factory


@dataclass(frozen=True)
class Boards:
    """The boards of one open bus. `trusted`: someone says that the watchdog is on, where nothing can be read back."""

    transport: FrameTransport
    joints: Sequence[Joint]
    beats: Heartbeats
    endpoints: Endpoints | None
    watchdog_s: float | None
    trusted: bool
    heartbeat_s: float

    def identify(self) -> tuple[JointInfo, ...]:
        """Checked, set up, read back, torque as it was. Raises WrongJoint, JointSilent, WatchdogMismatch."""
        versions = self._ask_each(Command.GET_VERSION)
        for joint, version in zip(self.joints, versions, strict=True):
            self._check_board(joint, tuple(int(v) for v in version))
        if self.endpoints is not None:
            for joint in self.joints:
                self._configure(joint, self.endpoints)
        self._listen()
        temperatures = self._ask_each(Command.GET_TEMPERATURE)
        supplies = self._ask_each(Command.GET_BUS_VOLTAGE_CURRENT)
        rows = zip(self.joints, versions, temperatures, supplies, strict=True)
        return tuple(
            JointInfo(
                joint.name,
                joint.id,
                models.product_line(version[1]),
                models.dotted(version[4:7]),
                (joint.minimum, joint.maximum),
                self.watchdog_s if self.endpoints is not None else None,
                None,
                voltage_v=supply[0],
                temperature_c=_hottest(temperature),
                note=self._note(index),
            )
            for index, (joint, version, temperature, supply) in enumerate(rows)
        )

    def _check_board(self, joint: Joint, version: tuple[int, ...]) -> None:
        line, firmware = models.product_line(version[1]), version[4:7]
        if joint.model not in (models.ANY, line) or firmware < _OLDEST:
            raise WrongJoint(
                explain(
                    f"joint {joint.name} (node {joint.id}) on {self.transport.name}",
                    f"model {joint.model}, firmware {models.dotted(_OLDEST)} or newer",
                    f"{line}, firmware {models.dotted(firmware)}",
                    f"correct `model` ({', '.join(models.PRODUCT_LINES.values())}, or {models.ANY}), or update it",
                )
            )
        if self.endpoints is not None:
            self.endpoints.check(f"joint {joint.name} (node {joint.id})", version)

    # --- parameters -------------------------------------------------------------------------------------------

    def _configure(self, joint: Joint, known: Endpoints) -> None:
        """Cyclic estimates off, watchdog and torque limits on, each read back. In RAM: lost with the power."""
        self._set(joint, known, _CYCLIC, 0)
        if self.watchdog_s is not None:
            self._set(joint, known, _WATCHDOG_S, self.watchdog_s)
            self._set(joint, known, _WATCHDOG_ON, True)
        if joint.max_effort is not None:
            limit_nm = joint.max_effort * joint.ratio
            self._set(joint, known, "axis0.config.torque_soft_max", limit_nm)
            self._set(joint, known, "axis0.config.torque_soft_min", -limit_nm)

    def _set(self, joint: Joint, known: Endpoints, path: str, value: float) -> None:
        """Write one parameter and read it back. Raises WatchdogMismatch, JointSilent, BridgeError."""
        endpoint, kind = known.entry(path)
        write = codec.write_parameter(joint.id, endpoint, kind, value)
        ask = codec.read_parameter(joint.id, endpoint)
        got: float | None = None
        for _ in range(TRIES):
            self.transport.write([write, ask])
            for message in self._answers_of(codec.can_id(joint.id, Command.TX_SDO)):
                raw = message.values[1]
                if message.values[0] == endpoint and isinstance(raw, bytes):
                    got = codec.parameter(raw, kind)
                    if got is not None and math.isclose(got, value, rel_tol=1e-6):
                        return
        name = f"joint {joint.name} (node {joint.id})"
        if got is None:
            todo = f"check the plug and {known.file}: is it of this firmware?"
            raise JointSilent(explain(f"{name} does not answer for {path}", "its value", "silence", todo))
        todo = "check that nothing else configures it; connect again"
        raise WatchdogMismatch(explain(f"{name}: {path} was not taken", value, got, todo))

    # --- what comes unasked -----------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Heartbeats must come and cyclic estimates must not. Raises WrongJoint, JointSilent."""
        patience_s = max(3 * self.heartbeat_s, 0.3)
        unasked = self._unasked(patience_s)
        silent = [joint.name for joint, beat in zip(self.joints, self.beats.newest, strict=True) if beat is None]
        if silent:
            expected = f"one within {patience_s:g} s"
            todo = "check power, plug and bit rate, scan the bus; heartbeat_msg_rate_ms must be option heartbeat_s"
            raise JointSilent(explain("axes without heartbeat", expected, ", ".join(silent), todo))
        if unasked:
            raise WrongJoint(
                explain(
                    f"cyclic encoder estimates on {self.transport.name}: they pass for answers, but may be older",
                    f"{_CYCLIC} = 0 at every axis",
                    f"unasked ones of {', '.join(unasked)}",
                    f"odrivetool: `odrv0.{_CYCLIC} = 0`, save_configuration(); or give the option `endpoints`",
                )
            )

    def _unasked(self, patience_s: float) -> list[str]:
        """Joints whose estimates came, until each has sent a heartbeat; `patience_s` at most."""
        name_of = {codec.can_id(joint.id, Command.GET_ENCODER_ESTIMATES): joint.name for joint in self.joints}
        began_ns, unasked = time.monotonic_ns(), set()
        while time.monotonic_ns() - began_ns < patience_s * 1e9:
            self.transport.wait_readable(time.monotonic_ns() + 10_000_000)
            for frame in self.transport.read():
                if not self.beats.take(frame) and frame.id in name_of and not frame.remote:
                    unasked.add(frame.id)
            if None not in self.beats.newest and time.monotonic_ns() - began_ns > _UNASKED_S * 1e9:
                break
        return [name_of[can_id] for can_id in sorted(unasked)]

    def _note(self, index: int) -> str:
        beat = self.beats.newest[index]
        parts = [models.sentence(beat[1])] if beat and beat[1] else []
        if self.endpoints is None and self.watchdog_s is not None:
            word = "on the profile's word" if self.trusted else "UNKNOWN"
            parts.append(f"watchdog {self.watchdog_s:g} s {word}, not read back: CANSimple cannot without `endpoints`")
        if self.endpoints is None and self.joints[index].max_effort is not None:
            parts.append("torque limit of the profile not written: no `endpoints`")
        return "; ".join(parts)

    # --- questions --------------------------------------------------------------------------------------------

    def _ask_each(self, command: Command) -> list[tuple[float, ...]]:
        return [self._ask_one(joint, command) for joint in self.joints]

    def _ask_one(self, joint: Joint, command: Command) -> tuple[float, ...]:
        """The values of one Get_ message. Raises JointSilent."""
        for _ in range(TRIES):
            self.transport.write([codec.request(joint.id, command)])
            for message in self._answers_of(codec.can_id(joint.id, command)):
                return tuple(value for value in message.values if not isinstance(value, bytes))
        todo = "check its power and plug, its node id and the bit rate; scan the bus"
        what = f"joint {joint.name} (node {joint.id}) does not answer on {self.transport.name}"
        raise JointSilent(explain(what, command.name.lower(), "silence", todo))

    def _answers_of(self, can_id: int) -> Iterator[codec.Message]:
        """Messages of that id for FIRST_READ_S; heartbeats are heard as usual."""
        deadline_ns = time.monotonic_ns() + int(FIRST_READ_S * 1e9)
        while waited(self.transport, deadline_ns):
            for frame in self.transport.read():
                message = codec.decode(frame) if frame.id == can_id else None
                if message is not None:
                    yield message
                else:
                    self.beats.take(frame)


def waited(transport: FrameTransport, deadline_ns: int) -> bool:
    """A frame is there and the deadline is not: a babbling bus is readable for ever."""
    return transport.wait_readable(deadline_ns) and time.monotonic_ns() < deadline_ns


def _hottest(temperature: tuple[float, ...]) -> float | None:
    known = [value for value in temperature if math.isfinite(value)]
    return max(known) if known else None
