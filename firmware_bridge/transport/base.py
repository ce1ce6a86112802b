"""What a protocol needs from whatever carries its bytes or frames. Deadlines are CLOCK_MONOTONIC nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol


class Transport(Protocol):
    """A full-duplex byte stream."""

    @property
    def name(self) -> str:
        """For error texts: the port's path."""

    def open(self) -> None:
        """Raises PortError, in one sentence a user can act on."""

    def write(self, data: bytes) -> None:
        """Hand over all of `data` without waiting; LinkCongested when not all of it fits, PortGone."""

    def read(self) -> bytes:
        """What has arrived, without waiting; b"" when nothing has. Raises PortGone."""

    def fileno(self) -> int:
        """For select over several of them; -1 when it is not open, or has no descriptor (`wait_readable` serves)."""

    def wait_readable(self, deadline_ns: int) -> bool:
        """Wait for a byte until the deadline; False when none came."""

    def close(self) -> None:
        """Release the port. Never raises; a second call does nothing."""


class Frame(NamedTuple):
    """One CAN frame. `data`: 0..8 bytes, CAN-FD also 12, 16, 20, 24, 32, 48 or 64."""

    id: int
    data: bytes
    extended: bool = False  # 29-bit identifier
    fd: bool = False
    brs: bool = False  # the data phase at the bus's data bit rate
    remote: bool = False

    def __str__(self) -> str:
        kind = "R" if self.remote else ("##" if self.fd else "#")
        return f"{self.id:0{8 if self.extended else 3}X}{kind}{self.data.hex().upper()}"


frame_of = partial(tuple.__new__, Frame)  # a Frame of a tuple of all its fields, in half the time of Frame(...)


class FrameTransport(Protocol):
    """A CAN bus: whole frames, whoever sent them, except our own."""

    @property
    def name(self) -> str:
        """For error texts: the interface's name."""

    def open(self) -> None:
        """Raises PortError, in one sentence a user can act on."""

    def write(self, frames: Sequence[Frame]) -> None:
        """Hand over all of `frames` in order without waiting; LinkCongested, BusOff, PortGone."""

    def read(self) -> list[Frame]:
        """What has arrived, oldest first, without waiting. Raises BusOff, PortGone."""

    def fileno(self) -> int:
        """For select over several of them; -1 when it is not open, or has no descriptor (`wait_readable` serves)."""

    def wait_readable(self, deadline_ns: int) -> bool:
        """Wait for a frame until the deadline; False when none came."""

    def close(self) -> None:
        """Leave the bus. Never raises; a second call does nothing."""
