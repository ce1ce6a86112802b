"""CAN through a socket of kernel frames: SocketCAN, or a Unix socket that a virtual bus listens on.

`can0` is a network interface; a path (anything with a slash) is a Unix socket of type SOCK_SEQPACKET that carries the
same frames in the same layout, so that the code above runs the same bytes where the kernel has no CAN. The raw
descriptor is used: python-can's Message costs several times the frame itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Sequence

from firmware_bridge.errors import BridgeError, BusOff, LinkCongested, PortError, PortGone, explain
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame, frame_of

_ERR_FILTER = 2  # CAN_RAW_ERR_FILTER of linux/can/raw.h: an enum there, so Python's socket module does not have it
_SIOCGIFMTU = 0x8921
_READS = 256  # frames per read(): a babbling bus must not hold the servo loop
_PLAIN, _LONGEST, _unpack_plain = kernel_can.CLASSIC.size, kernel_can.FD.size, kernel_can.CLASSIC.unpack
_STANDARD_MAX = kernel_can.STANDARD_MAX


class SocketCan:
    """`interface`: can0, vcan0, or the path of a virtual bus's socket. `fd`: CAN-FD frames are sent and taken too."""

    def __init__(self, interface: str, fd: bool = False) -> None:
        self._interface, self._fd_frames = interface, fd
        self._socket: socket.socket | None = None
        self._fd = -1

    @property
    def name(self) -> str:
        return self._interface

    def open(self) -> None:
        """See `FrameTransport`. What was open is closed first."""
        self.close()
        try:
            self._socket = self._unix() if "/" in self._interface else self._can()
            self._socket.setblocking(False)
        except OSError as error:
            self.close()
            raise PortError(_why_not_open(self._interface, error)) from None
        self._fd = self._socket.fileno()

    def write(self, frames: Sequence[Frame]) -> None:
        fd, write, pack = self._fd, os.write, kernel_can.pack
        try:
            for frame in frames:
                write(fd, pack(frame))
        except BlockingIOError:
            raise self._congested() from None
        except OSError as error:
            raise self._congested() if error.errno == errno.ENOBUFS else self._gone(error) from None

    def read(self) -> list[Frame]:
        fd, read, frames = self._fd, os.read, []
        try:
            for _ in range(_READS):
                raw = read(fd, _LONGEST)
                if len(raw) == _PLAIN:
                    word, length, _, data = _unpack_plain(raw)
                    if word <= _STANDARD_MAX and length == 8:  # no flag, whole: what nearly every frame is
                        frames.append(frame_of((word, data, False, False, False, False)))
                        continue
                frame = self._unusual(raw)
                if frame is not None:
                    frames.append(frame)
        except BlockingIOError:  # nothing left
            pass
        except OSError as error:
            raise self._gone(error) from None
        return frames

    def _unusual(self, raw: bytes) -> Frame | None:
        """One packet that is not eight bytes with an 11-bit id; None for what is no frame. Raises BusOff, PortGone."""
        if not raw:
            raise self._gone(None)
        frame, error_class = kernel_can.unpack(raw)
        if frame is None and error_class > 0 and error_class & kernel_can.ERR_BUS_OFF:
            raise self._bus_off()
        return frame

    def wait_readable(self, deadline_ns: int) -> bool:
        remaining_s = max(0, deadline_ns - time.monotonic_ns()) * 1e-9
        try:
            return bool(select.select([self._fd], [], [], remaining_s)[0])  # poll() waits in whole milliseconds
        except (OSError, ValueError) as error:
            raise self._gone(error) from None

    def fileno(self) -> int:
        """For select over several buses; -1 when it is not open."""
        return self._fd

    def close(self) -> None:
        opened, self._socket, self._fd = self._socket, None, -1
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.close()

    def _unix(self) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            opened.connect(self._interface)
        except OSError:
            opened.close()
            raise
        return opened

    def _can(self) -> socket.socket:
        opened = socket.socket(socket.PF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        try:
            if self._fd_frames:
                opened.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
            seen = kernel_can.ERR_BUS_OFF | kernel_can.ERR_RESTARTED
            opened.setsockopt(socket.SOL_CAN_RAW, _ERR_FILTER, struct.pack("=I", seen))
            opened.bind((self._interface,))
            if self._fd_frames and _mtu(opened, self._interface) < kernel_can.FD.size:
                raise OSError(errno.EPROTOTYPE, os.strerror(errno.EPROTOTYPE))
            if error := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))  # one may bind to an interface that is down
        except OSError:
            opened.close()
            raise
        return opened

    def _congested(self) -> BridgeError:
        return LinkCongested(
            explain(
                f"{self._interface} takes no more frames",
                "room in the send queue",
                "a full queue: nobody acknowledges",
                "check power, termination and bit rate; a longer queue: `ip link set can0 txqueuelen 100`",
            )
        )

    def _bus_off(self) -> BridgeError:
        return BusOff(
            explain(
                f"the CAN controller of {self._interface} left the bus",
                "error-active",
                "bus-off",
                "check cable, termination (120 ohm at both ends), bit rate, then `ip link set can0 type can restart`",
            )
        )

    def _gone(self, error: Exception | None) -> BridgeError:
        got = "hang-up" if error is None else str(getattr(error, "strerror", None) or error)
        if self._fd < 0:
            got = "the interface is not open"
        return PortGone(
            explain(
                f"the CAN interface {self._interface} died",
                "a bus that is up",
                got,
                "check the adapter and `ip link show`, then connect again; nothing is re-armed by itself",
            )
        )


def _mtu(opened: socket.socket, interface: str) -> int:
    """Bytes of the longest frame that the interface takes: 16, or 72 where it is set up for CAN-FD (SIOCGIFMTU)."""
    answer = fcntl.ioctl(opened, _SIOCGIFMTU, struct.pack("16si12x", interface.encode(), 0))
    (mtu,) = struct.unpack_from("16xi", answer)
    return int(mtu)


_TODO = {
    errno.EPROTOTYPE: "set it up for CAN-FD: `ip link set can0 up type can bitrate 1000000 dbitrate 5000000 fd on`",
    errno.ENODEV: "name an interface of `ip link show type can`, or bring it up",
    errno.ENETDOWN: "bring it up: `ip link set can0 up type can bitrate 1000000`",
    errno.EAFNOSUPPORT: "this kernel has no CAN: load its modules, or use an adapter: --port slcan:/dev/ttyACM0",
    errno.ENOENT: "start the virtual bus first, or name a CAN interface",
    errno.ECONNREFUSED: "the virtual bus behind this socket is gone: start it again",
    errno.EPERM: "run as a user that may open CAN sockets",
}


def _why_not_open(interface: str, error: OSError) -> str:
    todo = _TODO.get(error.errno or 0, "name an interface of `ip link show type can`")
    got = os.strerror(error.errno) if error.errno else str(error)
    return explain(f"cannot open the CAN interface {interface}", "a bus that is up", got, todo)
