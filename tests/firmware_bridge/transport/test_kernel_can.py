"""The kernel's frame layout (linux/can.h): round trips, and python-can's functions for it as the other opinion."""

from __future__ import annotations

import struct
import sys

import can
import pytest
from can.interfaces.socketcan.socketcan import build_can_frame, dissect_can_frame
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.errors import BadSetpoint
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame


@st.composite
def frames(draw) -> Frame:
    extended = draw(st.booleans())
    can_id = draw(st.integers(0, 0x1FFFFFFF if extended else 0x7FF))
    kind = draw(st.sampled_from(["classic", "remote", "fd"]))
    if kind == "remote":
        return Frame(can_id, b"", extended, remote=True)
    size = draw(st.sampled_from(kernel_can.FD_LENGTHS if kind == "fd" else range(9)))
    data = draw(st.binary(min_size=size, max_size=size))
    return Frame(can_id, data, extended, kind == "fd", kind == "fd" and draw(st.booleans()))


def message(frame: Frame) -> can.Message:
    return can.Message(
        arbitration_id=frame.id,
        is_extended_id=frame.extended,
        is_remote_frame=frame.remote,
        data=frame.data,
        is_fd=frame.fd,
        bitrate_switch=frame.brs,
    )


@pytest.mark.skipif(sys.byteorder != "little", reason="the literals are of a little-endian host")
@pytest.mark.parametrize(
    ("frame", "raw"),
    [
        (Frame(0x123, b"\xaa\xbb"), "23010000 02000000 aabb000000000000"),
        (Frame(0x1ABCDEF0, b"", True), "f0debc9a 00000000 0000000000000000"),
        (Frame(0x7FF, b"", remote=True), "ff070040 00000000 0000000000000000"),
        (Frame(0x1, b"\x07", fd=True), "01000000 01040000 07" + "00" * 63),
        (Frame(0x8001, b"\x50" * 12, True, True, True), "01800080 0c050000" + "50" * 12 + "00" * 52),
    ],
    ids=str,
)
def test_frames_as_the_kernel_lays_them_out(frame, raw):
    """linux/can.h: struct can_frame, canfd_frame; bits CAN_EFF_FLAG, CAN_RTR_FLAG, CANFD_BRS, CANFD_FDF."""
    assert kernel_can.pack(frame) == bytes.fromhex(raw)
    assert kernel_can.unpack(bytes.fromhex(raw)) == (frame, 0)


@given(frames())
def test_every_frame_comes_back(frame):
    assert kernel_can.unpack(kernel_can.pack(frame)) == (frame, 0)


@given(frames())
def test_python_can_builds_the_same_bytes(frame):
    theirs = bytearray(build_can_frame(message(frame)))
    theirs[7] = 0  # its DLC; the kernel looks there only in frames of 8 bytes on interfaces with cc-len8-dlc
    assert kernel_can.pack(frame) == theirs


@given(frames())
def test_python_can_reads_ours(frame):
    word, length, flags, data = dissect_can_frame(kernel_can.pack(frame))
    flag = (kernel_can.EXTENDED if frame.extended else 0) | (kernel_can.REMOTE if frame.remote else 0)
    assert word == frame.id | flag
    assert (length, data[:length]) == (len(frame.data), frame.data)
    assert bool(flags & kernel_can.BRS) == frame.brs


@given(frames())
def test_we_read_python_cans(frame):
    assert kernel_can.unpack(build_can_frame(message(frame))) == (frame, 0)


@given(st.binary(max_size=100) | st.binary(min_size=16, max_size=16) | st.binary(min_size=72, max_size=72))
def test_no_bytes_raise(raw):
    frame, error = kernel_can.unpack(raw)
    assert frame is None or error == 0
    if len(raw) not in (16, 72):
        assert (frame, error) == (None, -1)


@pytest.mark.parametrize("size", [16, 72])
def test_a_length_beyond_the_data_is_no_frame(size):
    raw = bytearray(size)
    raw[4] = 9 if size == 16 else 65
    assert kernel_can.unpack(bytes(raw)) == (None, -1)


@pytest.mark.parametrize("error", [kernel_can.ERR_BUS_OFF, kernel_can.ERR_RESTARTED, 0x1FFFFFFF])
def test_error_frames_are_told_from_data(error):
    raw = kernel_can.error_frame(error)
    assert kernel_can.unpack(raw) == (None, error)
    assert dissect_can_frame(raw)[0] == can.interfaces.socketcan.constants.CAN_ERR_FLAG | error
    assert struct.calcsize("=IBBxx8s") == len(raw)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0x800, b""),
        Frame(-1, b""),
        Frame(0x20000000, b"", True),
        Frame(1, bytes(9)),
        Frame(1, bytes(13), fd=True),
        Frame(1, bytes(65), fd=True),
        Frame(1, b"", fd=True, remote=True),
    ],
    ids=str,
)
def test_what_no_controller_could_send_is_refused(frame):
    with pytest.raises(BadSetpoint, match="a frame that CAN does not have"):
        kernel_can.pack(frame)
