"""What connecting writes into a drive, and reads back: mode, PDOs, heartbeats, reactions, limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from firmware_bridge.arm import Joint, JointInfo
from firmware_bridge.cia402 import codec
from firmware_bridge.cia402.network import Drive
from firmware_bridge.config import Option
from firmware_bridge.errors import BridgeError, WrongJoint, explain
from firmware_bridge.options import read

CSP = 8  # mode of operation: cyclic synchronous position
OPTIONS: Mapping[str, tuple[type, Option | None]] = {
    "eds": (str, None),  # path of the drive's EDS; ours when absent
    "counts_per_turn": (float, None),  # of the motor; read from 608F when absent
    "cycle_s": (float, 0.01),  # interpolation time period 60C2: the servo period
    "motion": (bool, False),  # TPDO2 with velocity and torque in every cycle: 95 bits a joint more
    "host_node": (int, 127),  # of the host's heartbeat
    "heartbeat_s": (float, 0.1),  # of the drives' own heartbeats, 1017; 0: none
    "following_error_rad": (float, None),  # window 6065, at the motor; the drive's own when absent
    "following_error_s": (float, 0.02),  # 6066
    "fault_reaction": (int, 2),  # 605E: 2 slows down on the quick stop ramp, then no torque: brakes engage
    "on_heartbeat_loss": (int, 1),  # 6007: 1 fault (with 605E: brakes), 2 no voltage, 3 quick stop (holds)
}
_SERVO_402 = 402  # low word of 1000
_STAY = 6  # 605A: slow down on the quick stop ramp and stay in quick stop active, with torque
_CSP_SUPPORTED = 0x80  # in 6502


@dataclass(frozen=True)
class Settings:
    """OPTIONS, checked, and the profile's watchdog."""

    eds: str | None
    counts_per_turn: float | None
    cycle_s: float
    motion: bool
    host_node: int
    heartbeat_s: float
    following_error_rad: float | None
    following_error_s: float
    fault_reaction: int
    on_heartbeat_loss: int
    watchdog_s: float | None = None

    @property
    def consumer(self) -> int:
        """Object 1016:1: node of the host and the time in ms; 0 where there is no watchdog."""
        return 0 if self.watchdog_s is None else self.host_node << 16 | round(self.watchdog_s * 1e3)


@dataclass(frozen=True)
class Scale:
    """How one drive counts."""

    counts_per_rad: float
    rated_nm: float


def settings(options: Mapping[str, Option], watchdog_s: float | None) -> Settings:
    """Raises BridgeError for an option that is unknown, of another kind, or out of range."""
    chosen = Settings(**read("cia402", options, OPTIONS), watchdog_s=watchdog_s)
    ranges: tuple[tuple[str, float | None, float, float], ...] = (
        ("counts_per_turn", chosen.counts_per_turn, 1.0, 2.0**31),
        ("cycle_s", chosen.cycle_s, 1e-4, 0.25),
        ("host_node", chosen.host_node, 1, codec.MAX_NODE),
        ("heartbeat_s", chosen.heartbeat_s, 0.0, 65.0),
        ("following_error_rad", chosen.following_error_rad, 1e-6, 1e6),
        ("following_error_s", chosen.following_error_s, 0.0, 65.0),
        ("fault_reaction", chosen.fault_reaction, 0, 4),
        ("on_heartbeat_loss", chosen.on_heartbeat_loss, 1, 3),
        ("watchdog_s", watchdog_s, 0.001, 65.0),
    )
    for name, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            todo = "correct [options] of the arm profile"
            raise BridgeError(explain(f"option {name} of cia402", f"{low:g}..{high:g}", value, todo))
    return chosen


def period(cycle_s: float) -> tuple[int, int]:
    """(60C2:1, 60C2:2): value * 10**index seconds, the finest index whose value fits u8.

    Raises BridgeError where no such pair is within 1 %.
    """
    for index in range(-6, 0):
        value = round(cycle_s / 10.0**index)
        if 1 <= value <= 255 and math.isclose(value * 10.0**index, cycle_s, rel_tol=0.01):
            return value, index
    got, todo = f"{cycle_s!r} s", "choose another servo period"
    raise BridgeError(explain("option cycle_s of cia402", "1..255 times a power of ten, within 1 %", got, todo))


