"""ODrive CANSimple: values to frames and back, pure.

A frame's id is node << 5 | command, 11 bits. Layouts: ODrive's manual, "CAN Protocol" (firmware 0.6), and its DBC.
Positions are turns, float32; feed-forwards are int16 thousandths (rev/s, N m). A frame with the RTR bit asks for the
message of its id.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from firmware_bridge.arm import Joint
from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.odrive import models
from firmware_bridge.transport.base import Frame, frame_of
from firmware_bridge.wire import can_ns

TURN_RAD = 2.0 * math.pi
BROADCAST = 0x3F
MAX_NODE = 0x3E
IDLE, CLOSED_LOOP = 1, 8  # axis states
VELOCITY_CONTROL, POSITION_CONTROL = 2, 3  # control modes
PASSTHROUGH = 1  # input mode
REBOOT, SAVE, ERASE = 0, 1, 2  # actions of Reboot


class Command(IntEnum):
    """The low five bits of an id."""

    GET_VERSION = 0x00
    HEARTBEAT = 0x01
    ESTOP = 0x02
    GET_ERROR = 0x03
    RX_SDO = 0x04
    TX_SDO = 0x05
    ADDRESS = 0x06
    SET_AXIS_STATE = 0x07
    GET_ENCODER_ESTIMATES = 0x09
    SET_CONTROLLER_MODE = 0x0B
    SET_INPUT_POS = 0x0C
    SET_INPUT_VEL = 0x0D
    SET_INPUT_TORQUE = 0x0E
    SET_LIMITS = 0x0F
    SET_TRAJ_VEL_LIMIT = 0x11
    SET_TRAJ_ACCEL_LIMITS = 0x12
    SET_TRAJ_INERTIA = 0x13
    GET_IQ = 0x14
    GET_TEMPERATURE = 0x15
    REBOOT = 0x16
    GET_BUS_VOLTAGE_CURRENT = 0x17
    CLEAR_ERRORS = 0x18
    SET_ABSOLUTE_POSITION = 0x19
    SET_POS_GAIN = 0x1A
    SET_VEL_GAINS = 0x1B
    GET_TORQUES = 0x1C
    GET_POWERS = 0x1D
    ENTER_DFU_MODE = 0x1F


class Layout(NamedTuple):
    """Payload of one command: struct format, then name and unit of each value."""

    format: struct.Struct
    fields: tuple[tuple[str, str], ...]


def _layout(form: str, *fields: str) -> Layout:
    named = tuple((name, unit) for name, _, unit in (field.partition(" ") for field in fields))
    return Layout(struct.Struct("<" + form), named)


LAYOUTS: Mapping[Command, Layout] = {
    Command.GET_VERSION: _layout(
        "8B", "protocol", "hw_line", "hw_version", "hw_variant", "fw_major", "fw_minor", "fw_revision", "fw_unreleased"
    ),
    Command.HEARTBEAT: _layout("IBBBx", "error", "state", "result", "trajectory_done"),
    Command.ESTOP: _layout(""),
    Command.GET_ERROR: _layout("II", "active", "disarm_reason"),
    Command.ADDRESS: _layout("B6s", "node", "serial"),
    Command.SET_AXIS_STATE: _layout("I4x", "state"),
    Command.GET_ENCODER_ESTIMATES: _layout("ff", "position rev", "velocity rev/s"),
    Command.SET_CONTROLLER_MODE: _layout("II", "control_mode", "input_mode"),
    Command.SET_INPUT_POS: _layout("fhh", "position rev", "velocity_ff 0.001 rev/s", "torque_ff 0.001 N m"),
    Command.SET_INPUT_VEL: _layout("ff", "velocity rev/s", "torque_ff N m"),
    Command.SET_INPUT_TORQUE: _layout("f4x", "torque N m"),
    Command.SET_LIMITS: _layout("ff", "velocity rev/s", "current A"),
    Command.SET_TRAJ_VEL_LIMIT: _layout("f4x", "velocity rev/s"),
    Command.SET_TRAJ_ACCEL_LIMITS: _layout("ff", "acceleration rev/s^2", "deceleration rev/s^2"),
    Command.SET_TRAJ_INERTIA: _layout("f4x", "inertia N m/(rev/s^2)"),
    Command.GET_IQ: _layout("ff", "setpoint A", "measured A"),
    Command.GET_TEMPERATURE: _layout("ff", "inverter degC", "motor degC"),
    Command.REBOOT: _layout("B", "action"),
    Command.GET_BUS_VOLTAGE_CURRENT: _layout("ff", "voltage V", "current A"),
    Command.CLEAR_ERRORS: _layout("B", "identify"),
    Command.SET_ABSOLUTE_POSITION: _layout("f4x", "position rev"),
    Command.SET_POS_GAIN: _layout("f4x", "gain (rev/s)/rev"),
    Command.SET_VEL_GAINS: _layout("ff", "gain N m/(rev/s)", "integrator N m/rev"),
    Command.GET_TORQUES: _layout("ff", "target N m", "estimate N m"),
    Command.GET_POWERS: _layout("ff", "electrical W", "mechanical W"),
    Command.ENTER_DFU_MODE: _layout(""),
}

PARAMETER_TYPES: Mapping[str, struct.Struct] = {  # of flat_endpoints.json
    name: struct.Struct("<" + form)
    for name, form in (
        ("bool", "?"), ("uint8", "B"), ("int8", "b"), ("uint16", "H"), ("int16", "h"),
        ("uint32", "I"), ("int32", "i"), ("float", "f"),
    )
}  # fmt: skip
READ, WRITE = 0, 1  # opcodes of RxSdo
_SDO = struct.Struct("<BHB")
_INPUT = LAYOUTS[Command.SET_INPUT_POS].format
ESTIMATES = LAYOUTS[Command.GET_ENCODER_ESTIMATES].format  # turns, turns/s
_FLOAT_MAX = 3.4028234663852886e38
_INT16_MAX = 32767
PLAIN = (False, False, False, False)  # what is behind id and data in a Frame of 11 bits with data, as all are here
_KNOWN = {command.value: (command, layout.format.size, layout.format) for command, layout in LAYOUTS.items()}


class Message(NamedTuple):
    """One decoded frame. `values` as in LAYOUTS; of an SDO (endpoint, raw bytes)."""

    node: int
    command: Command
    values: tuple[float | int | bytes, ...]


def can_id(node: int, command: int) -> int:
    """Raises BadSetpoint for a node or command that an 11-bit id does not hold."""
    if not (0 <= node <= BROADCAST and 0 <= command <= 0x1F):
        raise BadSetpoint(
            explain("an id of CANSimple", "node 0..63, command 0..31", f"node {node}, command {command}", "report this")
        )
    return node << 5 | command


def request(node: int, command: Command) -> Frame:
    """Ask for the message of that id (RTR)."""
    return Frame(can_id(node, command), b"", remote=True)


def encode(node: int, command: Command, *values: float | int | bytes) -> Frame:
    """Any command of LAYOUTS, feed-forwards of Set_Input_Pos as raw int16. Raises BadSetpoint."""
    for value in values:
        if isinstance(value, float) and not abs(value) <= _FLOAT_MAX:  # NaN fails too
            raise _bad(command, values)
    try:
        return Frame(can_id(node, command), LAYOUTS[command].format.pack(*values))
    except (struct.error, OverflowError):
        raise _bad(command, values) from None


def milli(value: float) -> int:
    """A feed-forward as int16 thousandths. Raises BadSetpoint outside +-32.767 and for NaN."""
    if not abs(value) * 1000.0 <= _INT16_MAX + 0.5:
        raise _bad(Command.SET_INPUT_POS, (value,))
    return max(-_INT16_MAX, min(_INT16_MAX, round(value * 1000.0)))


def position_frames(targets: Sequence[tuple[int, int]], device_rad: Sequence[float]) -> list[Frame]:
    """Set_Input_Pos for every joint. `targets`: (can id, torque feed-forward in mN m). Raises BadSetpoint."""
    frames = []
    for (address, torque_mnm), value in zip(targets, device_rad, strict=True):
        turns = value / TURN_RAD
        if not -_FLOAT_MAX <= turns <= _FLOAT_MAX:  # NaN is in no range
            raise _bad(Command.SET_INPUT_POS, (turns,))
        frames.append(frame_of((address, _INPUT.pack(turns, 0, torque_mnm), *PLAIN)))
    return frames


def estimates(data: bytes) -> tuple[float, float]:
    """(rad, rad/s) of 8 bytes of Get_Encoder_Estimates."""
    turns, turns_s = ESTIMATES.unpack(data)
    return turns * TURN_RAD, turns_s * TURN_RAD


def read_parameter(node: int, endpoint: int) -> Frame:
    """RxSdo. Endpoint ids belong to one firmware: from the flat_endpoints.json of exactly that one."""
    return Frame(can_id(node, Command.RX_SDO), _sdo(READ, endpoint))


def write_parameter(node: int, endpoint: int, kind: str, value: float) -> Frame:
    """RxSdo; `kind` as flat_endpoints.json names types. Raises BadSetpoint for what that type cannot hold."""
    if isinstance(value, float) and not abs(value) <= _FLOAT_MAX:
        raise _bad(Command.RX_SDO, (endpoint, value))
    try:
        packed = PARAMETER_TYPES[kind].pack(value)
    except (KeyError, struct.error, OverflowError):
        raise _bad(Command.RX_SDO, (endpoint, kind, value)) from None
    return Frame(can_id(node, Command.RX_SDO), _sdo(WRITE, endpoint) + packed)


def parameter(raw: bytes, kind: str) -> float | None:
    """The value of a TxSdo, None where the bytes are too few or the type is unknown."""
    form = PARAMETER_TYPES.get(kind)
    if form is None or len(raw) < form.size:
        return None
    value: float = form.unpack_from(raw)[0]
    return value


def decode(frame: Frame) -> Message | None:
    """None for what CANSimple does not have: extended, remote, unknown command, wrong length."""
    can_id, data, extended, fd, _, remote = frame
    node, number, length = can_id >> 5, can_id & 0x1F, len(data)
    if extended or remote or fd or node > BROADCAST:
        return None
    if number in (Command.RX_SDO, Command.TX_SDO):
        if length < _SDO.size:
            return None
        return Message(node, Command(number), (_SDO.unpack_from(data)[1], data[_SDO.size :]))
    command, size, form = _KNOWN.get(number, (None, 0, _SDO))
    right = length == size or (command is Command.ADDRESS and length == 8)  # newer firmware: a connection id behind it
    return Message(node, command, form.unpack_from(data)) if command is not None and right else None


def describe(unit: bytes | Frame) -> str:
    """One frame in words; never raises."""
    if not isinstance(unit, Frame):
        return f"no CAN frame: {bytes(unit).hex(' ')}"
    number, node = unit.id & 0x1F, unit.id >> 5
    known = number in (*LAYOUTS, Command.RX_SDO, Command.TX_SDO)
    if unit.extended or unit.fd or node > BROADCAST or not known:
        return f"not CANSimple: {unit}"
    who = f"{'all nodes' if node == BROADCAST else f'node {node}'}: {Command(number).name.lower()}"
    if unit.remote:
        return f"{who} asked for"
    message = decode(unit)
    return f"{who} of a wrong length: {unit}" if message is None else f"{who} {_values(message)}".rstrip()


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None, effort: bool = False) -> int:
    """Wire time of one cycle: per joint Set_Input_Pos, the question and its answer; with `effort` that one's too."""
    command = Frame(can_id(0, Command.SET_INPUT_POS), bytes(8))
    question = can_ns(request(0, Command.GET_ENCODER_ESTIMATES), baud) + can_ns(command, baud)
    return len(joints) * (can_ns(command, baud) + question * (2 if effort else 1))


