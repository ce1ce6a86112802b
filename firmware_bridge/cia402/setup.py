"""What the objects of a virtual node say of its PDOs, its host and its limits, read once per change of them."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from firmware_bridge.cia402 import codec
from firmware_bridge.cia402.objects import Place
from firmware_bridge.cia402.server import ObjectServer

CSP = 8  # mode of operation: cyclic synchronous position
_INT32 = 2**31
_INVALID = 0x8000_0000  # in a COB-ID: the PDO does not exist
_SYNCHRONOUS = 240  # the last transmission type that waits for a SYNC
_NO_WINDOW = 0xFFFF_FFFF  # of 6065
_CYCLIC = frozenset({(0x6040, 0), (0x607A, 0)})  # controlword, target
_NUMBERS = (0, 1)  # PDOs of either direction that this drive has


@dataclass(frozen=True)
class Pdo:
    """`form` packs the objects at `places`. `number`: 0 for RPDO1 and TPDO1. `cyclic`: changes nothing of a Setup."""

    number: int
    can_id: int
    at_sync: bool
    places: tuple[Place, ...]
    form: struct.Struct
    cyclic: bool


@dataclass(frozen=True)
class Setup:
    """Times in us; `low`, `high`, `window` in counts. `window` None: the following error is not watched."""

    sync_id: int
    rpdos: Mapping[int, tuple[Pdo, ...]]  # by CAN id
    tpdos: tuple[Pdo, ...]
    host_id: int  # of the heartbeat that is consumed
    host_us: int  # 0: not watched
    beat_us: int  # of its own heartbeat; 0: none
    follows: bool  # in cyclic synchronous position mode
    counts_per_rad: float
    rated: int  # 6076
    low: int
    high: int
    window: int | None
    window_us: int


def setup_of(objects: ObjectServer) -> Setup:
    """As the objects have it now."""
    number = objects.number
    rpdos: dict[int, tuple[Pdo, ...]] = {}
    for pdo in _pdos(objects, 0x1400):
        rpdos[pdo.can_id] = (*rpdos.get(pdo.can_id, ()), pdo)
    low, high, window = number(0x607D, 1), number(0x607D, 2), number(0x6065)
    limited = low < high
    consumer = number(0x1016, 1)
    return Setup(
        sync_id=number(0x1005) & 0x7FF,
        rpdos=rpdos,
        tpdos=tuple(pdo for pdo in _pdos(objects, 0x1800) if pdo.at_sync),
        host_id=codec.HEARTBEAT + (consumer >> 16) if consumer >> 16 else -1,
        host_us=(consumer & 0xFFFF) * 1000,
        beat_us=number(0x1017) * 1000,
        follows=number(0x6060) == CSP,
        counts_per_rad=number(0x608F, 1) / number(0x608F, 2) / (2.0 * math.pi),
        rated=number(0x6076),
        low=low if limited else -_INT32,
        high=high if limited else _INT32 - 1,
        window=None if window == _NO_WINDOW else window,
        window_us=number(0x6066) * 1000,
    )


def _pdos(objects: ObjectServer, first: int) -> list[Pdo]:
    """Those that exist, of RPDOs (`first` 1400) or TPDOs (1800), the lower number first."""
    found = []
    for number in _NUMBERS:
        cob_id, kind = objects.number(first + number, 1), objects.number(first + number, 2)
        if cob_id & _INVALID:
            continue
        index = first + 0x200 + number
        entries = [objects.number(index, sub + 1) for sub in range(objects.number(index))]
        named = [(entry >> 16, entry >> 8 & 0xFF) for entry in entries]
        places = tuple(place for place in named if place in objects.entries)  # an entry of 0 maps nothing
        form = struct.Struct("<" + "".join(_letter(objects, place) for place in places))
        at_sync = kind <= _SYNCHRONOUS if first == 0x1400 else 1 <= kind <= _SYNCHRONOUS
        found.append(Pdo(number, cob_id & 0x7FF, at_sync, places, form, _CYCLIC.issuperset(places)))
    return found


def _letter(objects: ObjectServer, place: Place) -> str:
    """Of `struct`; only numbers can be mapped."""
    form = objects.entries[place].form
    return form.format.lstrip("<") if form is not None else ""
