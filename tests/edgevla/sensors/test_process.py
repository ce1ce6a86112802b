"""A camera process: newest frames with true stamps, a word for every silence, no orphan and no hang."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgevla.errors import BadInput
from edgevla.sensors.process import camera_config

sys.path.insert(0, str(Path(__file__).parent))

from cameras import LIVE, ROOT, CameraProcess, needs_gst, solid, write_pictures


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(source, **options):
        started.append(CameraProcess(source, **options))
        return started[-1]

    yield begin
    for camera in started:
        if not camera.process.stdout.closed:
            camera.kill()


def gone(pid, within_s=3.0):
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_camera_says_what_it_is_and_publishes_young_frames_in_order(start, tmp_path):
    folder = write_pictures(tmp_path / "film", [solid((200, 10, 20)), solid((10, 20, 200))])
    camera = start(f"file:{folder},loop")
    told = camera.hear("camera")
    assert told["name"] == "front"
    assert told["device"].startswith("file:sha256:")
    assert (told["mode"]["width"], told["mode"]["height"], told["mode"]["rate_hz"]) == (48, 32, 40.0)
    first = camera.frame()
    second = camera.frame(after=first.sequence)
    assert first.image.shape == (32, 48, 3)
    assert {tuple(first.image[0, 0]), tuple(second.image[0, 0])} <= {(200, 10, 20), (10, 20, 200)}  # RGB kept
    assert first.stamp_ns < second.stamp_ns <= time.monotonic_ns()
    assert camera.end() == 0
    captured = camera.rows.newest()
    assert {first.stamp_ns: first.sequence, second.stamp_ns: second.sequence}.items() <= dict(
        zip(captured["stamp_ns"].tolist(), captured["sequence"].tolist(), strict=True)
    ).items()
    assert (captured["stamp_ns"] <= captured["read_ns"]).all()
    assert (captured["read_ns"] < captured["visible_ns"]).all()


def test_a_recording_that_ends_is_an_error_and_no_silence(start, tmp_path):
    camera = start(f"file:{write_pictures(tmp_path / 'film', [solid(1)] * 4)}")
    error = camera.hear("error")
    assert error["exit_code"] == 5
    assert "has ended" in error["message"]
    assert camera.process.wait(5.0) == 5


def test_another_size_is_one_error_and_no_frame(start, tmp_path):
    camera = start(f"file:{write_pictures(tmp_path / 'film', [solid(1, width=50)])}")
    error = camera.hear("error")
    assert error["exit_code"] == 4
    assert "50 x 32" in error["message"]
    assert camera.slot.latest() is None
    assert camera.process.wait(5.0) == 4


def test_a_camera_that_is_not_there_is_a_device_fault(start):
    camera = start("v4l2:/dev/video99")
    assert camera.hear("error")["exit_code"] == 5
    assert camera.process.wait(5.0) == 5


def test_a_configuration_that_is_none_is_refused():
    for line in ("", "[]", '{"name": 1}'):
        with pytest.raises(BadInput, match="configuration"):
            camera_config(line)


def test_a_camera_ends_with_its_parent(tmp_path):
    folder = write_pictures(tmp_path / "film", [solid(1)])
    code = (
        "import os, sys, time; sys.path.insert(0, 'tests/edgevla/sensors'); from cameras import CameraProcess;"
        f"c = CameraProcess('file:{folder},loop'); c.hear('camera'); print(c.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def test_a_camera_process_that_was_stopped_never_shows_an_old_picture_as_new(start, tmp_path):
    camera = start(f"file:{write_pictures(tmp_path / 'film', [solid(i) for i in range(240)])}", rate_hz=40.0)
    first = camera.frame()
    camera.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    resumed_ns = time.monotonic_ns()
    camera.process.send_signal(signal.SIGCONT)
    seen = [first]
    while seen[-1].stamp_ns < resumed_ns:
        seen.append(camera.frame(after=seen[-1].sequence))
    for frame in seen:  # picture i was due i periods after the first
        age = int(frame.image[0, 0, 0]) - int(first.image[0, 0, 0])
        assert frame.stamp_ns - first.stamp_ns == age * 25_000_000
    assert seen[-1].stamp_ns - first.stamp_ns > 0.4e9
    assert len(seen) < 12  # of 20 periods: those of the stop are passed over, not made up


@needs_gst
def test_a_pipeline_whose_rows_are_padded_gives_straight_pictures_of_the_right_colours(start):
    caps = "video/x-raw,width=97,height=51,framerate=40/1"  # 291 bytes a row, 292 in the pipe
    camera = start(f"gst:videotestsrc is-live=true pattern=smpte ! {caps}", width=97, height=51)
    image = camera.frame().image
    assert image.shape == (51, 97, 3)
    # SMPTE bars: grey, yellow, cyan, green, magenta, red, blue
    bars = [image[10, round((i + 0.5) * 97 / 7)] for i in range(7)]
    expected = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1]]) * 255
    assert np.abs(np.array(bars).astype(int) - expected).max() < 30
    assert camera.end() == 0


@needs_gst
def test_a_pipeline_that_is_killed_is_told_and_opened_again(start):
    camera = start(f"gst:{LIVE}")
    before = camera.frame()
    os.kill(camera.child(), signal.SIGKILL)
    assert "killed by signal 9" in camera.hear("camera-lost")["message"]
    after = camera.frame(after=camera.slot.latest().sequence)
    assert after.stamp_ns > before.stamp_ns
    assert camera.end() == 0


@needs_gst
def test_a_pipeline_that_stalls_is_a_fault_with_an_age_and_resumes(start):
    camera = start(f"gst:{LIVE}", stall_s=0.2)
    camera.frame()
    os.kill(camera.child(), signal.SIGSTOP)
    stalled = camera.hear("camera-stalled")
    assert 0.2 <= stalled["age_s"] < 2.0
    assert camera.slot.latest().stamp_ns < time.monotonic_ns() - 0.2e9  # the old picture keeps its old stamp
    camera.hear("camera-lost")  # after a second of silence it is opened again
    camera.hear("camera-resumed")
    assert time.monotonic_ns() - camera.slot.latest().stamp_ns < 2e9
    assert camera.end() == 0


@needs_gst
def test_a_slow_reader_gets_the_newest_frame_and_does_not_delay_the_camera(start):
    camera = start(f"gst:{LIVE}")
    first = camera.frame()
    time.sleep(1.0)
    last = camera.slot.latest()
    assert last.sequence - first.sequence > 20  # of 40: the tests share their cores
    assert time.monotonic_ns() - last.stamp_ns < 0.5e9
    assert camera.end() == 0


@needs_gst
def test_the_pipeline_ends_with_a_camera_process_that_is_killed(start):
    camera = start(f"gst:{LIVE}")
    camera.frame()
    child = camera.child()
    camera.kill()
    assert gone(child)


@needs_gst
def test_a_camera_at_rest_takes_little_of_a_core(start):
    camera = start(f"gst:{LIVE}")
    camera.frame()
    ticks, begun = _cpu_ticks(camera.process.pid), time.monotonic()
    time.sleep(1.5)
    share = (_cpu_ticks(camera.process.pid) - ticks) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)
    assert share < 0.3
    assert camera.end() == 0


def _cpu_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
