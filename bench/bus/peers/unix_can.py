"""python-can's own SocketcanBus on a virtual bus's Unix socket.

Only the socket is another one: sending, receiving, time stamps and messages are python-can's code, so that the peers
pay what they would pay on a real interface, and no more.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import can
from can.interfaces.socketcan import SocketcanBus, constants


class UnixBus(SocketcanBus):
    """`channel`: the path of the socket."""

    def __init__(self, channel: str, fd: bool = False) -> None:
        self.channel, self.channel_info = channel, f"unix bus {channel}"
        self._can_protocol = can.CanProtocol.CAN_FD if fd else can.CanProtocol.CAN_20
        self._bcm_sockets: dict[str, socket.socket] = {}
        self._task_id, self._task_id_guard = 0, threading.Lock()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setsockopt(socket.SOL_SOCKET, constants.SO_TIMESTAMPNS, 1)  # as SocketcanBus asks for
        self.socket.connect(channel)
        can.BusABC.__init__(self, channel)

    def _apply_filters(self, filters: Any) -> None:
        """None are asked for here: the kernel of a real interface would filter."""
        self._is_filtered = True


def make(channel: str, fd: bool = False) -> Any:
    return UnixBus(channel, fd)
