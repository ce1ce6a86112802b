"""The serial port over a real pty: bytes both ways, and one clear error for each way it can fail."""

import os
import time

import pytest

from firmware_bridge.errors import BridgeError, LinkCongested, PortError, PortGone
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.transport.serial import SerialTransport


def soon(seconds=2.0):
    return time.monotonic_ns() + int(seconds * 1e9)


@pytest.fixture
def line():
    with PtyPair() as pair:
        yield pair


@pytest.fixture
def transport(line):
    opened = SerialTransport(line.port, 921_600)
    opened.open()
    yield opened
    opened.close()


def test_all_256_byte_values_pass_both_ways_unchanged(line, transport):
    everything = bytes(range(256))
    transport.write(everything)
    assert transport.wait_readable(time.monotonic_ns()) is False  # no echo
    assert line.read() == everything
    assert line.write(everything)
    assert transport.wait_readable(soon()) is True
    assert transport.read() == everything


def test_silence_reads_as_nothing_and_does_not_wait(line, transport):
    assert transport.read() == b""
    assert line.read() == b""


def test_a_missing_port_says_what_to_plug_in():
    with pytest.raises(PortError, match=r"cannot open the serial port /dev/ttyNOTHERE[\s\S]*plug the arm in") as caught:
        SerialTransport("/dev/ttyNOTHERE", 921_600).open()
    assert caught.value.exit_code == 5
    assert isinstance(caught.value, BridgeError)


def test_a_file_that_is_no_port_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PortError, match=r"expected: a serial port at 921600 baud"):
        SerialTransport(str(tmp_path / "file"), 921_600).open()


def test_a_port_in_use_is_refused(line, transport):
    with pytest.raises(PortError, match="end the other program"):
        SerialTransport(line.port, 921_600).open()


def test_a_baud_rate_that_is_none_is_refused(line):
    with pytest.raises(PortError, match="baud"):
        SerialTransport(line.port, -1).open()


def test_a_port_that_dies_is_one_clear_error_for_each_call(line, transport):
    line.close()
    with pytest.raises(PortGone, match=r"died[\s\S]*check the cable"):
        transport.read()
    with pytest.raises(PortGone, match="died"):
        transport.write(b"x")


def test_a_closed_transport_says_so_and_closes_again_quietly(transport):
    transport.close()
    transport.close()
    for use in (transport.read, lambda: transport.write(b"x"), lambda: transport.wait_readable(soon())):
        with pytest.raises(PortGone, match="not open"):
            use()


def test_bytes_left_over_from_before_are_not_read(line):
    line.write(b"stale")
    transport = SerialTransport(line.port, 921_600)
    transport.open()
    assert transport.read() == b""
    transport.close()


def test_a_device_that_stops_reading_congests_the_link_instead_of_blocking_it(transport):
    def fill():
        for _ in range(10_000):
            transport.write(b"x" * 64)

    with pytest.raises(LinkCongested, match="takes no more bytes"):
        fill()


def test_a_host_that_stops_reading_does_not_block_the_device(line, transport):
    assert not all(line.write(b"x" * 64) for _ in range(10_000))


def test_a_closed_pair_leaves_no_device_file():
    pair = PtyPair()
    port = pair.port
    assert os.path.exists(port)
    pair.close()
    assert not os.path.exists(port)
