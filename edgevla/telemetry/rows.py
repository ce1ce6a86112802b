"""Rows of measurements in shared memory: written without a system call, read by other processes while it goes on.

One writer. The newest `capacity` rows are kept; `count` says how many there ever were.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.shm import HEADER_BYTES, check_size, create_memfd, file_header, read_file_header
from edgevla.errors import DeviceFault, explain

_MAGIC, _WHAT = b"EVL-ROWS", "rows of measurements"
_COUNT = struct.Struct("<QQ")  # rows ever written, and the same inverted: altered memory is no count
_COUNT_AT = 32  # behind the file header
_INVERSE = (1 << 64) - 1
_ROW_HEADER = 16  # bytes in front of a row: crc32, 4 unused, number (1, 2, ...)
_CHECKED_FROM = 8  # the checksum covers the number and the row
GRAPHS = 8  # graphs of one inference that have a time of their own; the last stands for those behind it too


def tick_dtype(channels: int, states: int) -> np.dtype[Any]:
    """One servo step. Times are CLOCK_MONOTONIC ns; write_ns 0 = nothing was written."""
    return np.dtype(
        [
            ("step", "<i8"),
            ("tick", "<i8"),
            ("deadline_ns", "<i8"),
            ("wake_ns", "<i8"),
            ("write_ns", "<i8"),
            ("chunk", "<i8"),  # tick k of the chunk in force, -1 = none
            ("answer", "<i8"),  # tick of the newest answer seen, -1 = none
            ("answer_done", "<i8"),  # first tick whose deadline is not before it was visible
            ("state_stamp_ns", "<i8"),
            ("look_ns", "<i8"),  # when this tick looked for the newest answer
            ("send_ns", "<i8"),  # when the command was handed to the driver; 0 = none was
            ("sent_seq", "<i8"),  # number of the message sent last
            ("state_seq", "<i8"),  # number of the message that the newest state answers, -1 = no state
            ("instruction", "<i4"),  # epoch
            ("skipped", "<i4"),  # servo periods overslept before this one
            ("limited", "<u2"),  # control.limiter.Limited
            ("device_faults", "<u2"),
            ("device_mode", "<u1"),
            ("answer_valid", "<u1"),
            ("order", "<u1"),  # control.machine.Order obeyed at this tick
            ("trip", "<u1"),  # control.machine.Trip
            ("rest", "<u1"),  # the operator wants it at rest
            ("phase", "<u1"),
            ("late", "<u1"),  # the command had expired and was not written
            ("started", "<u1"),  # an inference was asked for in this step
            ("setpoint", "<f4", (channels,)),
            ("state", "<f4", (states,)),
            ("effort", "<f4", (channels,)),  # NaN = not measured
        ]
    )


def inference_dtype() -> np.dtype[Any]:
    """One inference of the policy process: preprocess_ns + graph_ns + postprocess_ns = infer_ns."""
    return np.dtype(
        [
            ("tick", "<i8"),
            ("asked_ns", "<i8"),  # observation sampled by the servo
            ("done_ns", "<i8"),  # chunk handed over
            ("frame_age_ns", "<i8"),  # at the start of the inference, of the oldest camera; -1 = no frame
            ("state_age_ns", "<i8"),
            ("infer_ns", "<i8"),  # from the look at the frames to done_ns
            ("status", "<i8"),
            ("instruction", "<i8"),  # epoch
            ("preprocess_ns", "<i8"),  # inputs judged and made into what the graphs take
            ("postprocess_ns", "<i8"),  # from the last graph on: checked, made into set-points
            ("graph_ns", "<i8", (GRAPHS,)),  # in the order in which they run; of a policy without graphs, all of it
        ]
    )


def capture_dtype() -> np.dtype[Any]:
    """One frame of a camera process. Times are CLOCK_MONOTONIC ns."""
    return np.dtype(
        [
            ("sequence", "<i8"),  # in its slot
            ("stamp_ns", "<i8"),  # captured, as the source says
            ("read_ns", "<i8"),  # the source handed it over
            ("visible_ns", "<i8"),  # the other processes can read it
        ]
    )


class Rows:
    """Ring of rows of one dtype over a memfd; `fd` goes to the other processes. One writer, any number of readers.

    Each row carries its number and a checksum, which its users do not see: a row is right by them, never by the
    order of stores. A reader in another process that is lapped or looks too early gets fewer rows, never wrong ones.
    """

    def __init__(self, fd: int, dtype: np.dtype[Any]) -> None:
        """Attach to the rows in `fd`; raises DeviceFault when it holds none of this dtype and format."""
        itemsize, self.capacity, fingerprint, _ = read_file_header(fd, _MAGIC, _WHAT)
        self._record = _record_dtype(dtype)
        if (itemsize, fingerprint) != (self._record.itemsize, _fingerprint(dtype)):
            raise DeviceFault(
                explain(
                    f"the rows in file descriptor {fd} have other columns",
                    f"{dtype.itemsize} bytes a row, {', '.join(dtype.names or ())}",
                    f"{itemsize - _ROW_HEADER} bytes a row or other names",
                    "start all processes from one installation of edgevla, through `edgevla run`",
                )
            )
        check_size(fd, HEADER_BYTES + self.capacity * itemsize, _WHAT)
        self.fd = fd
        self._map = mmap.mmap(fd, HEADER_BYTES + self.capacity * itemsize)
        raw = np.frombuffer(self._map, np.uint8, count=self.capacity * itemsize, offset=HEADER_BYTES)
        self._raw = raw.reshape(self.capacity, itemsize)
        self._itemsize = itemsize
        self._written = -1  # rows ever written, as the writer knows it; -1 = this object has not written
        self._next = np.zeros(1, self._record)  # the record being made: appending allocates nothing that stays
        self._next_row, self._next_number, self._next_crc = (self._next[name] for name in ("row", "number", "crc"))
        self._next_bytes = self._next.view(np.uint8).data
        self._next_checked = self._next_bytes[_CHECKED_FROM:]

    @classmethod
    def create(cls, dtype: np.dtype[Any], capacity: int) -> Rows:
        """New rows in a new memfd; raises ValueError on a capacity that holds none."""
        if capacity < 2:  # the row being written, and one that is whole
            raise ValueError(f"rows need a capacity of at least 2, got {capacity}")
        itemsize = _record_dtype(dtype).itemsize
        fd = create_memfd("edgevla-rows", HEADER_BYTES + capacity * itemsize)
        os.pwrite(fd, file_header(_MAGIC, itemsize, capacity, _fingerprint(dtype)), 0)
        os.pwrite(fd, _COUNT.pack(0, _INVERSE), _COUNT_AT)
        return cls(fd, dtype)

    @property
    def count(self) -> int:
        """Rows ever written."""
        said = self._said_count()
        return self._newest_number() if said is None else said

    def append(self, row: tuple[Any, ...]) -> None:
        """Write one row. A writer that follows a dead one goes on with its count."""
        count = self._written if self._written >= 0 else self._resume()
        self._next_row[0] = row
        self._next_number[0] = number = count + 1
        self._next_crc[0] = row_checksum(self._next_checked)
        at = HEADER_BYTES + count % self.capacity * self._itemsize
        self._written = number
        self._map[at : at + self._itemsize] = self._next_bytes
        _COUNT.pack_into(self._map, _COUNT_AT, number, number ^ _INVERSE)

    def since(self, cursor: int) -> tuple[NDArray[Any], int, int]:
        """Rows from number `cursor` on (0 = the first): (copy of the rows, new cursor, rows lost on the way).

        len(rows) + lost == new cursor - cursor. A row that is not wholly visible yet is left for the next call.
        A sound count below the cursor means that the rows began again; then so does the cursor, at 0.
        """
        end = self.count
        if cursor > end and self._said_count() == end:
            cursor = 0
        begin = max(cursor, end - self.capacity)
        if begin >= end:
            return np.zeros(0, self._record["row"]), cursor, 0
        records, whole = self._look(begin, end)
        taken = int(np.flatnonzero(whole)[-1]) + 1 if whole.any() else self._lapped(begin, end)
        rows = records["row"][:taken][whole[:taken]]
        return rows, begin + taken, begin + taken - cursor - len(rows)

    def newest(self) -> NDArray[Any]:
        """Copy of the rows that are kept and whole, oldest first."""
        return self.since(0)[0]

    def close(self) -> None:
        """Unmap and close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            del self._raw  # it looks into the mapping, which could not be closed under it
            self._map.close()
            os.close(self.fd)
            self.fd = -1

    def _look(self, begin: int, end: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Copy of the records begin .. end - 1, and which of them are whole. Two looks: stores may be on their way."""
        records, whole = self._copy(begin, end)
        if not whole.all():
            again, now_whole = self._copy(begin, end)
            late = now_whole & ~whole
            records[late] = again[late]
            whole |= now_whole
        return records.view(self._record)[:, 0], whole

    def _copy(self, begin: int, end: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Bytes of the records begin .. end - 1, at most `capacity`; and for each, whether it is whole."""
        first, beyond = begin % self.capacity, begin % self.capacity + end - begin
        raw = np.concatenate([self._raw[first:beyond], self._raw[: max(0, beyond - self.capacity)]])
        return raw, self._judge(raw, np.arange(begin + 1, end + 1, dtype=np.uint64))

    def _judge(self, raw: NDArray[np.uint8], numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Is each record of the copy `raw` (n, itemsize) the row of that number, with a right checksum? bool (n,)."""
        records = raw.view(self._record)[:, 0]
        whole: NDArray[np.bool_] = records["number"] == numbers
        crcs, flat = records["crc"].tolist(), raw.reshape(-1).data
        for index in np.flatnonzero(whole).tolist():
            checked = flat[index * self._itemsize + _CHECKED_FROM : (index + 1) * self._itemsize]
            whole[index] = row_checksum(checked) == crcs[index]
        return whole

    def _lapped(self, begin: int, end: int) -> int:
        """How many of the rows begin .. end - 1 the writer has overwritten by now, or is overwriting."""
        return min(max(self.count + 1 - self.capacity - begin, 0), end - begin)

    def _said_count(self) -> int | None:
        """The count as the header says it; None when it is altered or half-written, also at a third look."""
        for _ in range(3):
            count, inverse = _COUNT.unpack_from(self._map, _COUNT_AT)
            if count ^ inverse == _INVERSE:
                return int(count)
        return None

    def _newest_number(self) -> int:
        """Number of the newest whole row, found by looking at all of them; 0 = there is none."""
        numbers = self._raw.copy().view(self._record)[:, 0]["number"]
        places = np.arange(self.capacity, dtype=np.uint64)
        own = np.flatnonzero((numbers > 0) & ((numbers - np.uint64(1)) % np.uint64(self.capacity) == places))
        for index in own[np.argsort(numbers[own])[::-1]].tolist():
            if self._judge(self._raw[index : index + 1].copy(), numbers[index : index + 1])[0]:
                return int(numbers[index])
        return 0

    def _resume(self) -> int:
        """The count to go on with: as it is said, and a row that a dead writer completed and did not count."""
        count = self.count
        return count + 1 if self._copy(count, count + 1)[1][0] else count


def row_checksum(checked: memoryview) -> int:
    """crc32 of the number (u64) and the row, as they lie in a record."""
    return zlib.crc32(checked)


def _record_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A row as it lies in memory: filled up to 8 bytes, so that no two rows share a word."""
    size = _ROW_HEADER + -(-dtype.itemsize // 8) * 8
    fields: dict[str, Any] = {
        "names": ["crc", "number", "row"],
        "formats": ["<u4", "<u8", dtype],
        "offsets": [0, 8, _ROW_HEADER],
    }
    fields["itemsize"] = size
    record: np.dtype[Any] = np.dtype(fields)  # type: ignore[call-overload]
    return record


def _fingerprint(dtype: np.dtype[Any]) -> int:
    """crc32 of the names, types and shapes of the columns."""
    return zlib.crc32(repr(dtype.descr).encode())
