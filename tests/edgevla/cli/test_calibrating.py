"""`edgevla arm calibrate` where it is not Feetech (test_arm.py): processes, ptys, and a person's Enter."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgevla.cli import calibrating
from edgevla.cli.arm import app
from edgevla.control.arm_calibration import ELSEWHERE
from firmware_bridge.calibration import MotorCalibration, read_calibration, text_of, write_calibration
from firmware_bridge.dynamixel import models
from firmware_bridge.dynamixel.bus import Bus
from firmware_bridge.protocols import KINDS, module
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.client import VirtualProcess
from profiles import load_arm
from profiles.bridge import joints_of
from tests.firmware_bridge.dynamixel.koch import KOCH_FILE, LOWER, MIDDLE, UPPER

COMMAND = [sys.executable, "-c", "from edgevla.cli.main import main\nmain()", "arm", "calibrate"]
ROOT = Path(__file__).parents[3]
RAD = models.RAD_PER_COUNT
KEPT = (models.DRIVE_MODE, models.OPERATING_MODE, models.HOMING_OFFSET, models.MIN_POSITION, models.MAX_POSITION)

FACTORY = {"homing_offset": 0, "range_min": 0, "range_max": 4095}


def virtual(arm, **asked):
    profile = load_arm(arm)
    wanted = {"gravity_nm": 0.0, "beyond": 1.0, "options": dict(profile.options), **asked}
    return VirtualProcess(profile.protocol, joints_of(profile, "main"), **wanted)


class Person:
    """Runs the command and presses Enter after each of its requests."""

    def __init__(self, arm, port, *more):
        command = [*COMMAND, "--arm", arm, "--port", port, "--json", *more]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(command, text=True, **pipes)
        self.said, self.yes = "", "yes\n"

    def asked(self, words):
        while words not in (line := self.process.stderr.readline()):
            self.said += line
            assert line, f"it ended before it said {words!r}: {self.said}"

    def enter(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ends(self):
        """Exit code, stdout and stderr."""
        self.process.stdin.close()
        out, err = self.process.stdout.read(), self.said + self.process.stderr.read()
        return self.process.wait(timeout=30), out, err


def place(device, counts):
    device.do("place", position_rad=[count * RAD for count in counts])
    time.sleep(0.1)  # the servos have seen it: the virtual ones sample, too


def measure(device, person, middle, lower=LOWER, upper=UPPER):
    """The whole way of a person, who moves every joint `lower` and `upper` counts from its middle."""
    person.asked("Hold the")
    person.enter()
    person.asked("to the middle")
    place(device, middle)
    person.enter()
    person.asked("both ends")
    for off in (lower, upper):
        place(device, [at + off for at in middle])
        asked = device.do("report")["device"]["instructions"]
        while device.do("report")["device"]["instructions"] < asked + 2 * 9 + 1:  # every servo was read since
            time.sleep(0.02)
    person.enter()
    person.process.stdin.write(person.yes)  # LOWER and UPPER are no whole travel: it asks whether they are meant
    return person.ends()


def registers(port, ids):
    transport = SerialTransport(port, 1_000_000)
    transport.open()
    bus = Bus(transport)
    found = {servo: tuple(bus.read(servo, register) for register in KEPT) for servo in ids}
    transport.close()
    return found


def invoke(*arguments):
    return CliRunner().invoke(app, [*arguments])


# --- koch ---------------------------------------------------------------------------------------------------------


def test_a_koch_is_calibrated_into_the_file_that_lerobot_would_have_written(tmp_path):
    path = tmp_path / "koch.json"
    with virtual("koch") as device:
        code, out, err = measure(device, Person("koch", device.port, "-o", str(path)), MIDDLE)
        assert code == 0, err
        assert path.read_text() == KOCH_FILE
        assert json.loads(out)["motors"] == json.loads(KOCH_FILE)
        found = registers(device.port, range(1, 7))
        assert found[2] == (0, models.EXTENDED_POSITION, -262, 1721, 2536)
        assert found[5] == (0, models.EXTENDED_POSITION, -1305, 0, 4095)
        assert device.do("report")["torque_on"] == [False] * 6


def test_with_the_file_the_driver_finds_the_middle_and_moves_there(tmp_path):
    path = tmp_path / "koch.json"
    with virtual("koch") as device:
        code, _, err = measure(device, Person("koch", device.port, "-o", str(path)), MIDDLE)
        assert code == 0, err
        place(device, [at + 82 for at in MIDDLE])  # the middle of the range is 81.5 counts above the middle pose
        told = invoke("show", "--arm", "koch", "--port", device.port, "--calibration", str(path), "--json")
        assert told.exit_code == 0, told.exception
        rows = json.loads(told.stdout)["joints"]
        assert rows[1]["range"] == pytest.approx([-0.625, 0.625], abs=1e-3)  # half of 815 counts
        held = json.loads(told.stdout)["held"]
        assert held == pytest.approx([0.125, 0.0, 0.0, 0.0, 0.125, 0.0], abs=2e-3)  # those that go round: from the pose
        result = invoke("home", "--arm", "koch", "--port", device.port, "--calibration", str(path), "--json")
        assert json.loads(result.stdout) == {"arm": "koch", "arrived": True}


def test_servos_with_another_offset_than_the_file_are_refused(tmp_path):
    path = tmp_path / "koch.json"
    path.write_text(KOCH_FILE)
    with virtual("koch") as device:
        result = invoke("show", "--arm", "koch", "--port", device.port, "--calibration", str(path))
    assert "calibration of shoulder_pan (id 1)" in str(result.exception)
    assert "expected: homing offset -262 counts, reverse bit 0" in str(result.exception)


def test_a_file_of_lerobot_is_put_into_the_servos_without_measuring(tmp_path):
    path = tmp_path / "koch.json"
    path.write_text(KOCH_FILE)
    with virtual("koch") as device:
        person = Person("koch", device.port, "--from", str(path))
        person.asked("Hold the")
        person.enter()
        code, _, err = person.ends()
        assert code == 0, err
        assert registers(device.port, [3, 5]) == {3: (0, 4, -262, 1721, 2536), 5: (0, 4, -1305, 0, 4095)}
        assert path.read_text() == KOCH_FILE


def test_a_file_of_another_arm_changes_nothing(tmp_path):
    path = tmp_path / "other.json"
    write_calibration(
        path, {name: MotorCalibration(9 - i, 0, **FACTORY) for i, name in enumerate(json.loads(KOCH_FILE))}
    )
    with virtual("koch") as device:
        before = registers(device.port, range(1, 7))
        code, _, err = Person("koch", device.port, "--from", str(path)).ends()
        assert code == 1
        assert "is of another arm" in err
        assert registers(device.port, range(1, 7)) == before


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("range_max", 99999, "0 .. 4095 counts"),
        ("range_min", -1, "0 .. 4095 counts"),
        ("homing_offset", 1_044_480, "-1044479 .. 1044479 counts"),
    ],
)
def test_a_number_that_no_servo_takes_is_named_before_anybody_is_asked_to_hold_the_arm(tmp_path, key, value, expected):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**json.loads(KOCH_FILE), "elbow_flex": row_with(key, value)}))
    with virtual("koch") as device:
        code, _, err = Person("koch", device.port, "--from", str(path)).ends()
    assert code == 4
    assert f"{path}: elbow_flex.{key}" in err
    assert f"expected: {expected}" in err
    assert "Hold the" not in err
    assert "ended" not in err


def row_with(key, value):
    return {**json.loads(KOCH_FILE)["elbow_flex"], key: value}


def test_an_offset_that_a_feetech_servo_has_no_bits_for_is_named(tmp_path):
    path = tmp_path / "bad.json"
    joints = joints_of(load_arm("so101"), "main")
    rows = {joint.name: MotorCalibration(joint.id, 0, 0, 1000, 3000) for joint in joints}
    write_calibration(path, {**rows, "gripper": MotorCalibration(6, 0, 2048, 1000, 3000)})
    code, _, err = Person("so101", "/dev/ttyNOTHERE", "--from", str(path)).ends()
    assert code == 4
    assert "gripper.homing_offset" in err
    assert "expected: -2047 .. 2047 counts" in err


def test_a_file_that_is_no_json_ends_before_anything_and_says_nothing_of_torque(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text("{")
    with virtual("koch") as device:
        code, _, err = Person("koch", device.port, "--from", str(path)).ends()
    assert code == 4
    assert "is no calibration" in err
    assert "torque" not in err


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (-62, 62, "elbow_flex: 1985 .. 2109 are 124 counts, 6% of the profile's 1956"),  # it sagged
        (-20, 1400, "elbow_flex: 2027 .. 3447: the middle that was shown, 2047, lies at or beyond its end"),
    ],
)
@pytest.mark.parametrize("answer", ["no\n", ""])
def test_ranges_that_look_wrong_are_not_saved_without_a_yes(tmp_path, lower, upper, words, answer):
    path = tmp_path / "koch.json"
    with virtual("koch") as device:
        before = registers(device.port, range(1, 7))
        person = Person("koch", device.port, "-o", str(path))
        person.yes = answer
        code, _, err = measure(device, person, MIDDLE, lower, upper)
        assert code == 1
        assert words in err
        assert "wrist_roll:" not in err  # it goes round: not measured
        assert "the calibration was not saved" in err
        assert registers(device.port, range(1, 7)) == before
    assert not path.exists()


def test_ranges_of_a_whole_travel_are_saved_without_a_question(tmp_path):
    with virtual("koch") as device:
        code, _, err = measure(device, Person("koch", device.port, "-o", str(tmp_path / "k.json")), MIDDLE, -1000, 1000)
    assert code == 0, err
    assert "yes/no" not in err


CALIBRATED = "2.20=-100, 2.48=3000, 2.52=1000, 5.20=77, 2.11=3"  # offset, limits, mode


@pytest.mark.parametrize(
    ("which", "step"),
    [
        (signal.SIGINT, "Hold the"),
        (signal.SIGINT, "to the middle"),
        (signal.SIGINT, "both ends"),
        (signal.SIGTERM, "both ends"),
        (signal.SIGHUP, "both ends"),
    ],
)
def test_a_signal_at_any_step_leaves_the_calibration_of_before(tmp_path, which, step):
    path = tmp_path / "koch.json"
    path.write_text("of before")
    with virtual("koch", options={**load_arm("koch").options, "registers": CALIBRATED}) as device:
        before = registers(device.port, range(1, 7))
        person = Person("koch", device.port, "-o", str(path), "--replace")
        for asked in ("Hold the", "to the middle", "both ends"):
            person.asked(asked)
            if asked == step:
                break
            person.enter()
        if step != "Hold the":
            assert registers_differ(device, before)
        person.process.send_signal(which)
        code, _, err = person.ends()
        assert code == 130, err
        left = "the servos and their torque are as they were" if step == "Hold the" else "have the one of before"
        assert left in err
        assert registers(device.port, range(1, 7)) == before
        assert path.read_text() == "of before"


def registers_differ(device, before):
    """Whether the servos are in the midst of it. Asked of the device, not of the wire, which is in use."""
    state = device.do("report")["device"]["torque_watchdog_goal_mode_drive"]
    return [row[3] for row in state.values()] != [row[1] for row in before.values()]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_servos_are_written_waits_for_the_next_step_of_the_person(which):
    before, reached = signal.getsignal(which), []
    with calibrating._deaf():
        signal.raise_signal(which)
        reached.append("written")
        with pytest.raises(KeyboardInterrupt), calibrating._hearing():
            reached.append("asked")
        signal.raise_signal(which)  # and a second one does not end the putting back
        reached.append("put back")
    assert reached == ["written", "put back"]
    assert signal.getsignal(which) is before


def test_a_torque_that_is_on_stays_on_when_it_ends_before_the_first_enter(tmp_path):
    with virtual("koch") as device:
        transport = SerialTransport(device.port, 1_000_000)
        transport.open()
        for servo in range(1, 7):
            Bus(transport).write_and_check(servo, models.TORQUE, 1)
        transport.close()
        person = Person("koch", device.port, "-o", str(tmp_path / "koch.json"))
        person.asked("Hold the")
        person.process.send_signal(signal.SIGINT)
        assert person.ends()[0] == 130
        assert device.do("report")["torque_on"] == [True] * 6


def test_servos_that_cannot_be_put_back_are_named(tmp_path):
    path = tmp_path / "koch.json"
    with virtual("koch") as device:
        person = Person("koch", device.port, "-o", str(path))
        person.asked("Hold the")
        person.enter()
        person.asked("to the middle")
        device.do("trouble", silent=[2, 3])
        person.enter()
        code, _, err = person.ends()
    assert code == 1
    assert "calibration ended early: servo 3" in err
    assert "not elbow_flex, wrist_flex" in err
    assert not path.exists()


def test_a_joint_moved_beyond_half_a_turn_is_refused_and_nothing_is_kept(tmp_path):
    with virtual("koch", beyond=2.0) as device:
        before = registers(device.port, range(1, 7))
        person = Person("koch", device.port, "-o", str(tmp_path / "koch.json"), "--full-turn", "none")
        code, _, err = measure(device, person, [2048] * 6, lower=-1000, upper=2060)
        assert code == 5
        assert "moved more than half a turn from its middle" in err
        assert registers(device.port, range(1, 7)) == before


def test_an_encoder_whose_zero_lies_in_the_travel_is_told_and_refused_after_power_up_there(tmp_path):
    path = tmp_path / "koch.json"
    middle = [2309, 2309, 150, 2309, 2309, 2309]  # of the elbow, which then goes from -176 to 639
    with virtual("koch", beyond=2.0) as device:
        code, _, err = measure(device, Person("koch", device.port, "-o", str(path)), middle)
        assert code == 0, err
        assert "elbow_flex: the encoder's own zero lies in its travel" in err
        assert "shoulder_lift:" not in err
        place(device, [*middle[:2], -100, *middle[3:]])
        device.do("power", on=False)
        device.do("power", on=True)
        told = invoke("home", "--arm", "koch", "--port", device.port, "--calibration", str(path))
        assert told.exit_code != 0
        assert "elbow_flex" in str(told.exception)


# --- viperx -------------------------------------------------------------------------------------------------------


def test_a_viperx_is_calibrated_with_its_shadows(tmp_path):
    path = tmp_path / "viperx.json"
    with virtual("viperx") as device:
        middle = [2048 + 10 * i for i in range(7)]
        code, _, err = measure(device, Person("viperx", device.port, "-o", str(path)), middle)
        assert code == 0, err
        found = read_calibration(path)
        assert list(found) == [  # LeRobot, robots/viperx
            "waist",
            "shoulder",
            "shoulder_shadow",
            "elbow",
            "elbow_shadow",
            "forearm_roll",
            "wrist_angle",
            "wrist_rotate",
            "gripper",
        ]
        assert [motor.id for motor in found.values()] == list(range(1, 10))
        assert [motor.drive_mode for motor in found.values()] == [0, 1, 0, 1, 0, 0, 1, 0, 0]  # vx300s.yaml, Drive_Mode
        assert found["shoulder"] == MotorCalibration(2, 1, -11, 1721, 2536)
        assert found["shoulder_shadow"] == MotorCalibration(3, 0, -11, 1721, 2536)
        place(device, [at + 82 for at in middle])
        result = invoke("home", "--arm", "viperx", "--port", device.port, "--calibration", str(path), "--json")
        assert result.exit_code == 0, result.exception
        report = device.do("report")
        assert report["torque_on"] == [True] * 7
        assert report["device"]["fighting"] == 0
        device.do("power", on=False)


def test_a_viperx_file_without_its_shadows_is_refused(tmp_path):
    path = tmp_path / "viperx.json"
    names = [channel.name for channel in load_arm("viperx").channels]
    path.write_text(text_of({name: MotorCalibration(i, 0, **FACTORY) for i, name in enumerate(names)}))
    result = invoke("show", "--arm", "viperx", "--port", "nowhere", "--calibration", str(path))
    assert "the motors of the calibration" in str(result.exception)
    assert "shoulder_shadow" in str(result.exception)


# --- others -------------------------------------------------------------------------------------------------------


def test_every_protocol_is_calibrated_here_or_says_where():
    here = {"feetech", "dynamixel", "damiao"}
    assert here | set(ELSEWHERE) == set(KINDS)
    for protocol in here:
        assert callable(module(protocol, "calibrate").make)
    for protocol, words in ELSEWHERE.items():
        (page,) = re.findall(r"docs/\S+\.md", words)
        text = (ROOT / page).read_text()
        assert all(command in text for command in re.findall(r"`(.*?)`", words)), protocol


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("canopen-six-axis", "docs/protocols/cia402.md"),
        ("metaworld-sawyer", "in your own firmware"),
    ],
)
def test_an_arm_whose_zero_is_set_by_its_maker_is_refused_with_the_way(arm, words, tmp_path):
    result = invoke("calibrate", "--arm", arm, "--port", "nowhere", "-o", str(tmp_path / "x"))
    assert f"{arm} is not calibrated from here" in str(result.exception)
    assert words in str(result.exception)


def test_a_joint_that_the_arm_does_not_have_is_told(tmp_path):
    with virtual("koch") as device:
        code, _, err = Person("koch", device.port, "-o", str(tmp_path / "x"), "--full-turn", "waist").ends()
    assert code == 2
    assert "none, or shoulder_pan" in err


# --- openarm: the zero is in the motors ---------------------------------------------------------------------------


@pytest.fixture
def openarm():
    """(left, right, port)."""
    profile = load_arm("openarm")
    sides = [VirtualProcess("damiao", joints_of(profile, bus), gravity_nm=0.0, beyond=1.0) for bus in profile.buses]
    with sides[0] as left, sides[1] as right:
        yield left, right, f"left={left.port},right={right.port}"


def hang(device, angles):
    device.do("place", position_rad=angles)
    time.sleep(0.1)


def held(port):
    """What the motors say where they stand."""
    result = invoke("show", "--arm", "openarm", "--port", port, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)["held"]


LEFT, RIGHT = [0.1, -0.1, 0.05, 0.2, 0.0, -0.05, 0.3, -0.2], [-0.1, 0.1, 0.0, 0.3, 0.1, 0.05, -0.3, -0.1]


def test_an_openarm_gets_its_zero_where_it_hangs_and_keeps_it_over_power_off(openarm):
    left, right, port = openarm
    person = Person("openarm", port)
    person.asked("Hold the openarm")
    person.enter()
    person.asked("hanging straight down, every gripper closed")
    hang(left, LEFT)
    hang(right, RIGHT)
    person.enter()
    code, out, err = person.ends()
    assert code == 0, err
    told = json.loads(out)["former_rad"]
    assert list(told.values()) == pytest.approx([*LEFT, *RIGHT], abs=1e-3)  # 12.5 rad in 2^15 steps
    for device in (left, right):
        device.do("power", on=False)
        device.do("power", on=True)
    assert held(port) == pytest.approx([0.0] * 16, abs=1e-3)


@pytest.mark.parametrize("step", ["Hold the openarm", "hanging straight down"])
def test_a_signal_before_the_last_enter_changes_no_zero(openarm, step):
    left, right, port = openarm
    hang(left, LEFT)
    hang(right, RIGHT)
    person = Person("openarm", port)
    person.asked("Hold the openarm")
    if step != "Hold the openarm":
        person.enter()
        person.asked(step)
    person.process.send_signal(signal.SIGINT)
    code, _, err = person.ends()
    assert code == 130
    torque = "torque is as it was" if step == "Hold the openarm" else "torque is off"
    assert f"calibration ended early: no zero was changed, {torque}\n" in err
    assert held(port) == pytest.approx([*LEFT, *RIGHT], abs=1e-3)


def test_a_motor_that_is_silent_is_named_before_any_zero_is_set(openarm):
    left, right, port = openarm
    person = Person("openarm", port)
    person.asked("Hold the openarm")
    person.enter()
    person.asked("hanging straight down")
    hang(left, LEFT)
    hang(right, RIGHT)
    right.do("trouble", silent=[3])
    person.enter()
    code, _, err = person.ends()
    assert code == 5
    assert "right_joint_4" in err
    right.do("trouble")
    assert held(port) == pytest.approx([*LEFT, *RIGHT], abs=1e-3)


def test_an_arm_that_keeps_its_zero_itself_has_no_file(tmp_path):
    result = invoke("calibrate", "--arm", "openarm", "--port", "left=a,right=b", "-o", str(tmp_path / "x"))
    assert "the motors keep their zero themselves" in str(result.exception)
