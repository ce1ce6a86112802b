"""`edgevla arm` against virtual servos: as a process, with a person's Enter on its stdin."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from edgevla.bus import watch
from edgevla.bus.virtual_arm import started
from edgevla.cli.arm import app
from edgevla.cli.bus import app as bus_app
from edgevla.control.home import PERIOD_S, gentle, go_home, ramp_s
from edgevla.errors import Usage
from firmware_bridge.calibration import read_calibration, text_of
from firmware_bridge.virtual.client import VirtualProcess
from profiles import load_arm
from profiles.bridge import joints_of
from profiles.calibrated import with_calibration

JOINTS = joints_of(load_arm("so101"), "main")
COMMAND = [sys.executable, "-c", "from edgevla.cli.main import describe\nfrom edgevla.cli.arm import app\napp()"]


@pytest.fixture
def device():
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0) as process:
        yield process


def invoke(*arguments):
    return CliRunner().invoke(app, [*arguments])


def test_show_prints_every_joint(device):
    result = invoke("show", "--arm", "so101", "--port", device.port)
    assert result.exit_code == 0, result.exception
    for joint in JOINTS:
        assert joint.name in result.stdout
    assert "│ off" in result.stdout
    assert device.do("report")["torque_on"] == [False] * 6


def test_show_tells_which_joints_have_torque(device):
    invoke("home", "--arm", "so101", "--port", device.port)
    assert "│ on" in invoke("show", "--arm", "so101", "--port", device.port).stdout
    told = json.loads(invoke("show", "--arm", "so101", "--port", device.port, "--json").stdout)
    assert told["torque_on"] == [True] * 6


def test_who_watches_a_controller_that_holds_leaves_it_holding(tmp_path):
    with started(load_arm("edgelink-generic"), "main", paced=False, gravity_nm=0.0) as process:
        where = ["--arm", "edgelink-generic", "--port", process.port]
        assert invoke("home", *where).exit_code == 0
        told = json.loads(invoke("show", *where, "--json").stdout)
        assert (told["controller_mode"], told["torque_on"]) == ("STOPPED", [])
        for command in (
            ["monitor", "--count", "2"],
            ["record", "-o", str(tmp_path / "line.bus"), "--duration-s", "0.1"],
            ["bench", "--cycles", "10"],
        ):
            result = CliRunner().invoke(bus_app, [*command, *where])
            assert result.exit_code == 0, result.exception
        assert "its controller is STOPPED" in invoke("show", *where).stdout


def test_live_and_json_exclude_each_other():
    result = invoke("show", "--arm", "so101", "--port", "nowhere", "--live", "--json")
    assert isinstance(result.exception, Usage)


def test_show_as_json(device):
    told = json.loads(invoke("show", "--arm", "so101", "--port", device.port, "--json").stdout)
    assert [joint["model"] for joint in told["joints"]] == ["sts3215"] * 6
    assert [joint["position"] for joint in told["joints"]] == told["held"]
    assert [joint["torque_on"] for joint in told["joints"]] == told["torque_on"] == [False] * 6
    assert [joint["unit"] for joint in told["joints"]] == ["rad"] * 5 + ["1"]


def test_show_as_json_has_every_channel_of_a_controller_that_knows_its_own_motors():
    profile = load_arm("edgelink-generic")
    with VirtualProcess("edgelink", joints_of(profile, "main"), watchdog_s=profile.watchdog_s) as process:
        told = json.loads(invoke("show", "--arm", "edgelink-generic", "--port", process.port, "--json").stdout)
    assert [joint["name"] for joint in told["joints"]] == [channel.name for channel in profile.channels]
    assert [joint["position"] for joint in told["joints"]] == told["held"]


def test_home_ramps_into_the_start_range_and_holds(device):
    result = invoke("home", "--arm", "so101", "--port", device.port, "--json")
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout) == {"arm": "so101", "arrived": True}
    assert device.do("report")["torque_on"] == [True] * 6


def test_home_says_how_far_it_is_and_how_long_it_takes(device):
    low = [joint.to_device(joint.minimum) for joint in JOINTS]
    device.do("place", position_rad=low)
    result = invoke("home", "--arm", "so101", "--port", device.port)
    first, *on_its_way, last = result.stdout.splitlines()
    assert re.fullmatch(r"ramping slowly into the start range, some \d+\.\d s; Ctrl-C stops it", first)
    assert on_its_way
    for line in on_its_way:
        assert re.fullmatch(r"on its way: \w+ has \d\.\d{3} (rad|1) to go, some \d+\.\d s left", line)
    assert last == "in the start range, holding with torque on"


def test_the_time_of_a_ramp_is_that_of_its_slowest_joint():
    profile = load_arm("so101")
    held = np.array([channel.minimum for channel in profile.channels])
    # wrist_roll: -2.74 to -2.166 rad at 0.5 rad/s, plus 0.125 s of ramps up and down at 0.2 x 20 rad/s2
    assert ramp_s(profile, held) == pytest.approx(0.574 / 0.5 + 0.125, abs=0.05)
    assert ramp_s(profile, np.array(profile.start_low) * 0.5 + np.array(profile.start_high) * 0.5) == 0.0


def test_the_way_home_is_slow_whatever_the_profile_allows():
    fastest = {"max_velocity": 100.0, "max_acceleration": 1e4, "max_jerk": 1e6, "stop_deceleration": 1e4}
    profile = load_arm("so101")
    profile = replace(profile, channels=tuple(replace(channel, **fastest) for channel in profile.channels))
    held = np.array([channel.minimum for channel in profile.channels])
    assert gentle(profile).max_velocity.tolist() == [0.5] * 6  # rad/s, or strokes of the gripper a second
    assert gentle(profile).max_acceleration.tolist() == [5.0] * 6
    assert ramp_s(profile, held) >= 0.574 / 0.5


def test_a_stall_of_this_computer_neither_ends_the_way_home_nor_makes_it_jump(device):
    profile = replace(load_arm("so101"), max_state_age_s=1.0)  # a busy computer keeps the virtual arm from answering
    device.do("place", position_rad=[joint.to_device(joint.minimum) for joint in JOINTS])
    arm = watch.opened(profile, device.port)
    sent, send = [], arm.send
    arm.send = lambda setpoint, expiry_ns: (sent.append(setpoint.copy()), send(setpoint, expiry_ns))[1]
    arm.connect()

    def say(*_):
        if len(sent) == 20:
            time.sleep(2.0)  # twice the age that a state may have

    assert go_home(arm, profile, lambda: False, say)
    arm.close()
    per_step = np.array([0.2 * channel.max_velocity * PERIOD_S for channel in profile.channels])
    assert (np.abs(np.diff(np.array(sent), axis=0)).max(axis=0) <= per_step * 1.001 + 1e-6).all()


def test_home_that_is_told_to_stop_says_so_and_holds(device):
    device.do("place", position_rad=[joint.to_device(joint.minimum) for joint in JOINTS])
    command = [sys.executable, "-m", "edgevla.cli.main", "arm", "home", "--arm", "so101", "--port", device.port]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "ramping" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert out.splitlines()[-1] == "stopped on its way, holding with torque on"
    assert process.returncode == 130
    assert device.do("report")["torque_on"] == [True] * 6


def calibrate(port, path, *more):
    command = [*COMMAND, "calibrate", "--arm", "so101", "--port", port, "-o", str(path), "--json", *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process, words):
    while words not in (line := process.stderr.readline()):
        assert line, "it ended before"


def press_enter(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_calibrating_measures_saves_and_fits_what_run_asks_of_the_servos(tmp_path):
    path = tmp_path / "arm.json"
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0) as device:
        middles = [0.5 * sum(joint.device_range_rad) for joint in JOINTS]
        process = calibrate(device.port, path)
        wait_for(process, "Hold the so101")
        press_enter(process)
        wait_for(process, "middle")
        device.do("place", position_rad=middles)
        press_enter(process)
        wait_for(process, "both ends")
        for offset_rad in (-0.5, 0.75):  # the hand of a person
            device.do("place", position_rad=[at + offset_rad for at in middles])
            time.sleep(1.0)
        press_enter(process)
        out, err = process.communicate("yes\n", timeout=30)  # a third of its travel: it asks whether that is meant
        assert process.returncode == 0, err
        found = read_calibration(path)
        assert json.loads(out)["motors"] == json.loads(text_of(found))
        assert (found["wrist_roll"].range_min, found["wrist_roll"].range_max) == (0, 4095)
        low, high = found["shoulder_pan"].range_min, found["shoulder_pan"].range_max
        assert (low, high) == pytest.approx((2047 - 326, 2047 + 489), abs=3)  # -0.5 and 0.75 rad of 4096 counts a turn
        registers = [bytes.fromhex(row) for row in device.do("report")["device"]["registers"]]
        assert [row[55] for row in registers] == [1] * 6  # locked again
        assert int.from_bytes(registers[0][9:11], "little") == found["shoulder_pan"].range_min
        assert device.do("report")["torque_on"] == [False] * 6
        profile = with_calibration(load_arm("so101"), found)
        assert profile.options["homing_offsets"].count(",") == 5


def test_an_arm_that_was_not_moved_keeps_what_it_had(device, tmp_path):
    before = device.do("report")["device"]["registers"]
    process = calibrate(device.port, tmp_path / "arm.json")
    _, err = process.communicate("\n\n\n", timeout=30)
    assert process.returncode != 0
    assert "did not move" in err
    assert not (tmp_path / "arm.json").exists()
    after = device.do("report")["device"]["registers"]
    assert [row[: 2 * 33] for row in after] == [row[: 2 * 33] for row in before]


def test_a_file_is_not_replaced_without_a_yes(device, tmp_path):
    path = tmp_path / "arm.json"
    path.write_text("mine")
    process = calibrate(device.port, path)
    _, err = process.communicate("no\n", timeout=30)
    assert process.returncode != 0
    assert "Replace it" in err
    assert path.read_text() == "mine"


def test_a_calibration_that_is_ended_half_way_restores_the_servos(device, tmp_path):
    before = device.do("report")["device"]["registers"]
    process = calibrate(device.port, tmp_path / "arm.json")
    wait_for(process, "Hold the so101")
    press_enter(process)
    wait_for(process, "middle")
    press_enter(process)
    wait_for(process, "both ends")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode != 0
    after = device.do("report")["device"]["registers"]
    assert [row[: 2 * 33] for row in after] == [row[: 2 * 33] for row in before]


def test_nobody_there_to_press_enter_is_told(device, tmp_path):
    process = calibrate(device.port, tmp_path / "arm.json")
    _, err = process.communicate("", timeout=30)
    assert process.returncode != 0
    assert "calibration needs a person" in err


def test_the_help_of_show_says_what_connecting_sets():
    told = " ".join(invoke("show", "--help").output.replace("│", " ").split())
    assert "Connecting sets in the actuators what the profile wants set" in told
    assert "EEPROM" in told
