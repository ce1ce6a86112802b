"""The guardian for real: a servo-like process is killed or stopped in motion, the hold is seen as bytes on the wire."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from edgevla.control import guardian
from edgevla.control.guardian import GuardianConfig, alarm, require_guardian, to_line
from edgevla.errors import Refused
from edgevla.telemetry.rows import Rows, tick_dtype
from firmware_bridge.feetech import codec
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.virtual.client import VirtualProcess
from profiles import load_arm
from profiles.bridge import joints_of
from tests.edgevla.control.servo_like import STEP_S

ARM = load_arm("so101")
JOINTS = joints_of(ARM, "main")


class Tap:
    """A line between host and virtual arm that notes when each packet of the host passed."""

    def __init__(self, device_port):
        self.host = PtyPair()
        self.port = self.host.port
        self.packets = []  # (ns, packet)
        self._device_fd = os.open(device_port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self):
        decoder = codec.Decoder()
        while not self._end.is_set():
            for fd in select.select([self.host.master_fd, self._device_fd], [], [], 0.01)[0]:
                if fd == self._device_fd:
                    self.host.write(os.read(fd, 4096))
                elif data := self.host.read():
                    now_ns = time.monotonic_ns()
                    os.write(self._device_fd, data)
                    self.packets += [(now_ns, packet) for packet in decoder.feed(data)]

    def goals(self, since_ns):
        """(ns, {id: counts}) of every sync write of goals."""
        found = []
        for at_ns, packet in self.packets:
            if at_ns >= since_ns and packet.code == 0x83 and packet.data[:2] == b"\x2a\x02":
                rows = [packet.data[at : at + 3] for at in range(2, len(packet.data), 3)]
                found.append((at_ns, {row[0]: int.from_bytes(row[1:], "little") for row in rows}))
        return found

    def close(self):
        self._end.set()
        self._thread.join()
        os.close(self._device_fd)
        self.host.close()


class Scene:
    """Virtual arm, tap, servo-like process in motion, guardian."""

    def __init__(self, device, phase="TRACK"):
        self.device = device
        self.tap = Tap(device.port)
        self.rows = Rows.create(tick_dtype(len(ARM.channels), len(ARM.state)), 1000)
        fd = self.rows.fd
        module = "tests.edgevla.control.servo_like"
        self.servo = self._start([module, self.tap.port, str(fd), phase], fd, stdin=subprocess.DEVNULL)
        assert self.servo.stdout.readline() == "moving\n"
        self.guardian = self._start(["edgevla.control.guardian"], fd, stdin=subprocess.PIPE)
        config = GuardianConfig(self.servo.pid, self.tap.port, ARM, STEP_S, 50, fd)
        self.guardian.stdin.write(to_line(config))
        self.guardian.stdin.flush()
        assert self.said()["event"] == "guarding"

    def _start(self, arguments, fd, stdin):
        command = [sys.executable, "-m", *arguments]
        return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, pass_fds=(fd,), text=True)

    def said(self):
        return json.loads(self.guardian.stdout.readline())

    def close(self):
        for process in (self.servo, self.guardian):
            process.kill()
            process.wait()
            process.stdout.close()
        self.guardian.stdin.close()
        self.tap.close()
        self.rows.close()


@pytest.fixture
def device():
    with VirtualProcess("feetech", JOINTS) as process:
        yield process


@pytest.fixture
def scene(device):
    made = []

    def make(phase="TRACK"):
        made.append(Scene(device, phase))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_servo_lost_in_motion_leaves_an_arm_that_holds(scene, device, capsys, number):
    it = scene()
    time.sleep(0.2)
    last_ns = it.tap.goals(0)[-1][0]
    lost_ns = time.monotonic_ns()
    it.servo.send_signal(number)
    event = it.said()
    assert event["event"] == "guardian-held", event
    assert event["joints"] == [joint.name for joint in JOINTS]
    assert event["silent"] == []
    at_ns, goals = it.tap.goals(lost_ns)[-1]  # nobody else writes any more
    reaction_ms = (at_ns - max(lost_ns, last_ns)) / 1e6
    with capsys.disabled():
        print(f"\nhold on the wire {reaction_ms:.1f} ms after {number.name}; {event['why']}")
    assert reaction_ms < 500.0  # 100 ms are promised, and printed above on a quiet machine; this one may be busy
    time.sleep(0.6)
    report = device.do("report")
    assert report["torque_on"] == [True] * 6
    assert report["device"]["goals"] == [goals[joint.id] for joint in JOINTS]
    positions = [at * 4096 / 6.283185 for at in report["position_rad"]]
    assert positions == pytest.approx(list(goals.values()), abs=25)  # at rest there, but for the sag of a soft servo
    assert it.servo.wait(1) == -signal.SIGKILL  # also the stopped one: it must not wake up over a held arm
    assert it.guardian.wait(2) == 0
    assert len(it.tap.goals(at_ns)) == 1  # it acts once


def test_a_servo_that_ends_at_rest_is_left_alone(scene):
    it = scene("LATCHED")
    it.servo.kill()
    lost_ns = time.monotonic_ns()
    assert it.said()["event"] == "guardian-idle"
    assert it.tap.goals(lost_ns + 10_000_000) == []
    assert it.guardian.wait(2) == 0


def test_a_servo_that_stands_still_at_rest_is_left_alone(scene):
    it = scene("LATCHED")
    it.servo.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    assert it.servo.poll() is None
    assert it.guardian.poll() is None


def test_a_run_that_is_gone_does_not_end_the_guardian_before_the_servo(scene):
    it = scene()
    it.guardian.stdin.close()
    it.guardian.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    it.servo.kill()
    assert it.said()["event"] == "guardian-held"


def test_an_arm_without_power_is_a_failure_that_is_told(scene, device):
    it = scene()
    device.do("power", on=False)
    it.servo.kill()
    event = it.said()
    assert event["event"] == "guardian-failed"
    assert "switch the arm's power off" in event["message"]
    assert it.guardian.wait(2) == 5


def test_joints_that_answer_hold_and_the_others_are_named(scene, device):
    it = scene()
    device.do("trouble", silent=[2])
    it.servo.kill()
    event = it.said()
    assert event["event"] == "guardian-held"
    assert event["silent"] == ["elbow_flex"]
    assert it.guardian.wait(2) == 5


@pytest.mark.parametrize(
    ("ended", "silent_s", "moving", "words"),
    [
        (False, 0.0, True, ""),
        (False, 0.070, True, ""),
        (False, 0.071, True, "no step for 71 ms"),
        (False, 9.0, False, ""),
        (True, 0.0, True, "died in motion"),
        (True, 0.0, False, ""),
    ],
)
def test_when_the_arm_has_to_be_held(ended, silent_s, moving, words):
    why = alarm(ended, silent_s, moving)
    assert words in why
    assert bool(why) == bool(words)


def test_an_arm_that_nobody_can_hold_is_refused():
    require_guardian(ARM, 0.033)
    with pytest.raises(Refused, match="no guardian can hold it"):
        require_guardian(replace(ARM, protocol="edgelink"), 0.033)
    with pytest.raises(Refused, match="2 servo periods < 70 ms"):
        require_guardian(ARM, 0.036)


def test_the_configuration_is_one_line():
    config = GuardianConfig(7, "/dev/ttyACM0", ARM, 0.01, 50, 3)
    line = to_line(config)
    assert line.count("\n") == 1
    assert guardian.config_of(line) == config