def _sdo(opcode: int, endpoint: int) -> bytes:
    if not 0 <= endpoint <= 0xFFFF:
        raise _bad(Command.RX_SDO, (endpoint,))
    return _SDO.pack(opcode, endpoint, 0)


def _values(message: Message) -> str:
    first = message.values[0] if message.values else 0
    if message.command in (Command.RX_SDO, Command.TX_SDO):
        return f"endpoint {first!r}, value {_shown(message.values[1])}"
    if message.command is Command.HEARTBEAT:
        error, state, result, _ = (int(value) for value in message.values)
        return f"{models.AXIS_STATES.get(state, f'state {state}')}, {models.sentence(error)}, last procedure: " + (
            models.PROCEDURE_RESULTS.get(result, f"result {result}")
        )
    if message.command is Command.GET_ERROR:
        active, reason = (int(value) for value in message.values)
        return f"active: {models.sentence(active)}; disarmed by: {models.sentence(reason)}"
    if message.command is Command.SET_AXIS_STATE:
        return models.AXIS_STATES.get(int(first), f"state {first!r}")
    named = zip(LAYOUTS[message.command].fields, message.values, strict=True)
    return ", ".join(f"{name} {_shown(value)} {unit}".rstrip() for (name, unit), value in named)


def _shown(value: float | int | bytes) -> str:
    return value[::-1].hex().upper() if isinstance(value, bytes) else f"{value:.6g}"


def _bad(command: Command, values: Sequence[object]) -> BadSetpoint:
    return BadSetpoint(
        explain(
            f"{command.name.lower()}: a value that its field cannot carry",
            "finite values within float32, feed-forwards within +-32.767, endpoints and types of flat_endpoints.json",
            ", ".join(map(repr, values)),
            "limit values before they are encoded",
        )
    )
