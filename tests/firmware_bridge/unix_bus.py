"""A python-can bus over a virtual CAN bus's Unix socket: how libraries that nobody here wrote reach our devices.

The frames are laid out and read by python-can's own socketcan functions, not by ours.
"""

from __future__ import annotations

import select
import socket
import time

import can
from can.interfaces.socketcan.socketcan import bind_socket, build_can_frame, create_socket, dissect_can_frame

_FD_FRAME_BYTES = 72
_ERROR_FLAG, _REMOTE_FLAG, _EXTENDED_FLAG = 0x2000_0000, 0x4000_0000, 0x8000_0000
_BRS, _ESI = 0x01, 0x02


class UnixBus(can.BusABC):
    """`channel`: what `VirtualProcess.port` names: a path, or an interface where EDGEVLA_CAN says so.

    An interface is opened by python-can's own socketcan functions. `fd`: CAN-FD frames may be sent.
    """

    def __init__(self, channel: str, can_filters=None, *, fd: bool = False, **_: object) -> None:
        self.channel_info = f"unix bus {channel}"
        self._can_protocol = can.CanProtocol.CAN_FD if fd else can.CanProtocol.CAN_20
        if "/" in channel:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.connect(channel)
        else:
            self._socket = create_socket()
            self._socket.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
            bind_socket(self._socket, channel)
        self._socket.setblocking(False)
        self.sent: list[can.Message] = []  # what the library asked to be sent, for byte-equality
        super().__init__(channel, can_filters=can_filters, **_)

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        self.sent.append(msg)
        self._socket.send(build_can_frame(msg))

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        if not select.select([self._socket], [], [], timeout)[0]:
            return None, False
        try:
            raw = self._socket.recv(_FD_FRAME_BYTES)
        except OSError as error:
            raise can.CanOperationError(str(error)) from error
        if not raw:
            raise can.CanOperationError(f"{self.channel_info} hung up")
        word, length, flags, data = dissect_can_frame(raw)
        is_fd = len(raw) == _FD_FRAME_BYTES
        extended = bool(word & _EXTENDED_FLAG)
        message = can.Message(
            timestamp=time.time(),
            arbitration_id=word & (0x1FFF_FFFF if extended else 0x7FF),
            is_extended_id=extended,
            is_remote_frame=bool(word & _REMOTE_FLAG),
            is_error_frame=bool(word & _ERROR_FLAG),
            is_fd=is_fd,
            bitrate_switch=is_fd and bool(flags & _BRS),
            error_state_indicator=is_fd and bool(flags & _ESI),
            dlc=length,
            data=data[:length],
        )
        return message, False

    def fileno(self) -> int:
        return self._socket.fileno()

    def flush_tx_buffer(self) -> None:
        """Nothing is buffered here."""

    def shutdown(self) -> None:
        super().shutdown()
        self._socket.close()


def drain(bus: UnixBus, quiet_s: float = 0.05) -> list[can.Message]:
    """Everything that comes until the bus is quiet for that long."""
    seen: list[can.Message] = []
    while (message := bus.recv(quiet_s)) is not None:
        seen.append(message)
    return seen
