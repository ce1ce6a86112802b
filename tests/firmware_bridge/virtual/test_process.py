"""The process of a virtual device: baud-accurate, faults by JSON lines on stdin, gone when stdin ends."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Joint, Mode, exchange
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import Decoder, Ping, encode
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.errors import BridgeError, NoAnswer, PortError, PortGone
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.client import VirtualProcess
from firmware_bridge.wire import uart_ns

JOINTS = tuple(Joint(f"j{i}", "rad", -1.0, 1.0, i, "") for i in range(6))
ZERO = np.zeros(6, np.float32)
MS = 1_000_000


def soon(seconds=2.0):
    return time.monotonic_ns() + int(seconds * 1e9)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    link = tmp_path_factory.mktemp("virtual") / "port"
    with VirtualProcess("edgelink", JOINTS, gravity_nm=0.0, watchdog_s=1.0, link=str(link)) as process:
        yield process


@pytest.fixture
def device(shared):
    shared.do("trouble")
    shared.do("brown-out")
    shared.do("place", position_rad=[0.0] * 6)
    shared.do("report")
    return shared


@pytest.fixture
def arm(device):
    arm = EdgelinkArm(SerialTransport(device.port, 1_000_000), JOINTS, 1.0)
    arm.connect()
    yield arm
    arm.close()


@pytest.mark.parametrize("baud", [115_200, 1_000_000])
def test_a_paced_exchange_takes_at_least_the_wire_time_and_no_lane_is_busy_twice(baud):
    cycles = 10
    with VirtualProcess("edgelink", JOINTS, gravity_nm=0.0, watchdog_s=1.0, paced_baud=baud) as process:
        arm = EdgelinkArm(SerialTransport(process.port, baud), JOINTS, 1.0)
        arm.connect()
        arm.arm()
        process.do("report")
        started_ns = time.monotonic_ns()
        for _ in range(cycles):
            exchange(arm, ZERO, soon())
        wall_ns = time.monotonic_ns() - started_ns
        busy = process.do("report")["busy"]
        arm.close()
    one_ns = codec.cycle_ns(JOINTS, baud)
    assert one_ns == uart_ns(37, baud) + uart_ns(55, baud)  # COMMAND 37 bytes, STATE 55: docs/edgelink.md
    assert len(busy) == 2 * cycles
    assert sum(end - start for start, end, _ in busy) == pytest.approx(cycles * one_ns, abs=2 * cycles)
    for lane in (0, 1):
        mine = [(start, end) for start, end, direction in busy if direction == lane]
        assert all(end <= start for (_, end), (start, _) in pairwise(mine))
    efficiency = cycles * one_ns / wall_ns
    assert 0.0 < efficiency <= 1.0


def test_an_echo_on_a_paced_line_is_heard_but_takes_no_wire_of_its_own():
    with VirtualProcess("edgelink", JOINTS, gravity_nm=0.0, watchdog_s=1.0, paced_baud=115_200) as process:
        process.do("trouble", echo=True)
        port = SerialTransport(process.port, 115_200)
        port.open()
        question = encode(Ping(7))
        port.write(question)
        heard = b""
        while len(heard) < len(question) + 55 and port.wait_readable(soon()):
            heard += port.read()
        port.close()
        busy = process.do("report")["busy"]
    assert heard[: len(question)] == question
    (state,) = [m for m in Decoder().feed(heard) if isinstance(m, codec.State)]
    assert state.seq == 7
    assert [end - start for start, end, _ in busy] == [uart_ns(9, 115_200), uart_ns(55, 115_200)]


def test_pulling_the_cable_is_felt_and_plugging_it_in_again_gives_the_same_port(device, arm):
    arm.arm()
    device.do("unplug")
    with pytest.raises(PortGone, match="died"):
        exchange(arm, ZERO, soon())
    assert not os.path.exists(device.port)
    arm.close()
    with pytest.raises(PortError, match="plug the arm in"):
        arm.connect()
    device.do("replug")
    assert arm.connect().channels == 6
    assert arm.mode is Mode.DISARMED


def test_without_power_it_is_silent_and_with_power_again_it_is_disarmed_and_says_why(device, arm):
    arm.arm()
    exchange(arm, ZERO, soon())
    device.do("power", on=False)
    with pytest.raises(NoAnswer):
        exchange(arm, ZERO, soon(0.05))
    assert device.do("report")["torque_on"] == [False] * 6
    device.do("power", on=True)
    state = exchange(arm, ZERO, soon())
    assert (state.mode, state.faults, state.verdict) == (Mode.DISARMED, Fault.RESET, codec.Verdict.NO_HELLO)
    assert device.do("report")["torque_on"] == [False] * 6


def test_a_brown_out_costs_the_torque_and_the_next_state_says_so(device, arm):
    arm.arm()
    assert exchange(arm, ZERO, soon()).mode == Mode.ARMED
    device.do("brown-out")
    state = exchange(arm, ZERO, soon())
    assert (state.mode, state.faults) == (Mode.DISARMED, Fault.RESET)


def test_the_joints_follow_and_where_they_are_is_what_is_read(device, arm):
    arm.arm()
    goal = np.array([0.3, -0.3, 0.2, 0.1, 0.0, 0.5], np.float32)
    until_ns = soon(0.5)
    while time.monotonic_ns() < until_ns:
        state = exchange(arm, goal, soon(0.1))
        time.sleep(0.01)
    assert state.position == pytest.approx(goal, abs=0.01)
    assert device.do("report")["position_rad"] == pytest.approx(goal.tolist(), abs=0.01)


def test_latency_comes_before_the_answer(device, arm):
    device.do("trouble", latency_us=30_000)
    before_ns = time.monotonic_ns()
    arm.request_state()
    while arm.poll() is None:
        assert arm.wait_readable(soon())
    assert time.monotonic_ns() - before_ns >= 30 * MS


def test_a_fault_by_name_stops_and_an_unknown_one_is_refused(device, arm):
    arm.arm()
    device.do("fault", joint=2, name="overload")
    state = exchange(arm, ZERO, soon())
    assert (state.mode, state.faults) == (Mode.STOPPED, Fault.OVERLOAD)
    with pytest.raises(BridgeError, match="edgelink knows overload"):
        device.do("fault", joint=2, name="hiccups")


@pytest.mark.parametrize(
    "line",
    ["[]", "5", '"x"', "{}", '{"do": "dance"}', "no json", '{"do": "stuck", "joint": 6}',
     '{"do": "trouble", "flip": 2}', '{"do": "trouble", "flip": "x"}', '{"do": "trouble", "flap": 1}',
     '{"do": "fault", "joint": "a", "name": "x"}',
     '{"do": "place", "position_rad": [9]}', '{"do": "bus-off"}', '{"do": "power"}'],
)  # fmt: skip
def test_what_it_does_not_understand_is_answered_and_changes_nothing(device, line):
    device._process.stdin.write(line + "\n")
    device._process.stdin.flush()
    answer = json.loads(device._process.stdout.readline())
    assert answer["done"] is False
    assert answer["error"]
    assert device.do("report")["done"] is True


def start(**asked):
    wanted = {"protocol": "edgelink", "joints": [asdict(joint) for joint in JOINTS], **asked}
    command = [sys.executable, "-m", "firmware_bridge.virtual", json.dumps(wanted)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "SIGINT"])
def test_it_ends_with_its_stdin_or_a_signal_and_leaves_nothing(tmp_path, how):
    link = tmp_path / "port"
    process = start(link=str(link))
    assert json.loads(process.stdout.readline())["port"] == str(link)
    assert link.is_symlink()
    if how == "stdin":
        process.stdin.close()
    else:
        process.send_signal(getattr(signal, how))
    assert process.wait(timeout=10) == 0
    assert process.stderr.read() == ""
    assert not link.is_symlink()
    assert list(tmp_path.iterdir()) == []


def virtual(*arguments):
    command = [sys.executable, "-m", "firmware_bridge.virtual", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)


def test_called_without_a_device_it_says_how_to_call_it():
    wrong, asked = virtual(), virtual("--help")
    assert (wrong.returncode, asked.returncode) == (2, 0)
    assert wrong.stderr == asked.stdout
    assert (wrong.stdout, asked.stderr) == ("", "")
    assert "Example:" in asked.stdout


def test_the_example_of_its_help_runs_as_it_stands():
    example = virtual("--help").stdout.partition("Example:")[2].partition("A whole arm")[0].strip()
    command = example.replace("python -m", f"{sys.executable} -m", 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["port"].startswith("/dev/pts/")


def test_what_cannot_be_started_is_one_error_and_exit_code_5():
    for arguments in (["{}"], ['{"protocol": "pigeon", "joints": []}'], ["no json"]):
        done = subprocess.run(
            [sys.executable, "-m", "firmware_bridge.virtual", *arguments], capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 5
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_the_port_is_the_users_own(device):
    assert Path(os.path.realpath(device.port)).owner() == Path.home().owner()
