"""CAN through a socket of kernel frames, over the Unix socket that stands in where the kernel has no CAN."""

import socket
import struct
import time

import pytest

from firmware_bridge.errors import BusOff, LinkCongested, PortError, PortGone
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.socket_can import SocketCan


def soon(seconds=2.0):
    return time.monotonic_ns() + int(seconds * 1e9)


@pytest.fixture
def bus(tmp_path):
    """(transport, the raw other end)"""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "bus"))
    listener.listen(1)
    transport = SocketCan(str(tmp_path / "bus"), fd=True)
    transport.open()
    end, _ = listener.accept()
    yield transport, end
    transport.close()
    end.close()
    listener.close()


# struct can_frame and canfd_frame of linux/can.h; EFF flag bit 31, ERR flag bit 29, CANFD_BRS 1, CANFD_FDF 4
STANDARD = struct.pack("=IBBBB8s", 0x123, 2, 0, 0, 0, b"\x11\x22")
EXTENDED = struct.pack("=IBBBB8s", 0x18DAF110 | 1 << 31, 0, 0, 0, 0, b"")
FLEXIBLE = struct.pack("=IBBBB64s", 0x7FF, 12, 5, 0, 0, bytes(range(12)))
FRAMES = [
    Frame(0x123, b"\x11\x22"),
    Frame(0x18DAF110, b"", extended=True),
    Frame(0x7FF, bytes(range(12)), fd=True, brs=True),
]


def test_frames_are_the_kernels_bytes_both_ways(bus):
    transport, end = bus
    transport.write(FRAMES)
    assert [end.recv(100) for _ in FRAMES] == [STANDARD, EXTENDED, FLEXIBLE]
    for raw in (STANDARD, EXTENDED, FLEXIBLE):
        end.send(raw)
    assert transport.wait_readable(soon())
    assert transport.read() == FRAMES
    assert transport.fileno() >= 0


def test_what_is_no_frame_is_dropped_and_silence_is_no_frame(bus):
    transport, end = bus
    for noise in (b"x", bytes(15), bytes(17), struct.pack("=IBBBB8s", 0x123, 9, 0, 0, 0, b"")):
        end.send(noise)
    end.send(STANDARD)
    assert transport.read() == FRAMES[:1]
    assert transport.read() == []
    assert transport.wait_readable(time.monotonic_ns()) is False


@pytest.mark.parametrize(
    "whole",
    [  # ids without the bit that would say bus-off in an error frame
        STANDARD,
        struct.pack("=IBBBB8s", 0x7BF, 8, 0, 0, 0, b"\x11\x22\x33\x44\x55\x66\x77\x88"),
        struct.pack("=IBBBB64s", 0x7BF, 12, 5, 0, 0, bytes(range(12))),
    ],
    ids=["short", "whole", "fd"],
)
def test_a_packet_with_any_bit_flipped_reads_as_kernel_can_says(bus, whole):
    """`read` has a short way for eight bytes with an 11-bit id: what it takes must be what the long way gives."""
    transport, end = bus
    for bit in range(8 * len(whole)):
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        expected, _ = kernel_can.unpack(bytes(spoiled))
        end.send(spoiled)
        assert transport.read() == ([] if expected is None else [expected])


def test_an_error_frame_of_bus_off_is_an_error_of_its_own(bus):
    transport, end = bus
    end.send(struct.pack("=IBBBB8s", 1 << 29 | 0x040, 8, 0, 0, 0, b""))  # linux/can/error.h: CAN_ERR_BUSOFF
    with pytest.raises(BusOff, match="termination"):
        transport.read()
    end.send(struct.pack("=IBBBB8s", 1 << 29 | 0x100, 8, 0, 0, 0, b""))  # CAN_ERR_RESTARTED
    assert transport.read() == []


def test_a_bus_that_takes_nothing_congests_and_does_not_block(bus):
    transport, _ = bus
    with pytest.raises(LinkCongested, match="takes no more frames"):
        transport.write(FRAMES * 100_000)


def test_a_bus_that_ends_is_one_clear_error(bus):
    transport, end = bus
    end.close()
    with pytest.raises(PortGone, match=r"died[\s\S]*hang-up"):
        transport.read()
    with pytest.raises(PortGone, match="died"):
        transport.write(FRAMES)
    transport.close()
    with pytest.raises(PortGone, match="not open"):
        transport.read()


@pytest.mark.parametrize("interface", ["nocan0", "/nowhere/bus", "/" + "x" * 200])
def test_an_interface_that_is_not_there_says_what_to_do(interface):
    with pytest.raises(PortError, match=r"cannot open the CAN interface[\s\S]*to do") as caught:
        SocketCan(interface).open()
    assert "Success" not in str(caught.value)
