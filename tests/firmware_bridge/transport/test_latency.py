"""Low latency of serial adapters: the flag in the kernel's structure, FTDI's timer in sysfs, and a pty's none."""

import struct

import pytest

from firmware_bridge.transport.latency import has_low_latency, set_low_latency, with_low_latency
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.transport.serial import SerialTransport

# linux/serial.h: int type, int line, unsigned port, int irq, int flags, then 52 bytes more on 64-bit machines.
# type 4 (16550A), line 0, port 0x3f8, irq 4, flags 0x10000040 (ASYNC_BOOT_AUTOCONF and a bit of the kernel's own)
KERNELS = struct.pack("=iiIiI", 4, 0, 0x3F8, 4, 0x10000040) + bytes(108)


def test_only_the_flag_of_low_latency_changes():
    changed = with_low_latency(KERNELS)
    assert struct.unpack_from("=iiIiI", changed) == (4, 0, 0x3F8, 4, 0x10002040)  # 1 << 13: linux/tty_flags.h
    assert changed[20:] == KERNELS[20:]
    assert (has_low_latency(KERNELS), has_low_latency(changed)) == (False, True)


def test_a_pty_has_no_such_mode_and_opens_all_the_same():
    with PtyPair() as line:
        port = SerialTransport(line.port, 921_600)
        port.open()
        assert port.low_latency is None
        assert port.fileno() >= 0
        port.close()
        assert port.fileno() == -1


@pytest.fixture
def ftdi(tmp_path):
    """sysfs of an FTDI adapter as its driver shows it: 16 ms by default."""
    timer = tmp_path / "ttyUSB7" / "device" / "latency_timer"
    timer.parent.mkdir(parents=True)
    timer.write_text("16\n")
    return timer


def test_the_timer_of_an_ftdi_adapter_is_set_to_1_ms_and_read_back(ftdi, tmp_path):
    with PtyPair() as line:
        assert set_low_latency(line.master_fd, "/dev/ttyUSB7", sysfs=tmp_path) is True
    assert ftdi.read_text() == "1"


def test_a_timer_that_does_not_change_is_reported(ftdi, tmp_path):
    ftdi.unlink()
    ftdi.symlink_to("/sys/class/net/lo/mtu_is_not_here")  # nothing to read: as if there were no timer
    with PtyPair() as line:
        assert set_low_latency(line.master_fd, "/dev/ttyUSB7", sysfs=tmp_path) is None
        ftdi.unlink()
        ftdi.symlink_to("/sys/class/net/lo/addr_len")  # a whole number, 6, that not even root can change
        assert set_low_latency(line.master_fd, "/dev/ttyUSB7", sysfs=tmp_path) is False


def test_an_adapter_by_its_stable_name_is_found_by_what_it_points_at(ftdi, tmp_path):
    by_id = tmp_path / "usb-FTDI_USB-if00-port0"
    by_id.symlink_to("ttyUSB7")
    with PtyPair() as line:
        assert set_low_latency(line.master_fd, str(by_id), sysfs=tmp_path) is True
