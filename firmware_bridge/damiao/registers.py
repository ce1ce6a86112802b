"""The registers of a Damiao motor that this release knows, by number, and what is in them.

Sources: damiao-motor 1.0.6, core/motor.py, REGISTER_TABLE; openarm_can 1.4.1, dm_motor_constants.hpp, RID.
"""

from __future__ import annotations

import struct

MST_ID, ESC_ID, TIMEOUT, CTRL_MODE, SW_VER, PMAX, VMAX, TMAX = 7, 8, 9, 10, 14, 21, 22, 23
MIT, POS_VEL, VEL, FORCE_POS = 1, 2, 3, 4  # of CTRL_MODE
TIMEOUT_UNIT_S = 50e-6
TIMEOUT_MAX_S = 0xFFFF_FFFF * TIMEOUT_UNIT_S

REGISTERS = {
    0: "UV_Value",
    1: "KT_Value",
    2: "OT_Value",
    3: "OC_Value",
    4: "ACC",
    5: "DEC",
    6: "MAX_SPD",
    MST_ID: "MST_ID",
    ESC_ID: "ESC_ID",
    TIMEOUT: "TIMEOUT",
    CTRL_MODE: "CTRL_MODE",
    11: "Damp",
    12: "Inertia",
    13: "hw_ver",
    SW_VER: "sw_ver",
    15: "SN",
    16: "NPP",
    17: "Rs",
    18: "Ls",
    19: "Flux",
    20: "Gr",
    PMAX: "PMAX",
    VMAX: "VMAX",
    TMAX: "TMAX",
    35: "can_br",
    36: "sub_ver",
}
WHOLE = frozenset({7, 8, 9, 10, 13, 14, 15, 16, 35, 36})  # u32; all others are f32

IDENTITY = (ESC_ID, MST_ID, SW_VER, PMAX, VMAX, TMAX)  # what tells who a motor is


def to_raw(number: int, value: float) -> bytes:
    """The four bytes of a register, little-endian."""
    return struct.pack("<I", int(value)) if number in WHOLE else struct.pack("<f", value)


def from_raw(number: int, raw: bytes) -> float:
    """What its four bytes say."""
    value: float = struct.unpack("<I" if number in WHOLE else "<f", raw)[0]
    return value
