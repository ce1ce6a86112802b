"""Shared memory between two processes: a ring of checksummed slots in a memfd.

Right by slot plus checksum over (sequence, length, payload), never by the order of stores: a torn or
half-written slot fails its checksum and the reader falls back to the slot before it. One writer, any
number of readers, no locks. The memory is an inherited file descriptor: no name, nothing to unlink.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib

Buffer = bytes | bytearray | memoryview

_MAGIC = b"EVSLOTS1"
_FILE_HEADER = struct.Struct("<8sII")  # magic, payload_bytes, slots
_SLOT_HEADER = struct.Struct("<QII")  # sequence, length, crc32 of (sequence, length, payload)
_CHECKED = struct.Struct("<QI")  # the part of the slot header that the checksum covers
_ALIGN = 64  # bytes: one cache line, so that two slots never share one
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW  # a shrunk memfd would be a SIGBUS in the other process


def _aligned(count: int) -> int:
    return -(-count // _ALIGN) * _ALIGN


def _checksum(sequence: int, payload: Buffer) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(sequence, len(payload))))


def create_memfd(name: str, size: int) -> int:
    """A sealed-size anonymous memory file (close-on-exec until passed on by number)."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


class Slots:
    """Ring of `slots` slots of at most `payload_bytes` each; `fd` goes to the other process."""

    def __init__(self, fd: int, payload_bytes: int, slots: int) -> None:
        self.fd = fd
        self.payload_bytes = payload_bytes
        self.slots = slots
        self._stride = _aligned(_SLOT_HEADER.size + payload_bytes)
        self._map = mmap.mmap(fd, _ALIGN + slots * self._stride)
        self._next = 0  # next sequence to write; 0 = not known yet

    @classmethod
    def create(cls, payload_bytes: int, slots: int = 4, name: str = "edgevla-slots") -> Slots:
        """New ring in a new memfd; raises ValueError on a size that makes no ring."""
        if payload_bytes < 1 or slots < 2:
            raise ValueError(f"a slot ring needs payload_bytes >= 1 and slots >= 2, got {payload_bytes} and {slots}")
        stride = _aligned(_SLOT_HEADER.size + payload_bytes)
        fd = create_memfd(name, _ALIGN + slots * stride)
        ring = cls(fd, payload_bytes, slots)
        ring._map[: _FILE_HEADER.size] = _FILE_HEADER.pack(_MAGIC, payload_bytes, slots)
        return ring

    @classmethod
    def attach(cls, fd: int) -> Slots:
        """Ring created by another process; raises ValueError when the descriptor holds none."""
        header = os.pread(fd, _FILE_HEADER.size, 0)
        size = os.fstat(fd).st_size
        if len(header) < _FILE_HEADER.size:
            raise ValueError(f"file descriptor {fd} holds {size} bytes, expected a slot ring")
        magic, payload_bytes, slots = _FILE_HEADER.unpack(header)
        expected = _ALIGN + slots * _aligned(_SLOT_HEADER.size + payload_bytes)
        if magic != _MAGIC or size != expected:
            raise ValueError(
                f"file descriptor {fd} is not a slot ring: magic {magic!r}, {size} bytes, expected {_MAGIC!r}"
            )
        return cls(fd, payload_bytes, slots)

    def _sequence_at(self, slot: int) -> int:
        sequence: int = _SLOT_HEADER.unpack_from(self._map, _ALIGN + slot * self._stride)[0]
        return sequence

    def _load(self, slot: int) -> tuple[int, bytes] | None:
        """Copy one slot, then judge the copy: None when it is empty, torn or altered."""
        offset = _ALIGN + slot * self._stride
        sequence, length, crc = _SLOT_HEADER.unpack_from(self._map, offset)
        if sequence == 0 or length > self.payload_bytes:
            return None
        start = offset + _SLOT_HEADER.size
        payload = self._map[start : start + length]
        return (sequence, payload) if _checksum(sequence, payload) == crc else None

    def write(self, payload: Buffer) -> int:
        """Put `payload` into the oldest slot; returns its sequence (1, 2, ...). Single writer."""
        length = len(payload)
        if length > self.payload_bytes:
            raise ValueError(f"payload of {length} bytes does not fit a slot of {self.payload_bytes} bytes")
        if self._next == 0:
            newest = self.read()
            self._next = 1 if newest is None else newest[0] + 1
        sequence = self._next
        offset = _ALIGN + (sequence % self.slots) * self._stride
        start = offset + _SLOT_HEADER.size
        self._map[start : start + length] = bytes(payload) if isinstance(payload, memoryview) else payload
        _SLOT_HEADER.pack_into(self._map, offset, sequence, length, _checksum(sequence, payload))
        self._next = sequence + 1
        return sequence

    def read(self, after: int = 0) -> tuple[int, bytes] | None:
        """Newest slot with a right checksum and a sequence above `after`: (sequence, copy) or None."""
        found = sorted(((self._sequence_at(i), i) for i in range(self.slots)), reverse=True)
        for sequence, slot in found:
            if sequence <= after:
                return None
            loaded = self._load(slot)
            if loaded is not None and loaded[0] > after:
                return loaded
        return None

    def newer(self, after: int) -> list[tuple[int, bytes]]:
        """Every whole slot with a sequence above `after`, oldest first."""
        found = (self._load(slot) for slot in range(self.slots))
        return sorted(entry for entry in found if entry is not None and entry[0] > after)

    def close(self) -> None:
        """Unmap and close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            self._map.close()
            os.close(self.fd)
            self.fd = -1
