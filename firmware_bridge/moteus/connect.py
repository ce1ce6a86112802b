"""Connecting to the moteus joints of one bus: who they are, what they are configured for, what gains that makes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from firmware_bridge.arm import Joint, JointInfo
from firmware_bridge.bus_arm import TRIES
from firmware_bridge.errors import WrongJoint, explain
from firmware_bridge.moteus import codec
from firmware_bridge.moteus.codec import REV, Gains, Status
from firmware_bridge.moteus.registers import Register
from firmware_bridge.transport.base import Frame, FrameTransport

MODEL_NUMBER, MAP_VERSION = 0, 5  # fw/moteus_hw.h, fw/moteus_controller.cc
_TEXT_S = 0.2
_CONFIG = ("servopos.position_min", "servopos.position_max", "servo.pid_position.kp", "servo.pid_position.kd")
_ON_EXPIRY = {0: "goes free", 10: "slows down and holds", 12: "damps motion", 15: "brakes"}  # servo.timeout_mode


@dataclass(frozen=True)
class Configured:
    """What a joint has configured, and the gains that the profile's make of it."""

    gains: Gains
    ends_rev: tuple[float, float]  # servopos.position_min and position_max; NaN: no limit
    expiry: float  # servo.timeout_mode

    def info(self, joint: Joint, firmware: str, watchdog_s: float, last: Status | None) -> JointInfo:
        """One row of the table that connecting prints."""
        pairs = zip(self.ends_rev, (-codec.MOST_REV, codec.MOST_REV), strict=True)
        ends = sorted(joint.to_channel((most if math.isnan(rev) else rev) * REV) for rev, most in pairs)
        reach = max(joint.minimum, ends[0]), min(joint.maximum, ends[1])
        note = f"at expiry it {_ON_EXPIRY.get(int(self.expiry), f'does what mode {self.expiry:g} does')}"
        if reach != (joint.minimum, joint.maximum):
            note += "; its own position limits are narrower than the profile's"
        volt, hot = (last.voltage_v, last.temperature_c) if last else (None, None)
        return JointInfo(joint.name, joint.id, joint.model, firmware, reach, watchdog_s, None, volt, hot, note)


def configured(transport: FrameTransport, joint: Joint) -> Configured:
    """Asked as diagnostic text. Raises WrongJoint."""
    low_rev, high_rev, kp, kd = (_number(transport, joint, name) for name in _CONFIG)
    expiry = _number(transport, joint, "servo.timeout_mode")
    return Configured(_gains(joint, kp, kd), (low_rev, high_rev), expiry)


def check(joint: Joint, found: Mapping[int, float]) -> None:
    """`found`: the registers of codec.IDENTIFY. Raises WrongJoint."""
    if joint.model == "moteus" and (found[Register.MODEL], found[Register.MAP_VERSION]) == (MODEL_NUMBER, MAP_VERSION):
        return
    got = f"model {found[Register.MODEL]:g}, register map {found[Register.MAP_VERSION]:g}"
    raise WrongJoint(
        explain(
            f"joint {joint.name} (id {joint.id}) is not what the profile says",
            f"model {MODEL_NUMBER} (the profile: moteus, got {joint.model}), register map {MAP_VERSION}",
            got,
            "name its model `moteus`, and flash a firmware of this register map with moteus_tool",
        )
    )


def version(number: float) -> str:
    """1.10.0 of the register FIRMWARE."""
    return f"{int(number) >> 16 & 0xFF}.{int(number) >> 8 & 0xFF}.{int(number) & 0xFF}"


def arriving(transport: FrameTransport, deadline_ns: int) -> Iterator[Frame]:
    """Frames as they come, until the deadline, also on a bus that never falls silent."""
    while time.monotonic_ns() < deadline_ns and transport.wait_readable(deadline_ns):
        yield from transport.read()


def _gains(joint: Joint, kp: float, kd: float) -> Gains:
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


def _number(transport: FrameTransport, joint: Joint, name: str) -> float:
    """A number of the device's configuration, by its diagnostic text. Raises WrongJoint."""
    _text(transport, joint.id, b"")  # what still lies there from somebody else
    transport.write([codec.frame(joint.id, codec.text_in(f"conf get {name}\n".encode()), reply=False)])
    text = _text(transport, joint.id, b"\n")
    try:
        return float(text.strip())
    except ValueError:
        what = f"joint {joint.name} (id {joint.id}) does not tell its {name}"
        raise WrongJoint(explain(what, "a number", text or "silence", "update its firmware")) from None


def _text(transport: FrameTransport, joint_id: int, until: bytes) -> bytes:
    """Diagnostic text up to `until`; with b"" what is there now."""
    text, deadline_ns = b"", time.monotonic_ns() + int(_TEXT_S * 1e9)
    while time.monotonic_ns() < deadline_ns:
        transport.write([codec.frame(joint_id, codec.text_poll())])
        part = _next_text(transport, joint_id, time.monotonic_ns() + int(_TEXT_S * 1e9 / TRIES))
        text += part or b""
        if (until and until in text) or (not until and part == b""):
            break
    return text


def _next_text(transport: FrameTransport, joint_id: int, deadline_ns: int) -> bytes | None:
    for frame in arriving(transport, deadline_ns):
        if frame.id == joint_id << 8 and (text := codec.text_out(frame.data)) is not None:
            return text
    return None
