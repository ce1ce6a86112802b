"""What a protocol needs from whatever carries its bytes."""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """A full-duplex byte stream. Deadlines are CLOCK_MONOTONIC nanoseconds."""

    @property
    def name(self) -> str:
        """For error texts: the port's path."""

    def open(self) -> None:
        """Raises PortError, in one sentence a user can act on."""

    def write(self, data: bytes) -> None:
        """Hand over all of `data` without waiting; LinkCongested when not all of it fits, PortGone."""

    def read(self) -> bytes:
        """What has arrived, without waiting; b"" when nothing has. Raises PortGone."""

    def wait_readable(self, deadline_ns: int) -> bool:
        """Wait for a byte until the deadline; False when none came."""

    def close(self) -> None:
        """Release the port. Never raises; a second call does nothing."""
