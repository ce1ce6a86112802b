"""CAN through python-can, for what the kernel's sockets do not reach: slcan adapters, and buses without a kernel.

`virtual` joins threads of one process, `udp_multicast` processes of one network. Slower than `SocketCan` (a Message
costs several times its frame), so SocketCAN interfaces go there. python-can is imported when a bus is opened.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from firmware_bridge.errors import BridgeError, BusOff, LinkCongested, PortError, PortGone, explain
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame

KINDS = ("slcan", "virtual", "udp_multicast", "socketcan")
_READS = 256  # frames per read(): a babbling bus must not hold the servo loop
_SETTLE_S = 0.2  # s, an adapter that restarts when its port is opened
_SERIAL_WRITE_S = 0.001  # s: with 0 pyserial would lose the rest of a frame without a word
_TAKES_ERRORS = (OSError, ValueError, RuntimeError, NotImplementedError)  # besides python-can's own


class PythonCan:
    """`kind`: one of KINDS. `channel`: as python-can calls it. `data_baud`: CAN-FD, with bit-rate switch."""

    def __init__(self, kind: str, channel: str, baud: int, data_baud: int | None = None) -> None:
        if kind not in KINDS:
            raise PortError(explain("unknown CAN interface kind", ", ".join(KINDS), kind, "name one of them"))
        self._kind, self._channel, self._baud, self._data_baud = kind, channel, baud, data_baud
        self._bus: Any = None
        self._errors: tuple[type[Exception], ...] = _TAKES_ERRORS
        self._held: deque[Frame] = deque()
        self._own: deque[Frame] = deque(maxlen=_READS)  # sent, not yet heard back (udp_multicast only)

    @property
    def name(self) -> str:
        return f"{self._kind}:{self._channel}"

    def open(self) -> None:
        """What was open is closed first. Raises PortError, also where python-can is not installed."""
        self.close()
        try:
            import can
        except ImportError:
            todo = "pip install 'edgevla[can]'"
            raise PortError(explain(f"cannot open {self.name}", "python-can", "not installed", todo)) from None
        self._errors = (can.CanError, *_TAKES_ERRORS)
        try:
            self._bus = can.Bus(interface=self._kind, channel=self._channel, **self._settings(can))
        except self._errors as error:
            self.close()
            todo = "check the adapter and its name; slcan:/dev/ttyACM0, virtual:NAME, udp_multicast:239.0.0.1"
            bus = f"a {self._kind} bus at {self._baud} bit/s"
            raise PortError(explain(f"cannot open {self.name}", bus, error, todo)) from None

    def write(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            kernel_can.pack(frame)  # judges it: python-can lets through what no controller sends
            try:
                self._bus.send(self._message(frame), timeout=_SERIAL_WRITE_S if self._kind == "slcan" else 0)
            except self._errors as error:
                raise self._failed(error) from None
            except AttributeError:
                raise self._gone("the bus is not open") from None
            if self._kind == "udp_multicast":
                self._own.append(frame)

    def read(self) -> list[Frame]:
        while len(self._held) < _READS and self._pull(0.0):
            pass
        frames = list(self._held)
        self._held.clear()
        return frames

    def wait_readable(self, deadline_ns: int) -> bool:
        fd = self.fileno()
        while not self._held:
            if self._pull(0.0):
                continue  # an error frame or our own: not one to wake for
            left_s = (deadline_ns - time.monotonic_ns()) * 1e-9
            if left_s <= 0:
                return False
            if fd >= 0:
                select.select([fd], [], [], left_s)
            else:
                self._pull(left_s)
        return True

    def fileno(self) -> int:
        """-1 where there is none (`virtual`): wait with `wait_readable`. Bytes of slcan may be inside already."""
        if self._bus is None or self._kind == "virtual":
            return -1
        try:
            return int(self._bus.fileno())
        except self._errors:
            return -1

    def close(self) -> None:
        opened, self._bus = self._bus, None
        self._held.clear()
        self._own.clear()
        if opened is not None:
            with contextlib.suppress(Exception):  # a pulled adapter must not hide the error that matters
                opened.shutdown()

    def _settings(self, can: Any) -> dict[str, Any]:
        fd = self._data_baud is not None
        if self._kind == "slcan":
            if not fd:
                return {"bitrate": self._baud, "timeout": 0, "sleep_after_open": _SETTLE_S}
            timing = can.BitTimingFd.from_sample_point(
                f_clock=80_000_000,
                nom_bitrate=self._baud,
                nom_sample_point=80.0,
                data_bitrate=self._data_baud,
                data_sample_point=80.0,
            )
            return {"timing": timing, "timeout": 0, "sleep_after_open": _SETTLE_S}
        if self._kind == "virtual":
            return {"protocol": can.CanProtocol.CAN_FD if fd else can.CanProtocol.CAN_20}
        return {"fd": fd}

    def _message(self, frame: Frame) -> Any:
        import can

        return can.Message(
            arbitration_id=frame.id,
            data=frame.data,
            is_extended_id=frame.extended,
            is_fd=frame.fd,
            bitrate_switch=frame.brs,
            is_remote_frame=frame.remote,
        )

    def _pull(self, timeout_s: float) -> bool:
        """Take one message from python-can; True when there was one, whatever it was. Raises BusOff, PortGone."""
        if self._bus is None:
            raise self._gone("the bus is not open")
        try:
            message = self._bus.recv(timeout_s)
        except self._errors as error:
            raise self._failed(error) from None
        if message is None:
            return False
        if message.is_error_frame:
            if message.arbitration_id & kernel_can.ERR_BUS_OFF or self._off():
                raise self._bus_off()
            return True
        frame = Frame(
            message.arbitration_id,
            bytes(message.data),
            message.is_extended_id,
            message.is_fd,
            message.is_fd and message.bitrate_switch,
            message.is_remote_frame,
        )
        if frame in self._own:
            self._own.remove(frame)  # multicast brings our own back
        else:
            self._held.append(frame)
        return True

    def _off(self) -> bool:
        return self._bus is not None and getattr(self._bus.state, "name", "") == "ERROR"

    def _failed(self, error: Exception) -> BridgeError:
        if self._off():
            return self._bus_off()
        full = "timed out" in str(error).lower() or "buffer" in str(error).lower() or "timeout" in str(error).lower()
        if full:
            todo = "check power, termination and bit rate: nobody acknowledges"
            return LinkCongested(explain(f"{self.name} takes no more frames", "room to send", error, todo))
        return self._gone(str(error))

    def _bus_off(self) -> BridgeError:
        todo = "check cable, termination (120 ohm at both ends) and bit rate, then connect again"
        return BusOff(explain(f"the CAN controller of {self.name} left the bus", "error-active", "bus-off", todo))

    def _gone(self, got: str) -> BridgeError:
        todo = "check the adapter, then connect again; nothing is re-armed by itself"
        return PortGone(explain(f"the CAN bus {self.name} died", "a bus that is up", got, todo))
