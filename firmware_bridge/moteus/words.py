"""moteus frames in words, for people. Never raises."""

from __future__ import annotations

from firmware_bridge.errors import ForeignBytes
from firmware_bridge.moteus import registers as reg
from firmware_bridge.moteus.registers import ERRORS, SENTENCES, Mode, Register
from firmware_bridge.moteus.scaling import Number, scaled
from firmware_bridge.moteus.subframes import (
    READ_ERROR,
    REPLY_WANTED,
    TEXT_IN,
    TEXT_OUT,
    TEXT_POLL,
    WRITE,
    WRITE_ERROR,
    Subframe,
    subframes,
)
from firmware_bridge.transport.base import Frame


def sentence(code: int) -> str:
    """What a code of `joint_faults` means."""
    return SENTENCES.get(code, f"code {code}, unknown to this version") if code else "no fault"


def describe(unit: Frame) -> str:
    """One frame in words. Never raises."""
    source, destination = unit.id >> 8 & 0x7F, unit.id & 0x7F
    way = f"moteus {source} -> {destination}" + (", answer wanted" if unit.id & REPLY_WANTED else "")
    try:
        parts = [_in_words(part) for part in subframes(unit.data)]
    except ForeignBytes:
        return f"{way}: not moteus: {unit.data.hex()}"
    return f"{way}: {'; '.join(parts) or 'nothing'}"


def _in_words(part: Subframe) -> str:
    if part.kind in (TEXT_IN, TEXT_OUT):
        return f"text {part.text!r}"
    if part.kind == TEXT_POLL:
        return f"asks for up to {part.value} bytes of text"
    name = Register(part.register).name.lower() if part.register in set(Register) else f"register {part.register:#05x}"
    if part.kind in (WRITE_ERROR, READ_ERROR):
        verb = "write" if part.kind == WRITE_ERROR else "read"
        return f"{verb} of {name} refused: {ERRORS.get(int(part.value or 0), f'error {part.value}')}"
    if part.value is None:
        return f"asks {name}"
    return f"{name} {'=' if part.kind == WRITE else 'is'} {_value(part, part.value)}"


def _value(part: Subframe, raw: Number) -> str:
    if part.register == Register.MODE and raw in set(Mode):
        return Mode(int(raw)).name.lower().replace("_", " ")
    if part.register == Register.FAULT and raw == raw // 1:
        return sentence(int(raw))
    scales = reg.SCALES.get(part.register)
    if scales is None:
        return f"{raw:g}"
    return f"{scaled(raw, scales[part.resolution], part.resolution):g} {reg.UNITS[scales]}".rstrip()
