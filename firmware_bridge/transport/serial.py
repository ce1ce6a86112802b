"""A serial port: opened and configured by pyserial, then driven through its file descriptor for speed.

(15.0 k exchanges/s through pyserial's read/write, 28.8 k through the descriptor: facts, section 10.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import termios
import time

import serial

from firmware_bridge.errors import BaudRefused, LinkCongested, PortError, PortGone, explain
from firmware_bridge.transport.latency import set_low_latency

_READ_BYTES = 4096


class SerialTransport:
    """`port` at `baud`, 8N1, exclusive, non-blocking."""

    def __init__(self, port: str, baud: int) -> None:
        self._port = port
        self._baud = baud
        self._serial: serial.Serial | None = None
        self._fd = -1
        self.low_latency: bool | None = None  # read back when it was opened; None: the driver has no such mode

    @property
    def name(self) -> str:
        return self._port

    def open(self) -> None:
        """See `Transport`. What was open is closed first."""
        self.close()
        try:
            self._serial = serial.Serial(self._port, self._baud, timeout=0, write_timeout=0, exclusive=True)
            self._fd = self._serial.fileno()
            os.set_blocking(self._fd, False)
            _make_empty_reads_differ_from_hang_up(self._fd)
            self.low_latency = set_low_latency(self._fd, self._port)
            self._serial.reset_input_buffer()
        except (serial.SerialException, OSError, ValueError, termios.error) as error:
            self.close()
            kind = BaudRefused if isinstance(error, ValueError) else PortError
            raise kind(_why_not_open(self._port, self._baud, error)) from None

    def write(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except OSError as error:
            raise self._gone(error) from None
        if written != len(data):
            raise LinkCongested(
                explain(
                    f"{self._port} takes no more bytes",
                    f"room for {len(data)} bytes",
                    f"{written} taken: the device has stopped reading",
                    "power-cycle the arm and check that its baud rate is that of the profile",
                )
            )

    def read(self) -> bytes:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._gone(error) from None
        if not data:  # VMIN = 1: a read of nothing is a hang-up, not an empty line
            raise self._gone(None)
        return data

    def wait_readable(self, deadline_ns: int) -> bool:
        remaining_s = max(0, deadline_ns - time.monotonic_ns()) * 1e-9
        try:
            return bool(select.select([self._fd], [], [], remaining_s)[0])
        except (OSError, ValueError) as error:
            raise self._gone(error) from None

    def fileno(self) -> int:
        """For select over several ports; -1 when it is not open."""
        return self._fd

    def close(self) -> None:
        opened, self._serial, self._fd = self._serial, None, -1
        if opened is not None:
            with contextlib.suppress(Exception):  # a pulled adapter must not hide the error that matters
                opened.close()

    def _gone(self, error: Exception | None) -> PortGone:
        got = "hang-up" if error is None else str(error)
        if self._fd < 0:
            got = "the port is not open"
        return PortGone(
            explain(
                f"the serial port {self._port} died",
                "an open line to the arm",
                got,
                "check the cable and the arm's power, then connect again; nothing is re-armed by itself",
            )
        )


def _make_empty_reads_differ_from_hang_up(fd: int) -> None:
    """pyserial's VMIN = 0 reads b"" on silence and on hang-up; VMIN = 1 gives EAGAIN on silence."""
    attributes = termios.tcgetattr(fd)
    characters = attributes[6]
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


_TODO = {
    errno.ENOENT: "plug the arm in, or pass its port with --port (ls /dev/serial/by-id)",
    errno.EACCES: "add your user to the group that owns the port (usually dialout) and log in again",
    errno.EBUSY: "end the other program that uses the port",
    errno.EAGAIN: "end the other program that uses the port",
    errno.ENXIO: "the device behind the port is gone: start it again",
    errno.EIO: "the device behind the port is gone: start it again",
}


def _why_not_open(port: str, baud: int, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code is None:  # pyserial does not carry the lock's errno along
        code = errno.EBUSY if "exclusively lock" in str(error) else 0
    todo = _TODO.get(code, "pass the path of a serial port with --port, and a baud rate it knows")
    got = os.strerror(code) if code else str(error)
    return explain(f"cannot open the serial port {port}", f"a serial port at {baud} baud", got, todo)
