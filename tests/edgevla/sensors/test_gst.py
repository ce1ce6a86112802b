"""GStreamer for real: what a pipeline offers is known before its first picture is used."""

import sys
import time
from pathlib import Path

import pytest

from edgevla.errors import BadInput, DeviceFault, Usage
from edgevla.sensors.sources.base import Wanted
from edgevla.sensors.sources.csi import csi_pipeline, csi_port
from edgevla.sensors.sources.gst import fraction, open_gst

sys.path.insert(0, str(Path(__file__).parent))

from cameras import LIVE, needs_gst

WANTED = Wanted(48, 32, 40.0)


def read_for(source, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        source.read(0.1)


@needs_gst
@pytest.mark.parametrize(
    ("caps", "offer"),
    [
        ("width=320,height=240,framerate=40/1", "320 x 240 at 40 Hz"),
        ("width=48,height=32,framerate=30/1", "48 x 32 at 30 Hz"),
        ("width=32,height=48,framerate=40/1", "32 x 48 at 40 Hz"),
    ],
)
def test_another_size_or_rate_is_refused_naming_what_it_offers_and_what_to_type(caps, offer):
    with pytest.raises(BadInput) as caught:
        open_gst(f"videotestsrc is-live=true ! video/x-raw,{caps}", WANTED)
    assert offer in str(caught.value)
    assert "videoscale ! videorate ! video/x-raw,width=48,height=32,framerate=40/1" in str(caught.value)


@needs_gst
@pytest.mark.parametrize("pipeline", ["nosuchelement", "videotestsrc nosuchproperty=1", "v4l2src device=/dev/video99"])
def test_a_pipeline_that_cannot_start_says_why(pipeline):
    with pytest.raises(DeviceFault, match=r"has ended(.|\n)*(no element|no property|ERROR)"):
        open_gst(pipeline, WANTED)


def test_quotes_that_do_not_pair_are_bad_input():
    with pytest.raises(BadInput, match="quotes"):
        open_gst("videotestsrc ! 'video/x-raw", WANTED)


@needs_gst
def test_a_pipeline_without_a_clock_is_refused():
    source = open_gst("videotestsrc ! video/x-raw,width=48,height=32,framerate=40/1", WANTED)
    with pytest.raises(BadInput, match="not paced by a clock"):
        read_for(source, 10.0)
    source.close()


@needs_gst
def test_a_pipeline_that_ends_is_a_fault():
    source = open_gst(f"videotestsrc num-buffers=40 {LIVE.removeprefix('videotestsrc')}", WANTED)
    with pytest.raises(DeviceFault, match="exit code 0"):
        read_for(source, 10.0)
    source.close()
    source.close()


@needs_gst
def test_a_pipeline_read_late_gives_old_pictures_old_stamps_and_then_a_new_one():
    source = open_gst(LIVE, WANTED)
    assert source.read(5.0) is not None
    source.read(0.0)
    slept_ns = time.monotonic_ns()
    time.sleep(0.5)
    woken_ns = time.monotonic_ns()
    stamps = [shot.stamp_ns for _ in range(6) if (shot := source.read(1.0)) is not None]
    waited = [stamp for stamp in stamps if stamp <= woken_ns]
    assert waited  # those that stood in the pipe
    assert max(waited) <= slept_ns + 50_000_000  # as old as they may be, not as young
    assert max(stamps) > woken_ns
    source.close()


@pytest.mark.parametrize(
    ("rate_hz", "text"), [(30.0, "30/1"), (40.0, "40/1"), (30000 / 1001, "30000/1001"), (12.5, "25/2")]
)
def test_a_rate_is_written_as_caps_have_it(rate_hz, text):
    assert fraction(rate_hz) == text


def test_the_pipeline_of_a_csi_camera_asks_for_the_size_and_rate_that_are_wanted():
    assert csi_pipeline(1, Wanted(640, 480, 30.0)) == (
        "nvarguscamerasrc sensor-id=1 ! 'video/x-raw(memory:NVMM),width=640,height=480,framerate=30/1' "
        "! nvvidconv ! video/x-raw,format=BGRx,width=640,height=480"
    )


@pytest.mark.parametrize("value", ["", "a", "-1", "100", "0 ! filesink"])
def test_a_csi_camera_is_a_small_number(value):
    with pytest.raises(Usage, match="csi:N"):
        csi_port(value)
