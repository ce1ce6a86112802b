"""Frames from a pipe: the newest whole one, and a stamp that is never later than its arrival."""

import os
import threading
import time

import pytest

from edgevla.errors import DeviceFault
from edgevla.sensors.sources.pipe import FramePipe

SIZE = 100


@pytest.fixture
def ends():
    read_fd, write_fd = os.pipe()
    open_ends = [read_fd, write_fd]
    yield open_ends
    for fd in open_ends:
        if fd >= 0:
            os.close(fd)


def frame(value):
    return bytes([value]) * SIZE


def pipe_of(ends):
    return FramePipe(ends[0], SIZE, time.monotonic_ns())


def test_nothing_comes_in_time(ends):
    begun = time.monotonic()
    assert pipe_of(ends).read(0.05) is None
    assert 0.04 < time.monotonic() - begun < 0.5


def test_a_frame_that_was_waited_for_is_stamped_as_it_arrives(ends):
    pipe, sent = pipe_of(ends), []

    def send():
        sent.append(time.monotonic_ns())
        os.write(ends[1], frame(1))

    threading.Timer(0.05, send).start()
    raw, stamp_ns = pipe.read(2.0)
    assert raw == frame(1)
    assert sent[0] <= stamp_ns <= time.monotonic_ns()


def test_only_the_newest_of_several_frames_is_handed_out(ends):
    pipe = pipe_of(ends)
    os.write(ends[1], frame(1) + frame(2) + frame(3))
    assert pipe.read(1.0)[0] == frame(3)
    assert pipe.received == 3
    assert pipe.read(0.01) is None


def test_frames_that_waited_for_a_stopped_reader_are_as_old_as_they_may_be(ends):
    pipe = pipe_of(ends)
    assert pipe.read(0.01) is None  # seen empty here
    seen_empty_ns = time.monotonic_ns()
    os.write(ends[1], frame(1))
    time.sleep(0.1)  # the reader is stopped
    _, stamp_ns = pipe.read(1.0)
    assert stamp_ns <= seen_empty_ns


def test_the_rest_of_a_frame_that_was_cut_by_a_stopped_reader_does_not_make_it_young(ends):
    pipe = pipe_of(ends)
    assert pipe.read(0.01) is None
    seen_empty_ns = time.monotonic_ns()
    os.write(ends[1], frame(1)[:60])
    time.sleep(0.05)
    assert pipe.read(0.01) is None
    os.write(ends[1], frame(1)[60:])
    raw, stamp_ns = pipe.read(1.0)
    assert raw == frame(1)
    assert stamp_ns <= seen_empty_ns


def test_a_whole_frame_does_not_wait_for_the_rest_of_the_next(ends):
    pipe = pipe_of(ends)
    os.write(ends[1], frame(1) + frame(2)[:30])
    begun = time.monotonic()
    assert pipe.read(5.0)[0] == frame(1)
    assert time.monotonic() - begun < 1.0
    os.write(ends[1], frame(2)[30:])
    assert pipe.read(1.0)[0] == frame(2)


def test_a_writer_that_never_pauses_does_not_keep_the_reader(ends):
    pipe, over = pipe_of(ends), threading.Event()

    def flood():
        while not over.is_set():
            os.write(ends[1], frame(7))

    writer = threading.Thread(target=flood)
    writer.start()
    begun = time.monotonic()
    assert pipe.read(0.1)[0] == frame(7)
    assert time.monotonic() - begun < 2.0
    over.set()
    pipe.read(0.01)  # make room, so that the writer can end
    writer.join(2.0)
    assert not writer.is_alive()


def test_the_end_of_the_pipe_is_a_fault_after_the_last_whole_frame(ends):
    pipe = pipe_of(ends)
    os.write(ends[1], frame(1) + b"cut")
    os.close(ends[1])
    ends[1] = -1
    assert pipe.read(1.0)[0] == frame(1)
    with pytest.raises(DeviceFault, match="ceased"):
        pipe.read(1.0)
