"""python-can on a virtual bus's Unix socket: the frames are made and read by python-can's own socketcan functions.

What its SocketcanBus does for each frame is done here too (select, one receive, one Message), so that the peers pay
what they would pay on a real interface, and no more.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

import can
from can.interfaces.socketcan import constants
from can.interfaces.socketcan.socketcan import build_can_frame, dissect_can_frame

_FD_FRAME_BYTES = 72


class UnixBus(can.BusABC):
    """`channel`: the path of the socket."""

    def __init__(self, channel: str, fd: bool = False) -> None:
        self.channel_info = f"unix bus {channel}"
        self._can_protocol = can.CanProtocol.CAN_FD if fd else can.CanProtocol.CAN_20
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(channel)
        super().__init__(channel)

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        self._socket.send(build_can_frame(msg))

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        if not select.select([self._socket], [], [], timeout)[0]:
            return None, False
        raw = self._socket.recv(_FD_FRAME_BYTES)
        if not raw:
            raise can.CanOperationError(f"{self.channel_info} hung up")
        word, length, flags, data = dissect_can_frame(raw)
        is_fd = len(raw) == _FD_FRAME_BYTES
        extended = bool(word & constants.CAN_EFF_FLAG)
        message = can.Message(
            timestamp=time.time(),
            arbitration_id=word & (0x1FFF_FFFF if extended else 0x7FF),
            is_extended_id=extended,
            is_remote_frame=bool(word & constants.CAN_RTR_FLAG),
            is_error_frame=bool(word & constants.CAN_ERR_FLAG),
            is_fd=is_fd,
            bitrate_switch=is_fd and bool(flags & constants.CANFD_BRS),
            error_state_indicator=is_fd and bool(flags & constants.CANFD_ESI),
            dlc=length,
            data=data[:length],
        )
        return message, False

    def fileno(self) -> int:
        return self._socket.fileno()

    def shutdown(self) -> None:
        super().shutdown()
        self._socket.close()


def make(channel: str, fd: bool = False) -> Any:
    return UnixBus(channel, fd)
