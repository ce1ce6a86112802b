"""Encode and decode of every protocol, as its driver does it in a cycle: set-points of all joints out, states in. Pure.

Six joints each, four on edgelink; the answers are what the device of that protocol sends for a joint at rest near 0.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from .path import Made, Paths, Place

PATHS = Paths()
JOINTS = 6
ANGLES = (0.1, -0.2, 0.3, -0.4, 0.5, -0.6)  # rad


def joints(model: str, zero_rad: float = 0.0) -> list[Any]:
    """Six joints of one model, ids 1..6."""
    from firmware_bridge.arm import Joint

    numbers = range(1, JOINTS + 1)
    return [Joint(f"joint{i}", "rad", -1.2, 1.2, id=i, model=model, zero_rad=zero_rad) for i in numbers]


def _bytes_of(size: int) -> Callable[[object], bool]:
    return lambda data: isinstance(data, bytes) and len(data) == size


def _frames_of(count: int) -> Callable[[object], bool]:
    return lambda frames: isinstance(frames, list) and len(frames) == count


def _at(angles: tuple[float, ...], tolerance_rad: float) -> Callable[[object], bool]:
    """Readings of every joint, in order, where they were put."""

    def right(readings: object) -> bool:
        if not isinstance(readings, list) or len(readings) != len(angles):
            return False
        pairs = zip(readings, angles, strict=True)
        return all(abs(reading[1] - angle) <= tolerance_rad for reading, angle in pairs)

    return right


# --- edgelink ---------------------------------------------------------------------------------------------------------


@PATHS.add("bus/edgelink: encode", pure=True)
def _edgelink_encode(place: Place) -> Made:
    import profiles
    from firmware_bridge.edgelink import codec

    limits = codec.Limits(profiles.load_arm("metaworld-sawyer").channels)
    command = codec.Command(7, 123_456, (0.005, 0.6, 0.2, 1.0))
    return Made(lambda: codec.encode(command, limits), _bytes_of(codec.command_wire_bytes(4)))


@PATHS.add("bus/edgelink: decode", pure=True)
def _edgelink_decode(place: Place) -> Made:
    from firmware_bridge.edgelink import codec

    state = codec.State(7, 123_456, 1, 0, 0, 0, codec_floats(), (math.nan,) * 4)
    frame, decoder = codec.encode(state, None), codec.Decoder(4)
    return Made(
        lambda: decoder.feed(frame), lambda found: isinstance(found, list) and found[0].position == state.position
    )


def codec_floats() -> tuple[float, ...]:
    """Four positions that float32 holds exactly."""
    return (0.125, 0.5, 0.25, 1.0)


# --- serial buses -----------------------------------------------------------------------------------------------------


@PATHS.add("bus/feetech: encode", pure=True)
def _feetech_encode(place: Place) -> Made:
    from firmware_bridge.feetech import codec

    goals = codec.Goals(joints("sts3215", math.pi))
    angles = [math.pi + angle for angle in ANGLES]
    return Made(lambda: goals.pack(angles), _bytes_of(8 + 3 * JOINTS))


@PATHS.add("bus/feetech: decode", pure=True)
def _feetech_decode(place: Place) -> Made:
    from firmware_bridge.feetech import codec

    data = b"".join(codec.packet(i, 0, struct.pack("<HH", 2048 + i, 0)) for i in range(1, JOINTS + 1))
    return Made(
        lambda: codec.motions(data),
        lambda rows: isinstance(rows, list) and [r[4] - 2048 for r in rows] == [*range(1, 7)],
    )


@PATHS.add("bus/dynamixel: encode", pure=True)
def _dynamixel_encode(place: Place) -> Made:
    from firmware_bridge.dynamixel import codec

    writer = codec.GoalWriter(joints("xm430-w350", math.pi))
    angles = [math.pi + angle for angle in ANGLES]
    return Made(lambda: writer.encode(angles), _bytes_of(14 + 5 * JOINTS))


@PATHS.add("bus/dynamixel: decode", pure=True)
def _dynamixel_decode(place: Place) -> Made:
    """The one packet that answers a fast sync read of current, velocity and position."""
    from firmware_bridge.dynamixel import packet
    from firmware_bridge.dynamixel.answers import READS, UsualAnswer
    from firmware_bridge.dynamixel.models import RAD_PER_COUNT
    from firmware_bridge.dynamixel.options import Options
    from firmware_bridge.dynamixel.setup import servos_of

    servos = servos_of(joints("xm430-w350", math.pi), Options(), 0, ())
    usual = UsualAnswer(servos, READS["motion"], fast=True)
    counts = [round((math.pi + angle) / RAD_PER_COUNT) for angle in ANGLES]
    answers = [packet.Status(i, 0, struct.pack("<hii", 0, 0, count)) for i, count in enumerate(counts, start=1)]
    data = b"".join(packet.fast_status(answers))
    return Made(lambda: usual.readings(data, 0), _at(tuple(math.pi + angle for angle in ANGLES), RAD_PER_COUNT))


# --- CAN --------------------------------------------------------------------------------------------------------------


@PATHS.add("bus/damiao: encode", pure=True)
def _damiao_encode(place: Place) -> Made:
    from firmware_bridge.damiao import codec, cycle
    from firmware_bridge.damiao.models import MODELS

    scale = MODELS["dm4340"]
    tails = [codec.mit_tail(i, scale, 0.0, 24.0, 0.3, 0.0) for i in range(1, JOINTS + 1)]
    commands = [cycle.mit_command(i, scale, tail, False) for i, tail in enumerate(tails, start=1)]
    return Made(lambda: [command(angle) for command, angle in zip(commands, ANGLES, strict=True)], _frames_of(JOINTS))


@PATHS.add("bus/damiao: decode", pure=True)
def _damiao_decode(place: Place) -> Made:
    from firmware_bridge.damiao import codec, cycle
    from firmware_bridge.damiao.models import MODELS
    from firmware_bridge.transport.base import Frame

    scale, motors = MODELS["dm4340"], range(1, JOINTS + 1)
    table = cycle.senders(motors, [0x10 + i for i in motors], [scale] * JOINTS)
    frames = [
        Frame(0x10 + i, codec.state_data(i, codec.ENABLED, scale, angle, 0.0, 0.0, 30, 31))
        for i, angle in zip(motors, ANGLES, strict=True)
    ]
    statuses = [0] * JOINTS
    return Made(lambda: cycle.readings(frames, table, True, statuses), _at(ANGLES, 1e-3))


@PATHS.add("bus/odrive: encode", pure=True)
def _odrive_encode(place: Place) -> Made:
    from firmware_bridge.odrive import codec

    targets = [(codec.can_id(i, codec.Command.SET_INPUT_POS), 0) for i in range(1, JOINTS + 1)]
    return Made(lambda: codec.position_frames(targets, ANGLES), _frames_of(JOINTS))


@PATHS.add("bus/odrive: decode", pure=True)
def _odrive_decode(place: Place) -> Made:
    from firmware_bridge.odrive import codec

    answers = [codec.ESTIMATES.pack(angle / codec.TURN_RAD, 0.0) for angle in ANGLES]
    return Made(
        lambda: [codec.estimates(data) for data in answers],
        lambda found: isinstance(found, list) and abs(found[5][0] - ANGLES[5]) < 1e-6,
    )


@PATHS.add("bus/cia402: encode", pure=True)
def _cia402_encode(place: Place) -> Made:
    from firmware_bridge.cia402 import codec

    addresses = [codec.RPDO1 + i for i in range(1, JOINTS + 1)]
    scales = [65536 / (2 * math.pi)] * JOINTS
    return Made(lambda: codec.command_frames(addresses, 0x0F, ANGLES, scales), _frames_of(JOINTS))


@PATHS.add("bus/cia402: decode", pure=True)
def _cia402_decode(place: Place) -> Made:
    from firmware_bridge.arm import LinkCounts
    from firmware_bridge.cia402 import codec
    from firmware_bridge.cia402.config import Scale
    from firmware_bridge.cia402.heard import Heard
    from firmware_bridge.transport.base import Frame

    rows, per_rad = joints("cia402"), 65536 / (2 * math.pi)
    heard = Heard(rows, False, LinkCounts())
    heard.scaled([Scale(per_rad, 0.0)] * JOINTS)
    counts = [round(angle * per_rad) for angle in ANGLES]
    frames = [Frame(codec.TPDO1 + i, codec.STATUS.pack(0x27, count)) for i, count in enumerate(counts, start=1)]
    return Made(lambda: heard.readings(frames, True), _at(ANGLES, 1e-3))


@PATHS.add("bus/moteus: encode", pure=True)
def _moteus_encode(place: Place) -> Made:
    from firmware_bridge.moteus import codec
    from firmware_bridge.moteus.registers import FLOAT

    command = codec.PositionCommand(codec.Gains(), 0.1, FLOAT, codec.query(FLOAT))
    return Made(
        lambda: [command.data(angle) for angle in ANGLES],
        lambda data: isinstance(data, list) and {len(one) for one in data} == {48},
    )


@PATHS.add("bus/moteus: decode", pure=True)
def _moteus_decode(place: Place) -> Made:
    from firmware_bridge.moteus import codec
    from firmware_bridge.moteus.registers import FLOAT

    answers = [codec.status_answer(codec.Status(10, angle, 0.0, 0.0, 24.0, 30.0, 0), FLOAT) for angle in ANGLES]
    return Made(
        lambda: [codec.status(data) for data in answers],
        lambda found: isinstance(found, list) and abs(found[0].position_rev - ANGLES[0]) < 1e-6,
    )
