"""Shared memory between processes: a ring of checksummed slots in a memfd.

Right by slot plus checksum over (sequence, length, payload), never by the order of stores: a torn, half-visible
or altered slot fails its checksum and the reader takes the slot before it. One writer, any number of readers, no
lock that a dead process could hold. The memory is an inherited file descriptor: no name, nothing to unlink.

A reader during whose look the writer begins fewer than `slots` writes finds an entry at least as new as the newest
one visible when it began. Nothing is promised about the order in which stores become visible.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
import zlib
from operator import itemgetter
from typing import Protocol

from edgevla.errors import DeviceFault, explain

Buffer = bytes | bytearray | memoryview
Entry = tuple[int, bytes]  # sequence, payload
Store = tuple[int, Buffer]  # offset in the memory, bytes that go there

FORMAT = 2  # raised with every change of what lies in the memory
HEADER_BYTES = 64  # in front of everything; also a cache line, so that two slots never share one
_FILE_HEADER = struct.Struct("<8s6I")  # magic, format, four numbers of the user, crc32 of all before
_SLOT_HEADER = struct.Struct("<QII")  # sequence, length, crc32 of (sequence, length, payload)
_CHECKED = struct.Struct("<QI")  # the part of the slot header that the checksum covers
_SEQUENCE = struct.Struct("<Q")
_MAGIC = b"EVLSLOTS"
SEQUENCES = 1 << 63  # a sequence is below: room to go on from any that is whole
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL  # shrunk memory is a SIGBUS in the other process


class Memory(Protocol):
    """What the ring needs of its memory; an mmap has it."""

    def __getitem__(self, key: slice, /) -> bytes: ...

    def __setitem__(self, key: slice, value: Buffer, /) -> None: ...


def checksum(checked: bytes, payload: Buffer) -> int:
    """crc32 over `checked` (sequence u64, length u32: 12 bytes) and the payload."""
    return zlib.crc32(payload, zlib.crc32(checked))


def slot_stride(payload_bytes: int) -> int:
    """Bytes from one slot to the next: header and payload, filled up to a cache line."""
    return -(-(_SLOT_HEADER.size + payload_bytes) // HEADER_BYTES) * HEADER_BYTES


class SlotRing:
    """The rules of the ring over any memory. `slots` slots of at most `payload_bytes` bytes each."""

    def __init__(self, memory: Memory, payload_bytes: int, slots: int) -> None:
        self._memory = memory
        self.payload_bytes = payload_bytes
        self.slots = slots
        stride = slot_stride(payload_bytes)
        self._offsets = tuple(HEADER_BYTES + slot * stride for slot in range(slots))
        self._next = 0  # next sequence to write; 0 = not known yet

    def stores(self, sequence: int, payload: Buffer) -> tuple[Store, Store]:
        """All that a write stores, in the order of the program. Pure."""
        offset = self._offsets[sequence % self.slots]
        checked = _CHECKED.pack(sequence, len(payload))
        header = checked + checksum(checked, payload).to_bytes(4, "little")
        return (offset + _SLOT_HEADER.size, payload), (offset, header)

    def write(self, payload: Buffer) -> int:
        """Put `payload` into the oldest slot; returns its sequence (1, 2, ...). Single writer.

        A writer that follows a dead one goes on above every sequence that a reader may have seen.
        Raises ValueError when the payload is larger than a slot.
        """
        if isinstance(payload, memoryview):
            payload = payload.cast("B")
        if len(payload) > self.payload_bytes:
            raise ValueError(f"payload of {len(payload)} bytes does not fit a slot of {self.payload_bytes} bytes")
        sequence = self._next or self._resume()
        self._next = sequence + 1  # first: a write that an exception cuts short never has its sequence used again
        for offset, data in self.stores(sequence, payload):
            self._memory[offset : offset + len(data)] = data
        return sequence

    def read(self, after: int = 0) -> Entry | None:
        """Newest whole entry with a sequence above `after`: (sequence, copy of the payload) or None."""
        for seen, slot in self._seen(after):
            entry = self._load(slot)
            if entry is not None and entry[0] >= seen:
                return entry
        return None

    def newer(self, after: int = 0) -> list[Entry]:
        """Every whole entry above `after`, oldest first. Sequences may be missing: overwritten, or never completed."""
        entries = []
        for seen, slot in reversed(self._seen(after)):  # the oldest is the next to be overwritten
            entry = self._load(slot)
            if entry is not None and entry[0] >= seen:
                entries.append(entry)
        entries.sort(key=itemgetter(0))
        return entries

    def _seen(self, after: int) -> list[tuple[int, int]]:
        """(sequence, slot) of the slots that claim a sequence above `after`, highest first. Nothing is checked."""
        found = []
        for slot, offset in enumerate(self._offsets):
            sequence: int = _SEQUENCE.unpack(self._memory[offset : offset + 8])[0]
            if after < sequence < SEQUENCES:
                found.append((sequence, slot))
        found.sort(reverse=True)
        return found

    def _load(self, slot: int) -> Entry | None:
        """Copy one slot, then judge the copy: None when it is empty, torn, altered or in the wrong place."""
        offset = self._offsets[slot]
        header = self._memory[offset : offset + _SLOT_HEADER.size]
        sequence, length, crc = _SLOT_HEADER.unpack(header)
        if not 0 < sequence < SEQUENCES or sequence % self.slots != slot or length > self.payload_bytes:
            return None
        start = offset + _SLOT_HEADER.size
        payload = self._memory[start : start + length]
        return (sequence, payload) if checksum(header[: _CHECKED.size], payload) == crc else None

    def _resume(self) -> int:
        """First sequence of this writer, above all that its predecessors may have shown.

        Every slot whole: the next one. Some damaged: one of them may have held a newer entry, at most `slots` - 1
        further on; the step is one more, so that the damaged slot is overwritten and not the newest whole one.
        Nothing whole: a clock in ns, which no writer can have outrun.
        """
        whole = self.newer()
        if not whole:
            return time.monotonic_ns() if self._touched() else 1
        newest = whole[-1][0]
        return newest + 1 if len(whole) == min(newest, self.slots) else newest + self.slots + 1

    def _touched(self) -> bool:
        return any(any(self._memory[offset : offset + _SLOT_HEADER.size]) for offset in self._offsets)


class Slots(SlotRing):
    """A slot ring in a sealed memfd; `fd` goes to the other process."""

    def __init__(self, fd: int, payload_bytes: int, slots: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, HEADER_BYTES + slots * slot_stride(payload_bytes))
        super().__init__(self._map, payload_bytes, slots)

    @classmethod
    def create(cls, payload_bytes: int, slots: int = 4, name: str = "edgevla-slots") -> Slots:
        """New ring in a new memfd; raises ValueError on a size that makes no ring."""
        if payload_bytes < 1 or slots < 2:
            raise ValueError(f"a slot ring needs payload_bytes >= 1 and slots >= 2, got {payload_bytes} and {slots}")
        fd = create_memfd(name, HEADER_BYTES + slots * slot_stride(payload_bytes))
        os.pwrite(fd, file_header(_MAGIC, payload_bytes, slots), 0)
        return cls(fd, payload_bytes, slots)

    @classmethod
    def attach(cls, fd: int) -> Slots:
        """Ring created by another process; raises DeviceFault when the descriptor holds none of this format."""
        payload_bytes, slots, *_ = read_file_header(fd, _MAGIC, "a slot ring")
        check_size(fd, HEADER_BYTES + slots * slot_stride(payload_bytes), "a slot ring")
        return cls(fd, payload_bytes, slots)

    def close(self) -> None:
        """Unmap and close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            self._map.close()
            os.close(self.fd)
            self.fd = -1


