"""Reads of several servos, as the servos understand them. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from firmware_bridge.dynamixel import codec
from firmware_bridge.dynamixel.codec import BROADCAST

READS = (codec.SYNC_READ, codec.FAST_SYNC_READ, codec.BULK_READ, codec.FAST_BULK_READ)
_MEASURED = range(126, 147)  # Present Current .. Present Temperature, which nobody writes


class Question(NamedTuple):
    """A read of several servos: (id, address, length) of each."""

    asked: tuple[tuple[int, int, int], ...]
    fast: bool
    measured: bool  # only what is measured, 126..146


def question_of(to: int, instruction: int, body: bytes) -> Question:
    """Of nobody where it is not to all, or where its answer would be longer than a packet may be."""
    of_each = _bulk(body) if instruction in (codec.BULK_READ, codec.FAST_BULK_READ) else _sync(body)
    asked = tuple(of_each) if to == BROADCAST else ()
    if sum(length + 11 for _, _, length in asked) > codec.LONGEST:
        asked = ()
    measured = all(address in _MEASURED and address + length - 1 in _MEASURED for _, address, length in asked)
    return Question(asked, instruction in (codec.FAST_SYNC_READ, codec.FAST_BULK_READ), measured)


def _sync(body: bytes) -> Iterator[tuple[int, int, int]]:
    if len(body) >= 4:
        address, length = struct.unpack_from("<HH", body)
        yield from ((servo, address, length) for servo in body[4:])


def _bulk(body: bytes) -> Iterator[tuple[int, int, int]]:
    for at in range(0, len(body) - 4, 5):
        yield struct.unpack_from("<BHH", body, at)
