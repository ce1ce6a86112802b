"""python-can's interfaces as frame transports: slcan over a pty, virtual, udp_multicast in a network of its own."""

import os
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from firmware_bridge.errors import BadSetpoint, BusOff, PortError, PortGone
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.transport.python_can import PythonCan

can = pytest.importorskip("can", reason="python-can, the extra `can`, is not installed")
FRAMES = (
    Frame(0x123, b"\x11\x22"),
    Frame(0x18DAF110, bytes(8), extended=True),
    Frame(0x7FF, b"", remote=True),
)


def soon(seconds=2.0):
    return time.monotonic_ns() + int(seconds * 1e9)


def both(first, second):
    for bus in (first, second):
        bus.open()
    return first, second


@pytest.fixture
def pair():
    first, second = both(PythonCan("virtual", "pair", 1_000_000), PythonCan("virtual", "pair", 1_000_000))
    yield first, second
    first.close()
    second.close()


def test_frames_pass_in_order_and_the_sender_does_not_hear_itself(pair):
    first, second = pair
    first.write(FRAMES)
    assert second.wait_readable(soon())
    assert second.read() == list(FRAMES)
    assert first.read() == []


def test_silence_ends_at_the_deadline(pair):
    before = time.monotonic()
    assert pair[0].wait_readable(soon(0.02)) is False
    assert 0.015 < time.monotonic() - before < 1.0


def test_fd_frames_carry_64_bytes_and_the_bit_rate_switch():
    first, second = both(*(PythonCan("virtual", "fd", 1_000_000, 5_000_000) for _ in range(2)))
    frame = Frame(0x8001, bytes(range(64)), extended=True, fd=True, brs=True)
    first.write([frame])
    assert second.wait_readable(soon())
    assert second.read() == [frame]
    first.close()
    second.close()


def test_what_no_controller_could_send_is_refused_before_the_bus(pair):
    with pytest.raises(BadSetpoint, match="CAN does not have"):
        pair[0].write([Frame(0x123, bytes(9))])


def test_an_error_frame_of_bus_off_is_an_error_and_others_are_not_frames(pair):
    first, _ = pair
    peer = can.Bus(interface="virtual", channel="pair")
    peer.send(can.Message(arbitration_id=kernel_can.ERR_RESTARTED, is_error_frame=True))
    peer.send(can.Message(arbitration_id=0x5, is_extended_id=False))
    assert first.wait_readable(soon())
    assert [frame.id for frame in first.read()] == [0x5]
    peer.send(can.Message(arbitration_id=kernel_can.ERR_BUS_OFF, is_error_frame=True))
    with pytest.raises(BusOff, match=r"left the bus[\s\S]*termination"):
        first.wait_readable(soon())
    peer.shutdown()


def test_a_bus_that_is_not_open_says_so():
    bus = PythonCan("virtual", "closed", 1_000_000)
    for use in (bus.read, lambda: bus.write(FRAMES), lambda: bus.wait_readable(soon())):
        with pytest.raises(PortGone, match="not open"):
            use()
    bus.close()


def test_an_unknown_kind_is_refused():
    with pytest.raises(PortError, match="slcan, virtual, udp_multicast, socketcan"):
        PythonCan("pigeon", "can0", 1_000_000)


@pytest.mark.parametrize(
    ("kind", "channel", "baud"), [("slcan", "/dev/ttyNOTHERE", 1_000_000), ("socketcan", "nocan9", 1_000_000)]
)
def test_a_bus_that_is_not_there_is_one_clear_error(kind, channel, baud):
    with pytest.raises(PortError, match=f"cannot open {kind}:{channel}"):
        PythonCan(kind, channel, baud).open()


class Slcan:
    """An adapter on a pty, as far as a test needs one: we read its bytes and speak them."""

    def __init__(self):
        self.line = PtyPair()
        self.bus = PythonCan("slcan", self.line.port, 1_000_000)
        self.bus.open()

    def heard(self, ending):
        """What the adapter hears, up to `ending`."""
        heard, until = b"", time.monotonic() + 2.0
        while not heard.endswith(ending) and time.monotonic() < until:
            select.select([self.line.master_fd], [], [], 0.1)
            heard += self.line.read()
        return heard

    def close(self):
        self.bus.close()
        self.line.close()


@pytest.fixture
def slcan():
    adapter = Slcan()
    yield adapter
    adapter.close()


def test_slcan_sets_the_bit_rate_and_speaks_lawicel(slcan):
    # Lawicel CANUSB manual: C close, S8 1 Mbit/s, O open; t iii l dd.. standard, T 8 digits extended, r remote
    assert b"S8\r" in slcan.heard(b"O\rO\r")
    slcan.bus.write(FRAMES)
    assert slcan.heard(b"r7FF0\r") == b"t12321122\rT18DAF11080000000000000000\rr7FF0\r"


def test_slcan_reads_frames_that_arrive_in_pieces(slcan):
    slcan.line.write(b"t1232112")
    assert slcan.bus.wait_readable(soon(0.02)) is False
    slcan.line.write(b"2\rt00101\r")
    assert slcan.bus.wait_readable(soon())
    frames = slcan.bus.read()
    assert frames[0] == Frame(0x123, b"\x11\x22")


def test_a_pulled_slcan_adapter_is_one_clear_error(slcan):
    slcan.line.close()
    with pytest.raises(PortGone, match="died"):
        slcan.bus.read()


MULTICAST = """
    import time
    from firmware_bridge.transport.base import Frame
    from firmware_bridge.transport.python_can import PythonCan
    here, there = (PythonCan("udp_multicast", "239.74.163.2", 1_000_000, 5_000_000) for _ in range(2))
    here.open(); there.open()
    frames = [Frame(0x101, bytes(range(48)), fd=True, brs=True), Frame(0x102, b"ab")]
    here.write(frames)
    got = []
    until_ns = time.monotonic_ns() + 2_000_000_000
    while len(got) < 2 and there.wait_readable(until_ns):
        got += there.read()
    assert got == frames, got
    assert not here.wait_readable(time.monotonic_ns() + 50_000_000), here.read()  # not its own
    there.write(frames[:1])  # the same frame, from another: heard
    assert here.wait_readable(until_ns) and here.read() == frames[:1]
    here.close(); there.close()
"""


def test_udp_multicast_joins_hosts_in_a_network_namespace_of_its_own():
    """Never in the network of this machine: a namespace with nothing but `lo`."""
    setup = "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && exec "
    command = ["unshare", "-rn", "sh", "-c", setup + f'{sys.executable} -c "$SCRIPT"']
    probe = subprocess.run(["unshare", "-rn", "sh", "-c", setup + "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no network namespace here: {probe.stderr.strip()}")
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "SCRIPT": textwrap.dedent(MULTICAST), "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 0, done.stderr
