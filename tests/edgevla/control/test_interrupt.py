"""Ctrl-C, SIGTERM, even SIGKILL at any moment: the arm stopped, no process left (so no pty, no memory)."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_S = 60.0  # a safety net for a busy machine, not a measurement


class Loop:
    """tests/edgevla/control/loop.py in a process of its own, found again by a mark in its environment."""

    def __init__(self):
        self.mark = f"EDGEVLA_TEST_MARK={uuid.uuid4().hex}"
        key, value = self.mark.split("=")
        path = os.pathsep.join([str(ROOT), str(HERE)])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "loop.py"), "away"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, key: value, "PYTHONPATH": path},
        )
        self.lines = []

    def read_until(self, word):
        for line in self.process.stdout:
            self.lines.append(line)
            if word in line:
                return
        raise AssertionError(f"{word!r} never came: {self.lines} {self.process.stderr.read()}")

    def finish(self):
        out, errors = self.process.communicate(timeout=PATIENCE_S)
        return "".join(self.lines) + out, errors

    def others(self):
        """Processes of this loop that are still there, as command lines."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes())
            except OSError:
                continue
        return found

    def signal_child(self, name, number):
        """A signal to the process of this loop with `name` in its command line."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                mine = self.mark.encode() in (entry / "environ").read_bytes()
                if mine and name in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), number)
            except OSError:
                continue

    def wait_for_nobody(self):
        until = time.monotonic() + PATIENCE_S
        while self.others() and time.monotonic() < until:
            time.sleep(0.05)
        assert self.others() == []


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.process.kill()
    loop.process.wait()
    loop.process.stdout.close()
    loop.process.stderr.close()


@pytest.mark.parametrize("word", ["arm connected", "policy ready", "armed"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_each_stage_stops_the_arm_and_leaves_nothing(loop, word, number):
    loop.read_until(word)
    loop.process.send_signal(number)
    out, errors = loop.finish()
    assert loop.others() == []
    assert "END operator stop" in out, errors
    assert loop.process.returncode == 0
    assert "'mode': 'ARMED'" not in out


@pytest.mark.parametrize("after_s", [0.05, 0.4, 1.5])
def test_a_signal_while_the_arm_moves_ramps_holds_and_latches(loop, after_s):
    loop.read_until("armed")
    time.sleep(after_s)
    loop.process.send_signal(signal.SIGINT)
    out, errors = loop.finish()
    assert loop.others() == []
    assert "END operator stop |" in out, errors
    assert "'mode': 'STOPPED'" in out
    assert "'watchdog_trips': 0" in out


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.2, 0.35])
def test_a_signal_while_processes_start_leaves_nothing(loop, after_s):
    time.sleep(after_s)
    loop.process.send_signal(signal.SIGINT)
    loop.finish()
    assert loop.others() == []


def test_a_second_and_third_signal_do_not_disturb_the_stop(loop):
    loop.read_until("armed")
    for _ in range(3):
        loop.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    out, errors = loop.finish()
    assert loop.others() == []
    assert "END operator stop |" in out, errors
    assert "'mode': 'STOPPED'" in out


@pytest.mark.parametrize("word", ["arm connected", "armed"])
def test_even_a_killed_parent_leaves_no_process(loop, word):
    loop.read_until(word)
    loop.process.kill()
    loop.process.wait()
    loop.wait_for_nobody()


def test_a_killed_virtual_arm_ends_the_run_as_a_device_fault(loop):
    loop.read_until("armed")
    loop.signal_child(b"virtual_arm", signal.SIGKILL)
    out, errors = loop.finish()
    assert loop.others() == []
    assert "END bus: the serial port" in out, errors
    assert loop.process.returncode == 5


def test_a_killed_servo_ends_the_run_and_the_arms_own_watchdog_stops_the_arm(loop):
    loop.read_until("armed")
    time.sleep(0.3)
    loop.signal_child(b"edgevla.control.servo", signal.SIGKILL)
    out, errors = loop.finish()
    assert loop.others() == []
    assert "END servo process: exit code -9" in out, errors
    assert "'mode': 'STOPPED'" in out
    assert "'watchdog_trips': 1" in out
    assert loop.process.returncode == 5


def test_a_suspended_servo_ends_the_run_long_before_its_time_is_over(loop):
    loop.read_until("armed")
    time.sleep(0.3)
    suspended_s = time.monotonic()
    loop.signal_child(b"edgevla.control.servo", signal.SIGSTOP)
    out, errors = loop.finish()
    assert time.monotonic() - suspended_s < 15.0  # of the 20 s the run is allowed, and 25 s of patience
    assert loop.others() == []
    assert "END the servo process hangs" in out, errors
    assert "'mode': 'STOPPED'" in out
    assert "'watchdog_trips': 1" in out
    assert loop.process.returncode == 5