def create_memfd(name: str, size: int) -> int:
    """An anonymous memory file of fixed size (close-on-exec until passed on by number).

    Its pages are taken at once: memory that runs out later would be a SIGBUS in the loop. Raises OSError.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def file_header(magic: bytes, *numbers: int) -> bytes:
    """The first bytes of a shared memory: magic (8 bytes), format, up to four u32 numbers, checksum."""
    padded = numbers + (0,) * (4 - len(numbers))
    checked = _FILE_HEADER.pack(magic, FORMAT, *padded, 0)[:-4]
    return checked + zlib.crc32(checked).to_bytes(4, "little")


def read_file_header(fd: int, magic: bytes, what: str) -> tuple[int, ...]:
    """The four numbers of a header; raises DeviceFault when it is of another kind, another format or altered."""
    header = os.pread(fd, _FILE_HEADER.size, 0)
    if len(header) < _FILE_HEADER.size or header[:8] != magic:
        raise _not_that(fd, what, f"{os.fstat(fd).st_size} bytes that begin with {header[:8]!r}")
    _, found, *numbers, crc = _FILE_HEADER.unpack(header)
    if found != FORMAT:
        raise _not_that(fd, f"{what} of format {FORMAT}", f"format {found}")
    if crc != zlib.crc32(header[:-4]):
        raise _not_that(fd, what, "an altered header")
    return tuple(numbers)


def check_size(fd: int, size: int, what: str) -> None:
    """Raises DeviceFault unless the memory has just this size and can be neither shrunk nor grown."""
    found = os.fstat(fd).st_size
    if found != size:
        raise _not_that(fd, f"{what} of {size} bytes", f"{found} bytes")
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:  # a file, which knows no seals
        seals = 0
    if seals & _SEALS != _SEALS:
        raise _not_that(fd, f"{what} sealed in size", "memory that can shrink")


def _not_that(fd: int, expected: str, got: str) -> DeviceFault:
    todo = "start all processes from one installation of edgevla, through `edgevla run`"
    return DeviceFault(explain(f"file descriptor {fd} holds no usable shared memory", expected, got, todo))
