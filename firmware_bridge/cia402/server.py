"""The object dictionary of a virtual node and its SDO server (CiA 301, 7.2.4): expedited, strings segmented."""

from __future__ import annotations

import struct
from collections.abc import Callable

from firmware_bridge.cia402 import objects
from firmware_bridge.cia402.objects import Place

_HEAD = struct.Struct("<BHB")
_PDO_MAPS = {*range(0x1600, 0x1800), *range(0x1A00, 0x1C00)}
_INVALID = 0x8000_0000  # in a COB-ID: the PDO does not exist


class Abort(Exception):
    """An SDO abort, with its code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:08X}")
        self.code = code


class ObjectServer:
    """`written(place, value)` is called for every accepted write over SDO, before it is stored; it may raise Abort."""

    def __init__(self, node: int, written: Callable[[Place, int], None]) -> None:
        self.entries = objects.load(node)
        self._written = written
        self.reset()

    def reset(self) -> None:
        """All values as in flash, any transfer forgotten."""
        self.values = {place: entry.default for place, entry in self.entries.items()}
        self._rest, self._toggle = b"", 0

    def number(self, index: int, sub: int = 0) -> int:
        value = self.values[index, sub]
        return value if isinstance(value, int) else 0

    def answer(self, data: bytes) -> bytes | None:
        """The server's frame for a client's, None for one of a wrong length."""
        if len(data) != 8:
            return None
        command, index, sub = _HEAD.unpack_from(data)
        try:
            return self._serve(command, (index, sub), data[4:])
        except Abort as abort:
            self._rest = b""
            return _HEAD.pack(0x80, index, sub) + struct.pack("<I", abort.code)

    def _serve(self, command: int, place: Place, value: bytes) -> bytes | None:
        kind = command >> 5
        if command == 0x80:  # the client gave up
            self._rest = b""
            return None
        if kind == 2:
            return self._read(place)
        if kind == 3:
            return self._segment(command)
        if kind == 1 and command & 0x02:
            return self._write(command, place, value)
        raise Abort(0x0504_0001)

    def _read(self, place: Place) -> bytes:
        self._check(place)
        if not self.entries[place].readable:
            raise Abort(0x0601_0001)
        data = self.entries[place].pack(self.values[place])
        if len(data) <= 4:
            return _HEAD.pack(0x43 | (4 - len(data)) << 2, *place) + data.ljust(4, b"\0")
        self._rest, self._toggle = data, 0
        return _HEAD.pack(0x41, *place) + struct.pack("<I", len(data))

    def _segment(self, command: int) -> bytes:
        if not self._rest:
            raise Abort(0x0504_0001)
        if command >> 4 & 1 != self._toggle:
            raise Abort(0x0503_0000)
        part, self._rest = self._rest[:7], self._rest[7:]
        head = self._toggle << 4 | (7 - len(part)) << 1 | (not self._rest)
        self._toggle ^= 1
        return bytes((head,)) + part.ljust(7, b"\0")

    def _write(self, command: int, place: Place, raw: bytes) -> bytes:
        self._check(place)
        entry = self.entries[place]
        if not entry.writable or entry.form is None:
            raise Abort(0x0601_0002)
        size = 4 - (command >> 2 & 3) if command & 1 else entry.form.size
        if size != entry.form.size:
            raise Abort(0x0607_0012 if size > entry.form.size else 0x0607_0013)
        value = entry.form.unpack(raw[:size])[0]
        self._check_map(place, value)
        self._written(place, value)
        self.values[place] = value
        return _HEAD.pack(0x60, *place) + bytes(4)

    def _check(self, place: Place) -> None:
        if place not in self.values:
            known = any(index == place[0] for index, _ in self.values)
            raise Abort(0x0609_0011 if known else 0x0602_0000)

    def _check_map(self, place: Place, value: int) -> None:
        """Entries change while their count is 0, counts while the PDO is off; entries name objects of their size."""
        index, sub = place
        if index not in _PDO_MAPS:
            return
        if not self.number(index - 0x200, 1) & _INVALID or (sub and self.number(index)):
            raise Abort(0x0601_0000)
        if sub:
            mapped = self.entries.get((value >> 16, value >> 8 & 0xFF))
            if mapped is None or mapped.form is None or mapped.form.size * 8 != value & 0xFF:
                raise Abort(0x0604_0041)
        elif value > 4 or sum(self.number(index, i + 1) & 0xFF for i in range(value)) > 64:
            raise Abort(0x0604_0042)
