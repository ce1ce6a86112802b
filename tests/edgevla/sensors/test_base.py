"""A camera as it is typed, and the one error when a source delivers another picture."""

import numpy as np
import pytest

from edgevla.errors import BadInput, Usage
from edgevla.sensors.sources.base import (
    SourceName,
    Wanted,
    parse_camera,
    parse_cameras,
    parse_source,
    require_image,
    require_mode,
)

WANTED = Wanted(96, 64, 30.0)


@pytest.mark.parametrize(
    "text", ["v4l2:/dev/video0", "csi:0", "gst:videotestsrc ! a=b", "file:a,loop", "v4l2:/dev/v,MJPG"]
)
def test_a_source_is_read_and_written_alike(text):
    assert str(parse_source(text)) == text


def test_a_camera_is_a_name_and_a_source_and_the_source_may_hold_equal_signs():
    assert parse_camera("front=gst:videotestsrc pattern=ball") == (
        "front",
        SourceName("gst", "videotestsrc pattern=ball"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "front",
        "front=",
        "=file:x",
        "front=/dev/video0",
        "front=usb:0",
        "front=file:",
        "a b=csi:0",
        "../x=csi:0",
        "front=file:\0",
    ],
)
def test_what_is_no_camera_is_refused(text):
    with pytest.raises(Usage, match="expected"):
        parse_camera(text)


@pytest.mark.parametrize("texts", [["a=csi:0", "a=csi:1"], ["a=csi:0", "b=csi:0"]])
def test_a_name_or_a_source_said_twice_is_refused(texts):
    with pytest.raises(Usage, match="once"):
        parse_cameras(texts)


@pytest.mark.parametrize(("width", "height", "rate_hz"), [(96, 64, 30.0), (96, 64, 29.97), (96, 64, 0.0)])
def test_the_picture_that_is_wanted_passes_and_ntsc_counts_as_30_hz(width, height, rate_hz):
    require_mode("x", WANTED, width, height, rate_hz, "", "")


@pytest.mark.parametrize(
    ("width", "height", "rate_hz"), [(95, 64, 30.0), (64, 96, 30.0), (96, 64, 25.0), (96, 64, 60.0)]
)
def test_another_size_or_rate_is_refused_naming_what_is_offered(width, height, rate_hz):
    with pytest.raises(BadInput, match=r"96 x 64 at 30 Hz(.|\n)*the offer"):
        require_mode("x", WANTED, width, height, rate_hz, "the offer", "")


@pytest.mark.parametrize(
    "image",
    [
        None,
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96, 4), np.uint8),
        np.zeros((96, 64, 3), np.uint8),
        np.zeros((64, 96, 3), np.uint16),
    ],
)
def test_a_picture_of_another_kind_is_refused(image):
    with pytest.raises(BadInput, match=r"uint8 \(64, 96, 3\)"):
        require_image("x", image, WANTED)
