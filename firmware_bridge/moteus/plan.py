"""What position commands mean, all but the position: worked out once for each kind of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from firmware_bridge.errors import BridgeError
from firmware_bridge.moteus import codec
from firmware_bridge.moteus import registers as reg
from firmware_bridge.moteus.codec import READ, WRITE
from firmware_bridge.moteus.controller import UNSAID
from firmware_bridge.moteus.registers import FLOAT, INT8, INT16, INT32, Mode, Register

QUESTIONS: Final = {tuple(codec.subframes(codec.query(form))): form for form in (FLOAT, INT16)}  # for a Status
# How a position command begins: mode 10, then up to seven registers of one type from the position on
_MOVES: Final = {
    codec.mode(Mode.POSITION) + codec.head(WRITE, Register.COMMAND_POSITION, count, form): form
    for form in (INT8, INT16, INT32, FLOAT)
    for count in range(1, 8)
}
_HEADS = 6, 5  # bytes of them
_MOST_PLANS = 256


class Plan(NamedTuple):
    """`registers`: all that a command writes, or leaves as they are where it says nothing; `form` of its question."""

    registers: Mapping[int, float]
    form: int


class Plans:
    """The plans of the commands seen so far."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Plan | None] = {}  # by the bytes in front of the position and behind it

    def find(self, data: bytes) -> tuple[Plan, float] | None:
        """The plan of a frame and its position, rev; None for one that is not just such a command."""
        for size in _HEADS:
            head = data[:size]
            form = _MOVES.get(head)
            if form is not None:
                return self._of(head, form, data)
        return None

    def _of(self, head: bytes, form: int, data: bytes) -> tuple[Plan, float] | None:
        raw, at = codec.RAW[form], len(head)
        if len(data) < at + raw.size:
            return None
        key = head, data[at + raw.size :]
        if key not in self._known:
            if len(self._known) >= _MOST_PLANS:
                self._known.clear()
            self._known[key] = _plan(data)
        plan = self._known[key]
        if plan is None:
            return None
        return plan, codec.scaled(raw.unpack_from(data, at)[0], reg.POSITION_SCALE[form], form)


def _plan(data: bytes) -> Plan | None:
    """Of a whole position command that says nothing else than registers of motion and asks for a Status; else None."""
    try:
        parts = tuple(codec.subframes(data))
    except BridgeError:
        return None
    asks = next((at for at, part in enumerate(parts) if part.kind == READ), len(parts))
    form, writes = QUESTIONS.get(parts[asks:]), parts[1:asks]  # behind the mode
    known = all(part.kind == WRITE and part.register in UNSAID for part in writes)
    if form is None or not known or sum(part.register == Register.COMMAND_POSITION for part in writes) != 1:
        return None
    said = {
        part.register: codec.scaled(part.value, reg.SCALES[part.register][part.resolution], part.resolution)
        for part in writes
        if part.value is not None
    }
    return Plan({**UNSAID, **said}, form)
