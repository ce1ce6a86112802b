"""The virtual arm as a process: real pty, real shared memory, real signals. Its plant here is kinematic."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgevla.sensors.camera import CameraSlot
from edgevla.sim import virtual_arm
from edgevla.sim.virtual_arm import CHANNELS, Clipped, IntegratorScene, PhaseClock
from firmware_bridge.arm import Fault, Mode
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.errors import PortError, PortGone
from firmware_bridge.transport.serial import SerialTransport
from profiles import load_arm

PATIENCE_S = 90.0  # for the process; nothing here measures time
COMMAND = [sys.executable, "-m", "edgevla.sim.virtual_arm", "--plant", "integrator"]
REPOSITORY = Path(virtual_arm.__file__).parents[2]


class ArmProcess:
    """One virtual arm, its JSON lines and its camera."""

    def __init__(self, *options, camera=True):
        self.camera = CameraSlot.create(96, 96) if camera else None
        fds = (self.camera.fd,) if self.camera else ()
        command = [*COMMAND, *(["--camera-fd", str(self.camera.fd)] if self.camera else []), *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, pass_fds=fds, cwd=REPOSITORY)
        self.ready = self.line()

    def line(self):
        assert select.select([self.process.stdout], [], [], PATIENCE_S)[0], "the virtual arm says nothing"
        return json.loads(self.process.stdout.readline())

    def end(self):
        """Close its standard input; returns its last line."""
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0
        *_, last = self.process.stdout.read().splitlines()
        return json.loads(last)

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        for end in (self.process.stdin, self.process.stdout):
            end.close()
        if self.camera:
            self.camera.close()


@pytest.fixture
def start():
    started = []

    def start_one(*options, **how):
        started.append(ArmProcess(*options, **how))
        return started[-1]

    yield start_one
    for arm in started:
        arm.kill()


@pytest.fixture
def connect():
    links = []

    def to(arm):
        link = EdgelinkArm(SerialTransport(arm.ready["port"], 921_600), CHANNELS, expected_watchdog_s=0.1)
        links.append(link)
        return link, link.connect()

    yield to
    for link in links:
        link.close()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def drive(link, setpoint, ticks):
    """Commands at 80 Hz until `ticks` of them were accepted; returns the last state.

    On a busy machine the watchdog may trip between two of them: then it arms again.
    """
    accepted = 0
    deadline = time.monotonic() + PATIENCE_S
    while accepted < ticks:
        assert time.monotonic() < deadline, "the arm accepts no commands"
        link.send(setpoint, time.monotonic_ns() + 900_000_000)
        time.sleep(0.0125)
        state = link.poll()
        if state is not None and state.mode != Mode.ARMED:
            link.arm()
        elif state is not None and state.verdict == 0:
            accepted += 1
    return state


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_announces_its_port_and_answers_on_it(start, connect):
    arm = start()
    assert arm.ready["pid"] == arm.process.pid
    _, info = connect(arm)
    assert info.watchdog_ms == 100
    assert info.held_setpoint.tolist() == arm.ready["setpoint0"]


def test_frames_come_before_arming_but_the_plant_waits_for_the_first_command(start, connect):
    arm = start()
    connect(arm)
    first = arm.camera.latest()
    assert first.image.shape == (96, 96, 3)
    wait_until(lambda: arm.camera.latest().sequence > first.sequence + 3)
    assert arm.camera.latest().stamp_ns > first.stamp_ns
    assert arm.end()["steps"] == 0


def test_driven_to_its_goal_it_reports_success(start, connect):
    arm = start()
    link, _ = connect(arm)
    link.arm()
    state = drive(link, np.array([*IntegratorScene.GOAL, 1.0], np.float32), ticks=20)
    assert state.position[:3] == pytest.approx(IntegratorScene.GOAL, abs=0.02)
    event = arm.line()
    assert event["event"] == "success"
    assert event["tick"] >= 1
    link.close()
    last = arm.end()
    assert (last["event"], last["success"], last["success_tick"]) == ("exit", True, event["tick"])
    assert last["reason"] == "parent closed standard input"
    assert last["accepted"] >= 20
    assert last["faults"] == Fault.STOP  # close() stops an armed arm


def test_when_commands_cease_it_stops_itself_and_holds(start, connect):
    arm = start()
    link, _ = connect(arm)
    link.arm()
    target = np.array([0.05, 0.6, 0.2, -1.0], np.float32)
    drive(link, target, ticks=3)
    states = []

    def stopped():
        link.request_state()
        states.append(link.poll())
        return states[-1] is not None and states[-1].mode == Mode.STOPPED

    wait_until(stopped)
    assert states[-1].faults == Fault.WATCHDOG
    last = arm.end()
    assert last["held"] == target.tolist()
    assert last["watchdog_trips"] >= 1


def test_garbage_on_its_port_does_not_end_it(start, connect):
    arm = start()
    link, _ = connect(arm)
    link.transport.write(os.urandom(2000) + b"\0")
    link.arm()
    assert arm.end()["decoder"]["frames"] >= 9


def test_a_killed_arm_is_a_dead_port_for_the_host(start, connect):
    arm = start()
    link, _ = connect(arm)
    arm.process.send_signal(signal.SIGKILL)
    arm.process.wait(PATIENCE_S)
    with pytest.raises(PortGone, match="died"):
        link.poll()
    with pytest.raises(PortError, match="cannot open the serial port"):
        SerialTransport(arm.ready["port"], 921_600).open()


def test_sigterm_ends_it_with_its_last_line_and_without_its_pty(start):
    arm = start(camera=False)
    arm.process.terminate()
    assert arm.process.wait(PATIENCE_S) == 0
    last = json.loads(arm.process.stdout.read().splitlines()[-1])
    assert (last["event"], last["reason"], last["frames"]) == ("exit", "SIGTERM", 0)
    assert not os.path.exists(arm.ready["port"])


def test_ctrl_c_is_for_its_parent_which_stops_the_arm_first(start, connect):
    arm = start()
    arm.process.send_signal(signal.SIGINT)
    connect(arm)
    assert arm.end()["reason"] == "parent closed standard input"


def test_it_dies_with_a_parent_that_was_killed(tmp_path):
    # The grandchild inherits a standard input that stays open: only the parent's death tells it.
    script = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(60)"
    out = tmp_path / "out"
    with out.open("wb") as stdout:
        parent = subprocess.Popen(
            [sys.executable, "-c", script, *COMMAND], stdin=subprocess.PIPE, stdout=stdout, cwd=REPOSITORY
        )
    wait_until(lambda: b"\n" in out.read_bytes())
    pid = json.loads(out.read_text().splitlines()[0])["pid"]
    assert is_running(pid)
    parent.kill()
    parent.wait(PATIENCE_S)
    wait_until(lambda: not is_running(pid))
    assert json.loads(out.read_text().splitlines()[-1])["reason"] == "SIGTERM"
    parent.stdin.close()


def test_a_bad_task_is_one_error_line_with_its_exit_code():
    command = [sys.executable, "-m", "edgevla.sim.virtual_arm", "--sim", "no-such-task-v3"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 4
    assert b"unknown simulator task" in done.stdout
    assert b"Traceback" not in done.stderr


def test_a_bad_camera_descriptor_is_one_error_line():
    command = [*COMMAND, "--camera-fd", "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 5
    assert b"camera" in done.stdout
    assert b"Traceback" not in done.stderr


def test_the_same_arm_moves_meta_world(start, connect):
    pytest.importorskip("metaworld")
    arm = start("--plant", "metaworld", "--sim", "drawer-open-v3", "--seed", "3")
    before = arm.camera.latest()
    assert before.image.shape == (96, 96, 3)
    link, info = connect(arm)
    link.arm()
    target = info.held_setpoint + np.array([0.03, 0, 0.03, 0], np.float32)
    state = drive(link, target, ticks=30)
    assert state.position[:3] == pytest.approx(target[:3], abs=0.02)
    wait_until(lambda: (arm.camera.latest().image != before.image).any())
    assert arm.end()["steps"] > 0


def test_its_channels_are_those_of_the_arm_profile():
    profile = load_arm("metaworld-sawyer").channels
    assert [(c.name, c.unit, c.minimum, c.maximum) for c in profile] == [
        (c.name, c.unit, c.minimum, c.maximum) for c in CHANNELS
    ]


def test_whatever_is_asked_of_the_plant_stays_in_the_workspace():
    scene = IntegratorScene()
    plant = Clipped(scene)
    for _ in range(40):
        plant.step(np.array([9, -9, 9, 9], np.float32))
    assert plant.position().tolist() == pytest.approx([0.5, 0.4, 0.5, 1.0])


def test_the_plants_clock_skips_whole_periods_after_a_stall_and_keeps_its_phase():
    clock = PhaseClock(period_ns=100, next_ns=1_000)
    clock.advance(1_007)
    assert (clock.next_ns, clock.skipped) == (1_100, 0)
    clock.advance(1_350)  # served 250 late: 1_200 and 1_300 are gone
    assert (clock.next_ns, clock.skipped) == (1_400, 2)
    clock.lock(1_450)
    clock.advance(1_450)
    assert (clock.next_ns, clock.skipped) == (1_550, 2)


def test_the_picture_shows_where_the_hand_is():
    scene = IntegratorScene()
    before = scene.render()
    for _ in range(10):
        scene.step(np.array([0.4, 0.9, 0.2, -1.0], np.float32))
    after = scene.render()
    assert before.dtype == np.uint8
    assert (before == 255).all(axis=2).sum() == (after == 255).all(axis=2).sum() == 25
    assert (before != after).any()
