"""How soon a USB serial adapter hands over what it has received, where its driver lets us say so.

Two switches of Linux: the flag ASYNC_LOW_LATENCY (TIOCSSERIAL, linux/serial.h, linux/tty_flags.h), and the
`latency_timer` that the FTDI driver shows in sysfs, 16 ms by default: with it a request/reply loop runs at 60 Hz.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

TIOCGSERIAL, TIOCSSERIAL = 0x541E, 0x541F  # asm-generic/ioctls.h
ASYNC_LOW_LATENCY = 1 << 13
_BYTES = 128  # struct serial_struct has 60 or 72, by the word length
_FLAGS_AT = 16  # int type, line; unsigned port; int irq; then int flags
_SYSFS = Path("/sys/class/tty")
SHORTEST_MS = 1


def set_low_latency(fd: int, port: str, sysfs: Path = _SYSFS) -> bool | None:
    """Ask for low latency and read it back.

    True: it is on. False: the driver has it and did not take it (often: no permission). None: the driver has none.
    """
    timer = _timer(port, sysfs)
    if timer is not None and timer > SHORTEST_MS:
        with contextlib.suppress(OSError):  # the file belongs to root; the flag below does the same for most users
            _timer_path(port, sysfs).write_text(str(SHORTEST_MS))
    flag = _set_flag(fd)
    timer = _timer(port, sysfs)
    return timer <= SHORTEST_MS if timer is not None else flag


def with_low_latency(serial_struct: bytes) -> bytes:
    """The kernel's serial_struct with ASYNC_LOW_LATENCY set, everything else as it was."""
    (flags,) = struct.unpack_from("=i", serial_struct, _FLAGS_AT)
    changed = bytearray(serial_struct)
    struct.pack_into("=i", changed, _FLAGS_AT, flags | ASYNC_LOW_LATENCY)
    return bytes(changed)


def has_low_latency(serial_struct: bytes) -> bool:
    """Whether ASYNC_LOW_LATENCY is set."""
    return bool(struct.unpack_from("=i", serial_struct, _FLAGS_AT)[0] & ASYNC_LOW_LATENCY)


def _set_flag(fd: int) -> bool | None:
    try:
        asked = with_low_latency(fcntl.ioctl(fd, TIOCGSERIAL, bytes(_BYTES)))
    except OSError:
        return None  # a pty, and most adapters that are no UART (ENOTTY)
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, TIOCSSERIAL, asked)
    return has_low_latency(fcntl.ioctl(fd, TIOCGSERIAL, bytes(_BYTES)))


def _timer_path(port: str, sysfs: Path) -> Path:
    return sysfs / Path(os.path.realpath(port)).name / "device" / "latency_timer"


def _timer(port: str, sysfs: Path) -> int | None:
    """ms, None where the driver has no such timer."""
    try:
        return int(_timer_path(port, sysfs).read_text())
    except (OSError, ValueError):
        return None
