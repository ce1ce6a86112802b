"""From the text that a user types for a port to the transport behind it.

/dev/ttyACM0                 a serial port
can0                         a SocketCAN interface
/tmp/bus                     a Unix socket of a virtual CAN bus (any path)
slcan:/dev/ttyACM0           a serial CAN adapter, through python-can; also virtual:NAME, udp_multicast:239.0.0.1
replay:FILE                  a recording, instead of an arm
"""

from __future__ import annotations

import os
import stat
from typing import Any

from firmware_bridge.errors import PortError, explain
from firmware_bridge.transport import python_can
from firmware_bridge.transport.recording import Replaying
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.transport.socket_can import SocketCan

SYNTAX = "/dev/ttyACM0, can0, slcan:/dev/ttyACM0, virtual:NAME, udp_multicast:239.0.0.1, the path of a virtual bus"


def open_transport(kind: str, port: str, baud: int, data_baud: int | None = None) -> Any:
    """A Transport for kind 'serial', a FrameTransport for 'can', not yet open. `data_baud`: CAN-FD.

    Raises PortError for a port that cannot be of this kind.
    """
    scheme, colon, rest = port.partition(":")
    if colon and scheme == "replay":
        return Replaying(rest)
    if kind == "serial":
        return _serial(port, scheme if colon else "", baud)
    if kind != "can":
        raise PortError(explain("unknown kind of transport", "serial or can", kind, "report this: a protocol asked"))
    if colon and scheme in python_can.KINDS:
        if scheme == "socketcan":
            return SocketCan(rest, data_baud is not None)
        return python_can.PythonCan(scheme, rest, baud, data_baud)
    if _is_tty(port):
        todo = f"a serial CAN adapter: slcan:{port}; others: bring up their interface and name it"
        raise PortError(explain(f"{port} is no CAN interface", SYNTAX, "a serial port", todo))
    return SocketCan(port, data_baud is not None)


def kind_of(port: str) -> str:
    """'serial' or 'can', from the port alone; a path that does not exist yet is taken for serial."""
    scheme, colon, _ = port.partition(":")
    if (colon and scheme in python_can.KINDS) or "/" not in port:
        return "can"
    try:
        return "can" if stat.S_ISSOCK(os.stat(port).st_mode) else "serial"
    except OSError:
        return "serial"


def _serial(port: str, scheme: str, baud: int) -> SerialTransport:
    if scheme in python_can.KINDS or port.startswith(("can", "vcan", "slcan")):
        todo = "pass the path of a serial port (ls /dev/serial/by-id)"
        raise PortError(explain("this arm is on a serial line", "/dev/ttyACM0 or the like", port, todo))
    return SerialTransport(port, baud)


def _is_tty(port: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(port).st_mode)
    except OSError:
        return False
