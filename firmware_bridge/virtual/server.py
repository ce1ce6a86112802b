"""A virtual device behind a pty (serial protocols) or a Unix socket of kernel frames or SocketCAN (CAN).

With a baud rate it is as slow as the wire: a byte arrives when its last bit would.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import select
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.virtual.device import Device, Reply
from firmware_bridge.virtual.line import TO_DEVICE, TO_HOST, Line, Trouble

_TICK_NS = 1_000_000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_SPIN_NS = 120_000  # before a packet is due: sleeping wakes later than a wire would deliver


class Port(Protocol):
    """Where hosts connect."""

    name: str

    @property
    def fds(self) -> list[int]:
        """To be watched for input."""

    def read(self, fd: int) -> Iterable[Any]:
        """What came in on `fd`, as units."""

    def write(self, unit: Any) -> None:
        """To every host that is connected."""

    def replug(self) -> None:
        """There again, after close()."""

    def close(self) -> None: ...


class PtyPort:
    """A serial line. `link`: a path that always points at it, also after unplug and replug."""

    def __init__(self, link: Path | None = None) -> None:
        self._link = link
        self.replug()

    def replug(self) -> None:
        self._pair = PtyPair()
        self.name = self._pair.port
        if self._link is not None:
            fresh = self._link.with_name(self._link.name + ".new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._pair.port)
            os.replace(fresh, self._link)
            self.name = str(self._link)

    @property
    def fds(self) -> list[int]:
        return [self._pair.master_fd] if self._pair.master_fd >= 0 else []  # unplugged: nothing to watch

    def read(self, fd: int) -> list[Any]:
        data = self._pair.read()
        return [data] if data else []

    def write(self, unit: Any) -> None:
        if self._pair.master_fd >= 0:
            self._pair.write(unit)

    def close(self) -> None:
        self._pair.close()
        if self._link is not None:
            self._link.unlink(missing_ok=True)  # as a pulled adapter's /dev entry goes


class UnixCanPort:
    """A CAN bus: every host hears the devices and the other hosts, as on a real one."""

    def __init__(self, path: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edgevla-can-")  # mode 0700; gone with this object
        self.name = str(path or Path(self._folder.name) / "bus")
        self._hosts: dict[int, socket.socket] = {}
        self.replug()

    def replug(self) -> None:
        """Raises ValueError where the path cannot be a socket's."""
        Path(self.name).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self._listener.bind(self.name)
        except OSError as error:
            raise ValueError(f"no bus at {self.name}: {error.strerror or error}") from None
        os.chmod(self.name, 0o600)
        self._listener.listen(8)

    @property
    def fds(self) -> list[int]:
        return [fd for fd in (self._listener.fileno(), *self._hosts) if fd >= 0]  # -1: unplugged

    def read(self, fd: int) -> Iterator[Any]:
        """One by one: the first of several is on the line when it is read, not when the last one is."""
        if fd == self._listener.fileno():
            with contextlib.suppress(BlockingIOError):
                host, _ = self._listener.accept()
                host.setblocking(False)
                self._hosts[host.fileno()] = host
            return
        while True:
            try:
                raw = os.read(fd, kernel_can.FD.size)
            except BlockingIOError:
                return
            except OSError:
                raw = b""
            if not raw:
                self._hosts.pop(fd).close()
                return
            self._send(raw, but=fd)
            frame, _ = kernel_can.unpack(raw)
            if frame is not None:
                yield frame

    def write(self, unit: Any) -> None:
        self._send(kernel_can.pack(unit))

    def error(self, error_class: int) -> None:
        """An error frame of the controller, to every host."""
        self._send(kernel_can.error_frame(error_class))

    def _send(self, raw: bytes, but: int = -1) -> None:
        for fd in self._hosts:
            if fd != but:
                with contextlib.suppress(OSError):  # a host that does not read loses frames, as on a real bus
                    os.write(fd, raw)

    def close(self) -> None:
        for host in self._hosts.values():
            host.close()
        self._hosts = {}
        self._listener.close()
        Path(self.name).unlink(missing_ok=True)


