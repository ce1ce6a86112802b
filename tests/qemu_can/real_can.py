"""What only a real SocketCAN shows; the machine of `python -m tests.qemu_can` runs it, nothing else collects it."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import can
import pytest

from firmware_bridge.arm import Joint
from firmware_bridge.errors import BusOff, LinkCongested, PortError, PortGone
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.transport.socket_can import SocketCan
from firmware_bridge.virtual.client import VirtualProcess
from firmware_bridge.virtual.server import SocketCanPort

VCAN = os.environ["EDGEVLA_CAN"]
JOINTS = (Joint("a", "rad", -1.0, 1.0, 1, "moteus"),)


def link(*words: str) -> None:
    subprocess.run(["ip", "link", "set", *words], check=True)


def read_all(bus: SocketCan, count: int, limit_s: float = 2.0) -> list[Frame]:
    frames: list[Frame] = []
    deadline_ns = time.monotonic_ns() + int(limit_s * 1e9)
    while len(frames) < count and bus.wait_readable(deadline_ns):
        frames += bus.read()
    return frames


@pytest.fixture
def pair() -> Iterator[tuple[SocketCan, SocketCan]]:
    left, right = SocketCan(VCAN, fd=True), SocketCan(VCAN, fd=True)
    left.open()
    right.open()
    yield left, right
    left.close()
    right.close()
    link(VCAN, "up")


def test_a_frame_reaches_the_other_and_not_its_sender(pair):
    left, right = pair
    left.write([Frame(0x123, b"\x11\x22\x33")])
    assert read_all(right, 1) == [Frame(0x123, b"\x11\x22\x33")]
    assert not left.wait_readable(time.monotonic_ns() + 50_000_000)
    assert left.read() == []


FRAMES = [
    Frame(0x000, b""),
    Frame(0x7FF, bytes(range(8))),
    Frame(0x1FFFFFFF, b"\xff", extended=True),
    Frame(0x001, b"\x01", extended=True),  # the same number as 0x001 standard, another identifier
    Frame(0x123, b"", remote=True),
    Frame(0x321, bytes(64), fd=True, brs=True),
    Frame(0x321, bytes(range(12)), fd=True),
    Frame(0x8001, b"\x50" * 48, extended=True, fd=True, brs=True),
    Frame(0x18, b"", fd=True, brs=True),
]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_every_kind_of_frame_arrives_as_it_was_sent(pair, frame):
    pair[0].write([frame])
    assert read_all(pair[1], 1) == [frame]


def test_a_thousand_frames_arrive_in_order(pair):
    sent = [Frame(i % 0x800, i.to_bytes(4, "little")) for i in range(1000)]
    got: list[Frame] = []
    for start in range(0, 1000, 100):
        pair[0].write(sent[start : start + 100])
        got += read_all(pair[1], 100)
    assert got == sent


def test_one_read_of_a_flooded_bus_ends_after_256_frames_and_what_is_lost_is_the_newest(pair):
    sent = [Frame(i, b"\x00") for i in range(400)]
    pair[0].write(sent)
    assert pair[1].wait_readable(time.monotonic_ns() + 10**9)
    first = pair[1].read()
    assert first == sent[:256]
    rest = pair[1].read()  # the kernel's receive buffer holds some 280 by default
    assert rest == sent[256 : 256 + len(rest)]


def test_a_can_2_0_socket_does_not_see_fd_frames(pair):
    classic = SocketCan(VCAN)
    classic.open()
    pair[0].write([Frame(0x11, bytes(12), fd=True), Frame(0x12, b"\x01")])
    assert read_all(classic, 1) == [Frame(0x12, b"\x01")]
    classic.close()


def test_an_fd_frame_on_a_can_2_0_interface_is_refused_before_it_is_sent():
    link(VCAN, "down")
    link(VCAN, "mtu", "16", "up")
    try:
        with pytest.raises(PortError, match="CAN-FD"):
            SocketCan(VCAN, fd=True).open()
    finally:
        link(VCAN, "down")
        link(VCAN, "mtu", "72", "up")


def test_the_error_frame_of_a_controller_that_left_the_bus_is_bus_off(pair):
    port = SocketCanPort(VCAN)
    port.error(kernel_can.ERR_BUS_OFF)
    assert pair[0].wait_readable(time.monotonic_ns() + 10**9)
    with pytest.raises(BusOff, match=VCAN):
        pair[0].read()
    port._socket.close()


def test_other_error_frames_are_no_frames_of_data(pair):
    port = SocketCanPort(VCAN)
    port.error(kernel_can.ERR_RESTARTED)
    port.write(Frame(0x22, b"\x07"))
    assert read_all(pair[0], 1) == [Frame(0x22, b"\x07")]
    port._socket.close()


def test_an_interface_that_goes_down_is_a_port_that_is_gone(pair):
    link(VCAN, "down")
    with pytest.raises(PortGone, match=VCAN):
        pair[0].read()
    with pytest.raises(PortGone, match="Network is down"):
        pair[1].write([Frame(1, b"")])


def test_a_waiting_host_learns_at_once_that_the_interface_went_down(pair):
    link(VCAN, "down")
    started_ns = time.monotonic_ns()
    assert pair[0].wait_readable(started_ns + 10**10)
    assert time.monotonic_ns() - started_ns < 5 * 10**9


def test_after_up_again_a_new_connection_works():
    link(VCAN, "down")
    with pytest.raises(PortError, match="ip link set can0 up"):
        SocketCan(VCAN).open()
    link(VCAN, "up")
    bus = SocketCan(VCAN)
    bus.open()
    bus.write([Frame(1, b"")])
    bus.close()


def test_an_interface_that_is_not_there_is_named():
    with pytest.raises(PortError, match="vcan7"):
        SocketCan("vcan7").open()


def test_python_can_and_our_transport_read_each_other(pair):
    with can.Bus(interface="socketcan", channel=VCAN, fd=True) as theirs:
        for frame in FRAMES:
            pair[0].write([frame])
            got = theirs.recv(2.0)
            assert (got.arbitration_id, got.is_extended_id) == (frame.id, frame.extended)
            assert got.is_remote_frame == frame.remote
            assert (bytes(got.data), got.is_fd, got.bitrate_switch) == (frame.data, frame.fd, frame.brs)
        read_all(pair[1], len(FRAMES))
        for frame in FRAMES:
            theirs.send(
                can.Message(
                    arbitration_id=frame.id,
                    is_extended_id=frame.extended,
                    is_remote_frame=frame.remote,
                    data=frame.data,
                    is_fd=frame.fd,
                    bitrate_switch=frame.brs,
                )
            )
        assert read_all(pair[1], len(FRAMES)) == FRAMES


def test_unplug_and_replug_of_a_virtual_arm_take_the_interface_down_and_up():
    with VirtualProcess("moteus", JOINTS, link=VCAN) as arm:
        bus = SocketCan(VCAN, fd=True)
        bus.open()
        arm.do("unplug")
        with pytest.raises(PortGone):
            bus.read()
        assert arm.do("replug")["port"] == VCAN
        bus.close()
        bus.open()
        bus.write([Frame(0x8001, b"\x11\x00", extended=True, fd=True, brs=True)])  # moteus: which mode?
        assert read_all(bus, 1) == [Frame(0x100, b"\x21\x00\x00", fd=True, brs=True)]
        bus.close()
    link(VCAN, "up")


# --- slcan: a serial adapter, its line a pty ----------------------------------------------------------------------


@contextlib.contextmanager
def slcan(name: str) -> Iterator[PtyPair]:
    """slcand of can-utils on one end of a pty; the other end is the adapter."""
    line = PtyPair()
    daemon = subprocess.Popen([os.environ["SLCAND"], "-F", "-o", "-c", "-s8", line.port, name])
    try:
        for _ in range(100):
            if Path("/sys/class/net", name).exists():
                break
            time.sleep(0.05)
        link(name, "up")
        yield line
    finally:
        daemon.terminate()
        daemon.wait(10)
        line.close()


def heard(line: PtyPair, end: bytes, limit_s: float = 3.0) -> bytes:
    data, deadline_s = b"", time.monotonic() + limit_s
    while not data.endswith(end) and time.monotonic() < deadline_s:
        select.select([line.master_fd], [], [], 0.1)
        data += line.read()
    return data


def test_frames_cross_a_serial_adapter_both_ways():
    with slcan("slcan0") as line:
        assert heard(line, b"O\r").endswith(b"S8\rO\r")  # 1 Mbit/s, open (LAWICEL: S8, O)
        bus = SocketCan("slcan0")
        bus.open()
        bus.write([Frame(0x123, b"\xaa\xbb"), Frame(0x1ABCDEF0, b"\x01", extended=True)])
        assert heard(line, b"01\r") == b"t1232AABB\rT1ABCDEF0101\r"
        line.write(b"t7FF3010203\rT000000011FF\r")
        assert read_all(bus, 2) == [Frame(0x7FF, b"\x01\x02\x03"), Frame(0x1, b"\xff", extended=True)]
        bus.close()


def test_an_adapter_that_takes_no_more_is_congestion_and_no_wait():
    with slcan("slcan1") as line:
        heard(line, b"O\r")
        bus = SocketCan("slcan1")
        bus.open()
        started_s = time.monotonic()
        with pytest.raises(LinkCongested, match="slcan1"):
            bus.write([Frame(0x123, bytes(8))] * 5000)
        assert time.monotonic() - started_s < 5.0
        heard(line, b"nothing ends so", 0.5)  # the adapter reads on
        bus.write([Frame(0x124, b"")])  # and the same connection goes on
        assert b"t1240\r" in heard(line, b"t1240\r")
        bus.close()


def test_an_adapter_that_was_pulled_is_a_port_that_is_gone():
    with slcan("slcan2") as line:
        heard(line, b"O\r")
        bus = SocketCan("slcan2")
        bus.open()
        line.close()
        for _ in range(100):
            if not Path("/sys/class/net/slcan2").exists():
                break
            time.sleep(0.02)  # slcand takes the interface away when its line hangs up
        with pytest.raises(PortGone):
            bus.write([Frame(0x1, b"")])
        bus.close()
