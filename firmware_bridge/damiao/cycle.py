"""The servo loop's half of the codec: what is the same in every cycle is worked out once. Pure.

Frames and values are those of `codec`, bit for bit; tests hold the two together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from firmware_bridge.arm import Fault
from firmware_bridge.bus_arm import Reading, reading_of
from firmware_bridge.damiao import codec
from firmware_bridge.damiao.models import Scale
from firmware_bridge.transport.base import Frame, frame_of

_RESET = int(Fault.RESET)
_STATUSES = range(16)

Command = Callable[[float], Frame]


def mit_command(motor: int, scale: Scale, tail: bytes, fd: bool) -> Command:
    """rad -> frame of MIT mode with `tail` (`codec.mit_tail`) behind the position. The command raises BadSetpoint.

    The caller has judged by `codec.mit` that `tail` makes no other command of any position.
    """
    pmax_rad = scale.pmax_rad
    span_rad, pack = 2.0 * pmax_rad, struct.Struct(">H6s").pack

    def command(q: float) -> Frame:
        if not -pmax_rad <= q <= pmax_rad:  # NaN fails too
            raise codec.cannot_carry(motor, "position", -pmax_rad, pmax_rad, "rad", q)
        return frame_of((motor, pack(int((q + pmax_rad) / span_rad * 65535), tail), False, fd, fd, False))

    return command


def force_command(motor: int, scale: Scale, speed_rad_s: float, torque_nm: float, fd: bool) -> Command:
    """rad -> frame of force-position mode. The command raises BadSetpoint."""
    return lambda q: codec.frame(
        codec.FORCE_ID + motor, codec.force_position(motor, scale, q, speed_rad_s, torque_nm), fd
    )


class Sender(NamedTuple):
    """What one motor in one status says by id and first byte, and what one step of its fields is."""

    joint: int
    status: int
    registers: tuple[int, ...]  # raw positions that would be an answer about a register: READ or WRITE, see `codec`
    step_rad: float
    low_rad: float
    step_rad_s: float
    low_rad_s: float
    step_nm: float
    low_nm: float


Senders = Mapping[int, Sender]  # by id on the bus << 8 | first byte


def senders(motors: Sequence[int], reply_ids: Sequence[int], scales: Sequence[Scale]) -> dict[int, Sender]:
    """One entry for each motor and status; fewer than 16 a motor where two motors say the same."""
    table = {}
    for joint, (motor, reply_id, (pmax, vmax, tmax)) in enumerate(zip(motors, reply_ids, scales, strict=True)):
        per_step = pmax * codec.STEP16, -pmax, vmax * codec.STEP12, -vmax, tmax * codec.STEP12, -tmax
        for status in _STATUSES:
            head = motor & 0x0F | status << 4
            words = tuple(motor & 0xFF00 | what for what in (codec.READ, codec.WRITE)) if head == motor & 0xFF else ()
            table[reply_id << 8 | head] = Sender(joint, status, words, *per_step)
    return table


def whose(frame: Frame, table: Senders) -> int | None:
    """Index of the motor that sent it; None for a stranger's."""
    can_id, data, extended, _, _, remote = frame
    sender = None if len(data) != 8 or extended or remote else table.get(can_id << 8 | data[0])
    return None if sender is None else sender.joint


def readings(frames: Iterable[Frame], table: Senders, armed: bool, statuses: list[int]) -> list[Reading]:
    """The states among `frames`, oldest first; into `statuses` (n,) goes what each motor said last.

    Not taken: strangers', and late answers to a question about a register, which look like a state at the far end of
    PMAX. `armed`: a motor that is off then lost its supply, or somebody else switched it off.
    """
    found = []
    unpack, lookup = codec.STATE.unpack, table.get
    for can_id, data, extended, _, _, remote in frames:
        sender = None if len(data) != 8 or extended or remote else lookup(can_id << 8 | data[0])
        if sender is None:
            continue
        joint, status, registers, step_q, low_q, step_v, low_v, step_t, low_t = sender
        _, q, high, low, mos_c, rotor_c = unpack(data)
        if q in registers:
            continue
        statuses[joint] = status
        faults = code = 0
        if status != codec.ENABLED:
            faults = _RESET if armed and status == codec.DISABLED else codec.FAULT_BITS[status]
            code = status
        velocity, torque = (high << 4 | low >> 12) * step_v + low_v, (low & 0xFFF) * step_t + low_t
        hotter_c = mos_c if mos_c > rotor_c else rotor_c
        found.append(reading_of((joint, q * step_q + low_q, velocity, torque, hotter_c, faults, code)))
    return found