class SocketCanPort:
    """Devices on a real SocketCAN interface, say vcan0. Unplugging takes the interface down: root only."""

    def __init__(self, interface: str) -> None:
        self.name = interface
        self._socket: socket.socket | None = None
        self.replug()

    def replug(self) -> None:
        _set_up(self.name, True)
        opened = socket.socket(socket.PF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        opened.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        opened.bind((self.name,))
        opened.setblocking(False)
        self._socket = opened

    @property
    def fds(self) -> list[int]:
        return [] if self._socket is None else [self._socket.fileno()]

    def read(self, fd: int) -> Iterator[Any]:
        while True:
            try:
                raw = os.read(fd, kernel_can.FD.size)
            except OSError:  # nothing left, or the interface went down
                return
            frame, _ = kernel_can.unpack(raw)
            if frame is not None:
                yield frame

    def write(self, unit: Any) -> None:
        self._send(kernel_can.pack(unit))

    def error(self, error_class: int) -> None:
        """An error frame; vcan hands it to every listener that asked for them, as a controller's driver would."""
        self._send(kernel_can.error_frame(error_class))

    def _send(self, raw: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody there to hear it
            if self._socket is not None:
                self._socket.send(raw)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            _set_up(self.name, False)


def _set_up(interface: str, up: bool) -> None:
    """`ip link set INTERFACE up` or `down` (SIOCGIFFLAGS, SIOCSIFFLAGS). Raises OSError where it may not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack("16sH14x", interface.encode(), 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(control, _SIOCGIFFLAGS, asked))
        wanted = flags | _IFF_UP if up else flags & ~_IFF_UP
        if wanted != flags:
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), wanted))


class Server:
    """Serves `device` on `port`; faults are set from outside.

    `awake_ns`: how long it looks out without sleeping after each word of the host. A sleeping process hears a word
    some 50 us late, which no wire does; a bench gives the device a core of its own and asks for it.
    """

    def __init__(self, device: Device, port: Port, line: Line | None = None, awake_ns: int = 0) -> None:
        self.device, self.port = device, port
        self.line, self.trouble = line or Line(), Trouble()
        self._awake_ns, self._awake_until_ns = awake_ns, 0
        self.powered, self.bus_off = True, False
        self._due: list[tuple[int, int, int, Any]] = []  # (when ns, order, direction, unit)
        self._order = 0

    def serve(self, control_fd: int, control: Callable[[], bool]) -> None:
        """Until `control`, called when `control_fd` is readable, returns False."""
        tick_ns = 0
        while True:
            now_ns = time.monotonic_ns()
            if now_ns >= tick_ns:
                tick_ns = now_ns + _TICK_NS
                self._send(self.trouble.after(self.device.tick(now_ns // 1000)), now_ns)
            fds = self.port.fds
            ready = select.select([control_fd, *fds], [], [], self._may_sleep_ns(tick_ns) * 1e-9)[0]
            if control_fd in ready and not control():
                return
            for fd in ready:
                if fd != control_fd and fd in self.port.fds:  # the cable may have been pulled a line ago
                    for unit in self.port.read(fd):
                        self.heard(unit, time.monotonic_ns())
                        if time.monotonic_ns() >= tick_ns:
                            break  # a host that never pauses takes no heartbeat and no watchdog from the device
            if self._due:
                self.pass_on(time.monotonic_ns())

    def _may_sleep_ns(self, tick_ns: int) -> int:
        """Until the next tick, or shortly before something is due; not at all while the host speaks, where asked."""
        now_ns = time.monotonic_ns()
        if now_ns < self._awake_until_ns:
            return 0
        if self._due:
            return max(0, min(tick_ns, self._due[0][0] - _SPIN_NS) - now_ns)
        return max(0, tick_ns - now_ns)

    def heard(self, unit: Any, now_ns: int) -> None:
        """A host put `unit` on the line."""
        if self.bus_off:
            return
        self._awake_until_ns = now_ns + self._awake_ns
        at_ns = self.line.carry(unit, TO_DEVICE, now_ns)
        echo = self.trouble.echo_of(unit)
        if echo is not None:
            self._later(at_ns, TO_HOST, echo)  # on the same wire at the same time: it takes none of its own
        self._later(at_ns, TO_DEVICE, unit)
        self.pass_on(now_ns)

    def pass_on(self, now_ns: int) -> None:
        """Everything whose last bit is over by now, in that order. Bytes that are due together leave in one piece."""
        ready: list[Any] = []
        while self._due and self._due[0][0] <= now_ns:
            at_ns, _, direction, unit = heapq.heappop(self._due)
            if direction == TO_HOST:
                ready.append(unit)
            elif self.powered and not self.bus_off:
                self._send(self.trouble.after(self.device.feed(unit, at_ns // 1000)), at_ns)
        if ready and isinstance(ready[0], bytes):
            ready = [b"".join(ready)]
        for unit in ready:
            self.port.write(unit)

    def lose_what_is_on_its_way(self) -> None:
        """Power or cable went: nothing of it arrives any more."""
        self._due.clear()

    def _send(self, replies: list[Reply], at_ns: int) -> None:
        for reply in replies if self.powered and not self.bus_off else []:
            ready_ns = at_ns + reply.delay_us * 1000
            self._later(self.line.carry(reply.data, TO_HOST, ready_ns), TO_HOST, reply.data)

    def _later(self, at_ns: int, direction: int, unit: Any) -> None:
        self._order += 1
        heapq.heappush(self._due, (at_ns, self._order, direction, unit))
