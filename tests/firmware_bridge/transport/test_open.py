"""The text that a user types for a port, and the transport behind it."""

import socket

import pytest

from firmware_bridge.errors import PortError
from firmware_bridge.transport.open import kind_of, open_transport
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.transport.python_can import PythonCan
from firmware_bridge.transport.recording import Replaying
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.transport.socket_can import SocketCan


@pytest.mark.parametrize(
    ("kind", "port", "made"),
    [
        ("serial", "/dev/ttyACM0", SerialTransport),
        ("can", "can0", SocketCan),
        ("can", "/run/nowhere/bus", SocketCan),
        ("can", "socketcan:can1", SocketCan),
        ("can", "slcan:/dev/ttyACM0", PythonCan),
        ("can", "virtual:bench", PythonCan),
        ("can", "udp_multicast:239.0.0.1", PythonCan),
        ("can", "replay:log.bus", Replaying),
        ("serial", "replay:log.bus", Replaying),
    ],
)
def test_each_way_to_write_a_port_has_its_transport(kind, port, made):
    opened = open_transport(kind, port, 1_000_000)
    assert type(opened) is made
    assert opened.name == port.removeprefix("socketcan:")


@pytest.mark.parametrize(
    ("kind", "port", "todo"),
    [
        ("serial", "can0", "pass the path of a serial port"),
        ("serial", "slcan:/dev/ttyACM0", "pass the path of a serial port"),
        ("pigeon", "can0", "report this"),
    ],
)
def test_a_port_of_the_wrong_kind_is_refused(kind, port, todo):
    with pytest.raises(PortError, match=todo):
        open_transport(kind, port, 1_000_000)


def test_a_serial_port_for_a_can_arm_says_how_an_slcan_adapter_is_written():
    with PtyPair() as line, pytest.raises(PortError, match=f"slcan:{line.port}"):
        open_transport("can", line.port, 1_000_000)


def test_the_kind_is_seen_from_the_port(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as bus, PtyPair() as line:
        bus.bind(str(tmp_path / "bus"))
        ports = (str(tmp_path / "bus"), "can0", "slcan:/dev/ttyACM0", line.port, "/dev/ttyACM9")
        assert [kind_of(port) for port in ports] == ["can", "can", "can", "serial", "serial"]
