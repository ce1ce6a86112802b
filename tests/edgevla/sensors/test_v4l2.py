"""V4L2 without a device: stamps, layouts of the kernel's structures, errors. With one: tests/vivid."""

import struct

import pytest

from edgevla.errors import DeviceFault, Usage
from edgevla.sensors import v4l2_query
from edgevla.sensors.sources.base import Wanted
from edgevla.sensors.sources.v4l2 import choose_stamp, open_v4l2

S = 1_000_000_000


def test_the_drivers_stamp_is_taken_where_it_counts_the_monotonic_clock():
    assert choose_stamp(9 * S, begun_ns=9 * S, done_ns=10 * S, queued_ns=0) == (9 * S, "driver, monotonic")


@pytest.mark.parametrize("driver_ns", [0, -1, 11 * S, 1_700_000_000 * S])
def test_a_stamp_of_no_clock_or_of_the_wall_clock_is_not_believed(driver_ns):
    assert choose_stamp(driver_ns, begun_ns=9 * S, done_ns=10 * S, queued_ns=0) == (10 * S, "arrival")


def test_a_stamp_of_a_minute_ago_is_of_another_clock():
    assert choose_stamp(30 * S, begun_ns=99 * S, done_ns=100 * S, queued_ns=0)[1] == "arrival"


def test_a_frame_that_stood_in_its_buffer_is_as_old_as_it_may_be():
    assert choose_stamp(0, begun_ns=10 * S, done_ns=10 * S + 100_000, queued_ns=7 * S) == (7 * S, "arrival")


def test_requests_are_those_of_the_kernels_header():
    # linux/videodev2.h on x86-64, printed by a C program
    found = [v4l2_query.QUERYCAP, v4l2_query.ENUM_FMT, v4l2_query.ENUM_FRAMESIZES, v4l2_query.ENUM_FRAMEINTERVALS]
    assert found == [0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B]


def test_what_is_no_camera_is_not_listed(tmp_path):
    (tmp_path / "video0").write_text("a file")
    (tmp_path / "video1").symlink_to("/dev/null")
    (tmp_path / "videoX").write_text("")
    assert v4l2_query.devices(tmp_path) == []
    assert v4l2_query.describe_offers("/dev/null") == "nothing that the kernel lists"


def test_an_offer_reads_like_a_camera_s_data_sheet():
    assert str(v4l2_query.Offer("MJPG", 640, 480, (60.0, 29.97))) == "MJPG 640 x 480 at 60/29.97 Hz"
    assert str(v4l2_query.Offer("YUYV", 640, 480, ())) == "YUYV 640 x 480"
    assert struct.pack("<I", 0x47504A4D) == b"MJPG"


@pytest.mark.parametrize("value", ["/dev/video0,", "/dev/video0,MJPEG", "/dev/video0,Mü"])
def test_a_fourcc_has_four_letters(value):
    with pytest.raises(Usage, match="FOURCC"):
        open_v4l2(value, Wanted(640, 480, 30.0))


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(DeviceFault, match="no camera at /dev/video99"):
        open_v4l2("/dev/video99,MJPG", Wanted(640, 480, 30.0))
