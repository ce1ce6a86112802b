"""Newest camera frame in shared memory, with the time it was captured."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevla.control.shm import Slots

_HEADER = struct.Struct("<qHHI")  # stamp_ns (CLOCK_MONOTONIC), height, width, reserved
_MAX_SIDE = 4096  # pixels: bounds what one slot may ask for


@dataclass(frozen=True)
class Frame:
    """One RGB frame: `image` uint8 (height, width, 3), read-only; `stamp_ns` on CLOCK_MONOTONIC."""

    stamp_ns: int
    image: NDArray[np.uint8]
    sequence: int


class CameraSlot:
    """One camera: a single writer publishes, any process that holds the descriptor reads the newest."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._buffer = bytearray(slots.payload_bytes)

    @classmethod
    def create(cls, width: int, height: int, slots: int = 4) -> CameraSlot:
        """Slot for frames of `width` x `height` pixels (a sealed memfd; pass `.fd` to the camera)."""
        if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
            raise ValueError(f"camera size must be 1..{_MAX_SIDE} pixels a side, got {width} x {height}")
        return cls(Slots.create(_HEADER.size + height * width * 3, slots, name="edgevla-camera"))

    @classmethod
    def attach(cls, fd: int) -> CameraSlot:
        return cls(Slots.attach(fd))

    @property
    def fd(self) -> int:
        return self._slots.fd

    def publish(self, frame: NDArray[np.uint8], stamp_ns: int) -> int:
        """Write one frame uint8 (height, width, 3); returns its sequence."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame is uint8 (height, width, 3), got {frame.dtype} {frame.shape}")
        size = _HEADER.size + frame.size
        if size > len(self._buffer):
            raise ValueError(f"frame {frame.shape} needs {size} bytes, the slot holds {len(self._buffer)}")
        _HEADER.pack_into(self._buffer, 0, stamp_ns, frame.shape[0], frame.shape[1], 0)
        self._buffer[_HEADER.size : size] = np.ascontiguousarray(frame).reshape(-1).data
        return self._slots.write(self._buffer if size == len(self._buffer) else self._buffer[:size])

    def latest(self, after: int = 0) -> Frame | None:
        """Newest whole frame with a sequence above `after`, or None."""
        found = self._slots.read(after)
        if found is None:
            return None
        return _frame(*found)

    def history(self) -> list[Frame]:
        """Every whole frame that the ring still holds, oldest first."""
        return [_frame(*entry) for entry in self._slots.newer(0)]

    def close(self) -> None:
        self._slots.close()


def _frame(sequence: int, payload: bytes) -> Frame:
    stamp_ns, height, width, _ = _HEADER.unpack_from(payload)
    image = np.frombuffer(payload, dtype=np.uint8, offset=_HEADER.size).reshape(height, width, 3)
    return Frame(stamp_ns, image, sequence)


def at_or_before(frames: list[Frame], time_ns: int) -> Frame | None:
    """The newest of `frames` (oldest first) that was taken by `time_ns`; the oldest when all are younger."""
    past = [frame for frame in frames if frame.stamp_ns <= time_ns]
    return past[-1] if past else (frames[0] if frames else None)
