"""CameraSlot: a frame arrives whole, with its capture time."""

import os

import numpy as np
import pytest

from edgevla.sensors.camera import CameraSlot


@pytest.fixture
def camera():
    slot = CameraSlot.create(width=6, height=4)
    yield slot
    slot.close()


def frame(value: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_no_frame_before_the_first_publish(camera):
    assert camera.latest() is None


def test_the_newest_frame_comes_with_its_stamp(camera):
    camera.publish(frame(1), 1_000)
    camera.publish(frame(2), 2_000)
    latest = camera.latest()
    assert latest.stamp_ns == 2_000
    assert latest.image.shape == (4, 6, 3)
    assert (latest.image == 2).all()


def test_a_reader_by_descriptor_sees_the_same_frame(camera):
    reader = CameraSlot.attach(os.dup(camera.fd))
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    camera.publish(picture[::-1], 5)  # not contiguous
    assert (reader.latest().image == picture[::-1]).all()
    reader.close()


def test_the_same_frame_is_not_handed_out_twice_when_asked_for_a_newer_one(camera):
    camera.publish(frame(1), 1)
    first = camera.latest()
    assert camera.latest(after=first.sequence) is None


def test_a_smaller_frame_keeps_its_own_shape(camera):
    camera.publish(frame(9, height=2, width=3), 1)
    assert camera.latest().image.shape == (2, 3, 3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.float32), np.zeros((4, 6, 4), np.uint8)]
)
def test_a_frame_of_another_kind_is_refused(camera, wrong):
    with pytest.raises(ValueError, match="uint8"):
        camera.publish(wrong, 1)


def test_a_frame_larger_than_the_slot_is_refused(camera):
    with pytest.raises(ValueError, match="the slot holds"):
        camera.publish(frame(1, height=40), 1)


@pytest.mark.parametrize(("width", "height"), [(0, 4), (4, 5000)])
def test_an_impossible_camera_size_is_refused(width, height):
    with pytest.raises(ValueError, match=r"1\.\.4096"):
        CameraSlot.create(width, height)