def identify(drive: Drive, joint: Joint) -> str:
    """Device name, after checking type, identity and mode. Raises WrongJoint.

    `model` of the profile: `cia402` takes any drive, `VVVVVVVV:PPPPPPPP` (hex) only that vendor and product.
    """
    kind, modes = drive.read(0x1000) & 0xFFFF, drive.read(0x6502)
    identity = f"{drive.read(0x1018, 1):08X}:{drive.read(0x1018, 2):08X}"
    if kind != _SERVO_402 or not modes & _CSP_SUPPORTED or joint.model.upper() not in ("CIA402", identity):
        raise WrongJoint(
            explain(
                f"joint {joint.name} (node {joint.id})",
                f"model {joint.model}, device profile 402, cyclic synchronous position (bit 7 of 6502)",
                f"{identity}, device profile {kind}, supported modes {modes:#x}",
                "check `id` and `model` of the arm profile",
            )
        )
    return f"{drive.text(0x1008)} {identity}".strip()


def scale_of(drive: Drive, chosen: Settings) -> Scale:
    """From 608F and 6076. Raises WrongJoint for a drive that says nonsense."""
    turn = chosen.counts_per_turn
    if turn is None:
        increments, revolutions = drive.read(0x608F, 1), drive.read(0x608F, 2)
        if not increments or not revolutions:
            todo = "give option counts_per_turn"
            raise WrongJoint(explain("608F of a drive", "counts per revolution", f"{increments}/{revolutions}", todo))
        turn = increments / revolutions
    return Scale(turn / (2.0 * math.pi), drive.read(0x6076) * 1e-3)


def configure(drive: Drive, joint: Joint, chosen: Settings, scale: Scale) -> list[str]:
    """Write what the profile wants set; returns notes on what this drive lacks. The node is pre-operational."""
    value, index = period(chosen.cycle_s)
    drive.write(0x6060, 0, CSP)
    drive.write(0x60C2, 1, value)
    drive.write(0x60C2, 2, index)
    drive.write(0x1017, 0, round(chosen.heartbeat_s * 1e3))
    guard(drive, chosen)
    notes = [
        note
        for there, note in (
            (drive.write_if_there(0x605A, 0, _STAY), "no 605A: a quick stop may end without torque"),
            (drive.write_if_there(0x6007, 0, chosen.on_heartbeat_loss), "no 6007: reaction to a lost host unknown"),
            (drive.write_if_there(0x605E, 0, chosen.fault_reaction), "no 605E: fault reaction is the drive's own"),
            (drive.write_if_there(0x1029, 1, 1), "no 1029: it may leave operational when it loses the host"),
        )
        if not there
    ]
    notes += _limits(drive, joint, chosen, scale)
    drive.map_pdo("rpdo", 1, codec.RPDO1 + joint.id, (0x6040, 0x607A))
    drive.map_pdo("tpdo", 1, codec.TPDO1 + joint.id, (0x6041, 0x6064))
    if chosen.motion:
        drive.map_pdo("tpdo", 2, codec.TPDO2 + joint.id, (0x606C, 0x6077))
    return notes


def guard(drive: Drive, chosen: Settings) -> None:
    """The drive's watchdog: heartbeat consumer 1016, read back. It waits for the host's next heartbeat to begin."""
    drive.write(0x1016, 1, 0)
    if chosen.consumer:
        drive.write(0x1016, 1, chosen.consumer)


def _limits(drive: Drive, joint: Joint, chosen: Settings, scale: Scale) -> list[str]:
    notes = []
    ends = [codec.counts(end, scale.counts_per_rad) for end in joint.device_range_rad]
    there = [drive.write_if_there(0x607D, sub, end) for sub, end in zip((1, 2), ends, strict=True)]
    if not all(there):
        notes.append("no 607D: position limits are the host's only")
    if joint.max_effort is not None:
        thousandths = round(1e3 * joint.max_effort * joint.ratio / scale.rated_nm) if scale.rated_nm else 0xFFFF
        if not drive.write_if_there(0x6072, 0, min(thousandths, 0xFFFF)):
            notes.append("no 6072: torque limit is the drive's own")
    if chosen.following_error_rad is not None:
        drive.write(0x6065, 0, codec.counts(chosen.following_error_rad, scale.counts_per_rad))
        drive.write(0x6066, 0, round(chosen.following_error_s * 1e3))
    if drive.read_if_there(0x607E):
        notes.append("the drive reverses its counting (607E): `direction` of the profile comes on top")
    return notes


def row(joint: Joint, model: str, firmware: str, chosen: Settings, notes: list[str]) -> JointInfo:
    """What connecting prints of the joint."""
    return JointInfo(
        joint.name,
        joint.id,
        model,
        firmware,
        (joint.minimum, joint.maximum),
        chosen.watchdog_s,
        None,
        note="; ".join(notes),
    )
