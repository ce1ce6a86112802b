"""Numbers of moteus' registers in their four types: counts of a scale, or a 32-bit float. Pure.

Source: mjbots/moteus, docs/protocol/registers.md. The negative end of an integer stands for NaN.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.moteus.registers import FLOAT

RAW: Final = (struct.Struct("<b"), struct.Struct("<h"), struct.Struct("<i"), struct.Struct("<f"))
MOST: Final = (127, 32767, 2147483647)  # one less than the negative end, which stands for NaN
Number = float | int


def counts(value: float | None, scale: float, resolution: int) -> bytes:
    """`value` in one register's bytes; None is "not given". Raises BadSetpoint: nothing is clipped."""
    if resolution == FLOAT:
        return _float(math.nan if value is None else value, value is None)
    if value is None:
        return RAW[resolution].pack(-MOST[resolution] - 1)
    if not math.isfinite(value) or abs(value / scale) > MOST[resolution]:
        raise refused(f"{value}", f"a number within +-{MOST[resolution] * scale:g}")
    return RAW[resolution].pack(int(value / scale))


def number(value: float, resolution: int) -> bytes:
    """A register without a unit, as a device sends it; cut off at the ends of an integer."""
    if resolution == FLOAT:
        return RAW[FLOAT].pack(value)
    return RAW[resolution].pack(max(-MOST[resolution] - 1, min(MOST[resolution], int(value))))


def cut_off(value: float, scale: float, resolution: int) -> int:
    """Counts of `value` as a device sends them: cut off at the ends, NaN as the negative end."""
    if math.isnan(value):
        return -MOST[resolution] - 1
    return int(max(-MOST[resolution], min(MOST[resolution], value / scale)))


def saturated(value: float, scale: float, resolution: int) -> bytes:
    """A register as a device sends it: cut off at the ends, NaN as the negative end. Commands use `counts`."""
    return RAW[resolution].pack(value if resolution == FLOAT else cut_off(value, scale, resolution))


def scaled(raw: Number, scale: float, resolution: int) -> float:
    """A register's value; NaN for the negative end, which means so."""
    if resolution != FLOAT and raw == -MOST[resolution] - 1:
        return math.nan
    return raw * scale if resolution != FLOAT else float(raw)


def _float(value: float, unset: bool = False) -> bytes:
    if not unset and not math.isfinite(value):
        raise refused(f"{value}", "a finite number")  # NaN would mean "where you are now" or "no limit"
    try:
        return RAW[FLOAT].pack(value)
    except OverflowError:
        raise refused(f"{value}", "a number that a 32-bit float can carry") from None


def refused(got: str, expected: str) -> BadSetpoint:
    """What to raise for a value that no frame carries."""
    todo = "limit set-points before they are sent"
    return BadSetpoint(explain("a value that no moteus frame carries", expected, got, todo))
