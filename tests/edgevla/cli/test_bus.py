"""`edgevla bus` and `edgevla sim-arm PROFILE` with virtual arms behind real ports."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import profiles
from edgevla.bus import explain as words
from edgevla.bus import scan as scanning
from edgevla.bus import serve, watch
from edgevla.bus.measure import _measured, in_words
from edgevla.bus.virtual_arm import started
from edgevla.cli import live
from edgevla.cli.bus import app
from edgevla.cli.main import run_command
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Usage
from firmware_bridge.arm import Fault, JointState, Mode
from firmware_bridge.edgelink.codec import Ping, encode
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.errors import BadRecording, BaudRefused, BridgeError, NoAnswer, ReplayDiffers
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.log import What, head_line, read_log, record
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.transport.socket_can import SocketCan

ARM = "edgelink-generic"
EDGEVLA = [sys.executable, "-m", "edgevla.cli.main"]
PING = encode(Ping(6)).hex(" ")


def call(*arguments: str) -> str:
    """Standard output; an error is raised."""
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def port():
    with started(profiles.load_arm(ARM), "main", paced=False, gravity_nm=0.0) as process:
        yield process.port


@pytest.mark.parametrize("command", ["scan", "monitor", "decode", "record", "replay", "bench"])
def test_every_command_has_help_with_an_example_and_json(command):
    text = " ".join(call(command, "--help").split())
    assert "Example: edgevla bus" in text
    assert "--json" in text


# --- scan ---


def test_scan_finds_the_controller_and_says_where(port):
    found = json.loads(call("scan", "--port", port, "--protocol", "edgelink", "--json"))
    assert found["errors"] == []
    (one,) = found["found"]
    assert (one["protocol"], one["port"], one["baud"]) == ("edgelink", port, 921_600)
    assert "DISARMED" in one["note"]
    assert "edgelink controller" in call("scan", "--port", port, "--protocol", "edgelink")


def test_scan_of_a_silent_port_says_nobody_answered():
    with started(profiles.load_arm(ARM), "main", False, 0.0) as process:
        process.do("power", on=False)
        silent = ["scan", "--port", process.port, "--protocol", "edgelink", "--baud", "115200"]
        with pytest.raises(DeviceFault, match="nobody answered") as error:
            call(*silent)
        as_json = CliRunner().invoke(app, [*silent, "--json"])
    assert "check in this order: the arm's supply" in str(error.value)
    assert json.loads(as_json.stdout) == {"found": [], "errors": [], "asked": [["edgelink", process.port, 115200]]}
    assert isinstance(as_json.exception, DeviceFault)
    assert DeviceFault.exit_code == 5


def test_a_protocol_that_the_port_cannot_carry_is_a_usage_error(port):
    with pytest.raises(Usage, match="damiao cannot be on"):
        call("scan", "--port", port, "--protocol", "damiao")


def test_a_computer_without_any_port_is_told_so(monkeypatch):
    monkeypatch.setattr(scanning, "serial_ports", list)
    monkeypatch.setattr(scanning, "can_interfaces", list)
    with pytest.raises(DeviceFault, match="edgevla sim-arm so101"):
        call("scan")


def test_a_pty_has_no_bit_rate_and_is_asked_once(port):
    assert list(scanning.tries(["feetech"], [port], [])) == [("feetech", port, 1_000_000)]
    assert len(list(scanning.tries(["feetech"], ["/dev/ttyACM0"], []))) == 3
    assert list(scanning.tries(["feetech"], [port], [9600, 19200])) == [
        ("feetech", port, 9600), ("feetech", port, 19200)
    ]  # fmt: skip


def test_scan_of_a_missing_port_is_a_device_fault():
    with pytest.raises(DeviceFault, match="cannot open the serial port /dev/ttyNOTHERE"):
        call("scan", "--port", "/dev/ttyNOTHERE", "--protocol", "edgelink")


def test_every_protocol_of_a_port_is_tried_at_its_common_bit_rates():
    planned = list(scanning.tries([], ["/dev/ttyACM0", "can0"], []))
    assert ("feetech", "/dev/ttyACM0", 1_000_000) in planned
    assert ("dynamixel", "/dev/ttyACM0", 57_600) in planned
    assert ("damiao", "can0", 1_000_000) in planned
    assert list(scanning.tries(["feetech"], ["/dev/ttyACM0", "can0"], [9600])) == [("feetech", "/dev/ttyACM0", 9600)]


def test_can_interfaces_are_told_by_their_type(tmp_path):
    for name, kind in (("can0", "280"), ("lo", "772"), ("eth0", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(kind + "\n")
    assert scanning.can_interfaces(tmp_path) == ["can0"]


@pytest.mark.parametrize("port", ["/dev/ttyNOTHERE", "/dev/null"])
def test_a_port_that_fails_by_itself_is_asked_once(port):
    done = CliRunner().invoke(app, ["scan", "--port", port])
    assert isinstance(done.exception, DeviceFault)
    assert len(done.stdout.splitlines()) == 1


def test_a_bit_rate_that_an_adapter_does_not_have_does_not_end_the_scan_of_its_port(monkeypatch):
    def refuse(self):
        raise BaudRefused("not this one")

    monkeypatch.setattr(SerialTransport, "open", refuse)
    assert not scanning.ask("feetech", "/dev/ttyACM0", 1_000_000).port_failed


def test_scan_takes_the_ports_of_several_buses_as_sim_arm_prints_them(port):
    found = json.loads(call("scan", "--port", f"left={port},right={port}", "--protocol", "edgelink", "--json"))
    assert [one["port"] for one in found["found"]] == [port, port]
    assert scanning.ports_of("/dev/serial/by-id/usb-a=b") == ["/dev/serial/by-id/usb-a=b"]
    assert scanning.ports_of("slcan:/dev/ttyACM0") == ["slcan:/dev/ttyACM0"]


@pytest.mark.parametrize("baud", ["0", "123456789"])
def test_scan_refuses_a_bit_rate_that_no_profile_may_have(baud):
    assert CliRunner().invoke(app, ["scan", "--port", "/dev/null", "--baud", baud]).exit_code == 2


@pytest.mark.parametrize("wrong", [["--protocol", "pigeon"], ["--ids", "one-two"]])
def test_scan_refuses_what_it_does_not_know(wrong):
    with pytest.raises(Usage, match="to do"):
        call("scan", "--port", "/dev/ttyNOTHERE", *wrong)


# --- monitor, bench ---


def test_monitor_shows_every_joint_with_its_age_and_never_arms(port):
    lines = call("monitor", "--arm", ARM, "--port", port, "--count", "3", "--period-s", "0.01", "--json").splitlines()
    looks = [json.loads(line) for line in lines]
    assert len(looks) == 3
    names = [channel.name for channel in profiles.load_arm(ARM).channels]
    for look in looks:
        assert [joint["joint"] for joint in look["joints"]] == names
        assert 0.0 <= look["age_ms"] < 2_000.0
        assert look["controller_mode"] == "DISARMED"
    out = call("monitor", "--arm", ARM, "--port", port, "--count", "2", "--period-s", "0.01").splitlines()
    assert len(out) == 2
    assert all(line.startswith(f"{ARM}: its controller is DISARMED; faults none, age ") for line in out)
    assert f"; {names[0]} " in out[0]


def test_monitor_says_that_joints_hold_though_this_program_armed_nothing():
    profile = profiles.load_arm("so101")
    with started(profile, "main", False, 0.0) as process:

        def monitor(*more):
            return call("monitor", "--arm", "so101", "--port", process.port, "--count", "1", *more)

        assert monitor().startswith("so101: torque off; faults none")
        host = watch.opened(profile, process.port)
        host.connect()
        host.arm()
        host.close()  # as after a run: the servos hold
        out = monitor()
        look = json.loads(monitor("--json"))
    assert "torque ON at all 6 joints (this program has not armed it)" in out
    assert "DISARMED" not in out
    assert [joint["torque_on"] for joint in look["joints"]] == [True] * 6
    assert look["controller_mode"] is None


def test_the_table_of_a_terminal_shows_torque_joint_by_joint():
    profile = profiles.load_arm("so101")
    state = JointState(position=np.zeros(6, np.float32), velocity=None, faults=0, stamp_ns=0, device_us=0, last_seq=1)
    table = live._table(profile, watch.Seen(state, 1.0, 20.0, torque=(True, False, None, None, None, None)))
    (column,) = [column for column in table.columns if column.header == "torque"]
    assert list(column.cells)[:3] == ["on", "off", "-"]
    assert "torque ON at shoulder_pan (this program has not armed it)" in str(table.title)


@pytest.mark.parametrize("command", [("bus", "monitor"), ("arm", "show", "--live")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_a_pipe_each_look_is_a_line_at_once_and_ctrl_c_is_a_proper_end(port, command, number):
    process = subprocess.Popen(
        [*EDGEVLA, *command, "--arm", ARM, "--port", port],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith(f"{ARM}: "):
        assert line, process.stderr
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def test_a_reader_that_has_had_enough_ends_monitor_without_a_word(port):
    monitor = shlex.join([*EDGEVLA, "bus", "monitor", "--arm", ARM, "--port", port, "--period-s", "0.01"])
    script = monitor + " | head -2; exit ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 2)


def test_monitor_of_an_arm_that_falls_silent_says_so_and_goes_on():
    with started(profiles.load_arm(ARM), "main", False, 0.0) as process:
        timer = threading.Timer(0.4, lambda: process.do("power", on=False))
        timer.start()
        out = call("monitor", "--arm", ARM, "--port", process.port, "--count", "30", "--period-s", "0.03", "--json")
        timer.join()
    looks = [json.loads(line) for line in out.splitlines()]
    assert len(looks) == 30
    assert "joints" in looks[0]
    assert "no state" in looks[-1]["error"]


def test_a_missing_port_is_a_usage_error():
    with pytest.raises(EdgevlaError, match="pass --port PATH"):
        call("monitor", "--arm", ARM, "--port", "")


@pytest.mark.parametrize("armed", [[], ["--armed"]])
def test_bench_measures_cycles_and_the_wires_part(port, armed):
    found = json.loads(call("bench", "--arm", ARM, "--port", port, "--cycles", "50", *armed, "--json"))
    assert (found["cycles"] + found["failed"], found["armed"]) == (50, bool(armed))
    assert 0.0 < found["cycle_ms_p50"] <= found["cycle_ms_p99"] <= found["cycle_ms_max"]
    # PING is 9 bytes, COMMAND 13 + 4 n; STATE 19 + 6 n (docs/edgelink.md); 10 bits a byte
    profile = profiles.load_arm(ARM)
    n = len(profile.channels)
    expected = ((13 + 4 * n if armed else 9) + 19 + 6 * n) * 10_000 / profile.baud
    assert found["wire_ms"] == pytest.approx(expected, rel=0.02)
    assert found["hz"] == pytest.approx(1e3 / found["cycle_ms_p50"])


def test_bench_leaves_out_what_it_cannot_measure_and_says_why(port):
    found = json.loads(call("bench", "--arm", ARM, "--port", port, "--cycles", "50", "--json"))
    assert found["host_us_p50"] is None or found["host_us_p50"] >= 0.0
    assert bool(found["no_host_share"]) == (found["host_us_p50"] is None)
    out = call("bench", "--arm", ARM, "--port", port, "--cycles", "50")
    assert "one cycle, p50 / p99 / largest" in out
    assert "host_us_p50" not in out


@pytest.mark.parametrize(
    ("took_ms", "wire_ms", "delay_s", "host_us", "why"),
    [
        (0.3, 0.74, 0.0013, None, "this line has no bit rate; a virtual arm has one with"),
        (1.0, 0.74, 0.0013, None, "less than return delay and USB turnaround of the profile (1.3 ms)"),
        (2.5, 0.74, 0.0013, 460.0, ""),
    ],
)
def test_a_host_share_below_nothing_is_none(took_ms, wire_ms, delay_s, host_us, why):
    ns = [int(took_ms * 1e6)] * 3
    found = _measured(ns, [0, 10_000_000, 20_000_000], [int(wire_ms * 1e6)] * 3, {}, delay_s)
    assert found.host_us_p50 == (None if host_us is None else pytest.approx(host_us))
    assert why in found.no_host_share
    assert any("host share" in row[0] for row in in_words(found)) == (host_us is not None)


def test_bench_of_an_arm_that_falls_silent_is_a_device_fault(monkeypatch):
    with started(profiles.load_arm(ARM), "main", False, 0.0) as process:
        look = EdgelinkArm.look

        def look_then_power_off(arm):
            info = look(arm)
            process.do("power", on=False)
            return info

        monkeypatch.setattr(EdgelinkArm, "look", look_then_power_off)
        with pytest.raises(NoAnswer):
            call("bench", "--arm", ARM, "--port", process.port, "--cycles", "10")


def test_bench_that_is_ended_half_way_stops_the_arm():
    with started(profiles.load_arm(ARM), "main", False, 0.0) as process:
        bench = [*EDGEVLA, "bus", "bench", "--arm", ARM, "--port", process.port, "--cycles", "1000000", "--armed"]
        running = subprocess.Popen(bench, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 30
        while process.do("report")["device"]["mode"] != Mode.ARMED.name and time.monotonic() < until:
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=20)
        report = process.do("report")["device"]
    assert (running.returncode, err) == (130, "error: stopped by Ctrl-C\n")
    assert report["mode"] == Mode.STOPPED.name
    assert report["faults"] == Fault.STOP  # told to, not by its watchdog


# --- decode ---


def test_decode_explains_bytes_and_says_which_protocol_they_fit():
    found = json.loads(call("decode", PING, "--json"))
    assert found["fits"]["edgelink"] == 1.0
    assert found["fits"]["feetech"] == 0.0
    (line,) = found["lines"]["edgelink"]
    assert line["words"] == "edgelink PING from the host: send a state, sequence 6"
    out = " ".join(call("decode", PING).split())
    assert "as edgelink, 100% fits" in out
    assert "PING from the host" in out


@pytest.mark.parametrize(
    ("text", "protocol", "word"),
    [
        # Feetech: servo 1, instruction 2 (read), 2 bytes from register 56; checksum of the communication manual's rule
        ("FFFF010402380 2BE".replace(" ", ""), "feetech", "read"),
        # Robotis e-manual, protocol 2.0, Ping: id 1, CRC 19 4E
        ("FF FF FD 00 01 03 00 01 19 4E", "dynamixel", "ping"),
        ("001#FFFFFFFFFFFFFFFC", "damiao", "enable"),
    ],
)
def test_frames_of_the_makers_own_manuals_are_recognised(text, protocol, word):
    found = json.loads(call("decode", text, "--json"))
    assert found["fits"][protocol] == 1.0
    assert word in found["lines"][protocol][0]["words"].lower()


def test_sound_answers_that_say_no_error_fit():
    # Robotis e-manual, protocol 2.0, Ping: status of id 1, error 0, model 1030, firmware 38, CRC 65 5D
    reading = json.loads(call("decode", "FF FF FD 00 01 07 00 55 00 06 04 26 65 5D", "--json"))
    assert "no error" in reading["lines"]["dynamixel"][0]["words"]
    assert reading["fits"]["dynamixel"] == 1.0
    # CiA 301, emergency of node 1 with error code 0; CiA 402, statusword 0250 of node 1: switch on disabled
    for frame in ("081#0000000000000000", "181#500200000000"):
        reading = json.loads(call("decode", frame, "--protocol", "cia402", "--json"))
        assert reading["fits"]["cia402"] == 1.0, reading["lines"]
    with pytest.raises(BadInput, match="no Damiao frame"):
        call("decode", "12345678#11", "--protocol", "damiao")


def test_a_long_line_of_hex_is_no_file_name():
    found = json.loads(call("decode", encode(Ping(6)).hex() * 1_000, "--json"))
    assert found["fits"]["edgelink"] == 1.0
    assert len(found["lines"]["edgelink"]) == 1_000


def test_garbage_fits_no_serial_protocol_and_is_bad_input():
    done = CliRunner().invoke(app, ["decode", "0102030405060708", "--json"])
    assert set(json.loads(done.stdout)["fits"].values()) == {0.0}
    assert isinstance(done.exception, BadInput)
    with pytest.raises(BadInput, match="this fits no protocol") as error:
        call("decode", "0102030405060708")
    assert "feetech: junk, 8 bytes" in str(error.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("line.bus", "no such file: line.bus"),
        ("12345", "two digits each"),
        (".", "is a folder"),
        ("", "nothing to decode"),
    ],
)
def test_what_is_wrong_with_the_input_is_said(text, what, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=what):
        call("decode", text)


def test_a_recording_in_which_nothing_passed_is_no_error(tmp_path):
    path = tmp_path / "silent.bus"
    path.write_bytes(head_line("can", "can0"))
    assert "nothing has passed" in call("decode", str(path))


def test_decode_reads_a_log_of_candump(tmp_path):
    path = tmp_path / "candump.log"
    path.write_text("(1.000000) can0 001#FFFFFFFFFFFFFFFC\n(1.500000) can0 011#0011223344556677\n")
    found = json.loads(call("decode", str(path), "--protocol", "damiao", "--json"))
    assert [line["s"] for line in found["lines"]["damiao"]] == [0.0, 0.5]


@pytest.mark.parametrize("text", ["", "xyz", "12345", "/nowhere/at/all", "123#1"])
def test_what_cannot_be_decoded_is_bad_input(text):
    with pytest.raises(BadInput, match="a file, bytes in hex, or a frame"):
        call("decode", text)


def test_a_frame_is_no_serial_protocol():
    with pytest.raises(BadInput, match="a can line is no edgelink"):
        call("decode", "123#11", "--protocol", "edgelink")


def test_a_spoiled_file_is_bad_input(tmp_path):
    path = tmp_path / "spoiled"
    path.write_bytes(head_line("can", "can0") + bytes(100))
    with pytest.raises(BadRecording):
        call("decode", str(path))


# --- record, replay ---


def test_an_arm_is_recorded_while_it_is_monitored_and_explained_with_its_protocol(port, tmp_path):
    path = tmp_path / "line.bus"
    done = json.loads(call("record", "--arm", ARM, "--port", port, "-o", str(path), "--duration-s", "0.3", "--json"))
    assert done["records"] > 10
    assert done["lost"] == 0
    assert read_log(path).head["protocol"] == "edgelink"
    lines = json.loads(call("replay", str(path), "--json"))["lines"]["edgelink"]
    assert {line["way"] for line in lines} == {"host", "device"}
    assert any("STATE from the device" in line["words"] for line in lines)
    assert all("not edgelink" not in line["words"] for line in lines)


def test_a_can_bus_is_recorded_without_a_word(tmp_path):
    from firmware_bridge.virtual.server import UnixCanPort

    bus, path = UnixCanPort(), tmp_path / "can.bus"
    end = threading.Event()

    def speak():
        while not end.wait(0.02):
            for fd in bus.fds:
                assert list(bus.read(fd)) == []  # the recorder says nothing
            bus.write(Frame(0x123, b"ab"))

    speaker = threading.Thread(target=speak)
    speaker.start()
    try:
        done = json.loads(call("record", "--port", bus.name, "-o", str(path), "--duration-s", "0.4", "--json"))
    finally:
        end.set()
        speaker.join()
        bus.close()
    frames = [r.unit for r in read_log(path).records if r.what is What.READ]
    assert frames
    assert set(frames) == {Frame(0x123, b"ab")}
    assert done["kind"] == "can"


def test_a_bus_that_cannot_be_opened_leaves_no_file(tmp_path):
    with pytest.raises(BridgeError, match="cannot open"):
        call("record", "--port", "nocan9", "-o", str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_a_recording_ends_with_ctrl_c_and_is_whole(port, tmp_path):
    path = tmp_path / "line.bus"
    process = subprocess.Popen(
        [*EDGEVLA, "bus", "record", "--arm", ARM, "--port", port, "-o", str(path), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 30
    while (not path.exists() or path.stat().st_size < 2_000) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    log = read_log(path)
    assert json.loads(out)["records"] == len(log.records) > 10
    assert not log.torn


def test_a_line_that_cannot_be_recorded_leaves_what_passed_or_nothing(tmp_path):
    path = tmp_path / "line.bus"
    with pytest.raises(BridgeError, match="cannot open"):
        call("record", "--arm", ARM, "--port", "/dev/ttyNOTHERE", "-o", str(path))
    assert not path.exists()
    with started(profiles.load_arm(ARM), "main", False, 0.0) as process:
        process.do("power", on=False)
        with pytest.raises(NoAnswer):
            call("record", "--arm", ARM, "--port", process.port, "-o", str(path))
    assert any(record.what is What.WROTE for record in read_log(path).records)


def test_a_serial_line_is_recorded_with_an_arm_only(tmp_path):
    with pytest.raises(Usage, match="pass --arm NAME"):
        call("record", "--port", "/dev/ttyACM0", "-o", str(tmp_path / "x"))


def recording(tmp_path, kind, pairs):
    path = tmp_path / "recorded.bus"
    parts = [record(1_000 + i, What.WROTE if i % 2 == 0 else What.READ, data) for i, data in enumerate(pairs)]
    path.write_bytes(head_line(kind, "x") + b"".join(parts))
    return path


class Served:
    """`serve` in a thread, as `bus replay --serve` runs it."""

    def __init__(self, path):
        self.ports, self.result = [], []
        self._thread = threading.Thread(target=self._run, args=(path,))
        self._thread.start()
        until = time.monotonic() + 5
        while not self.ports and time.monotonic() < until:
            time.sleep(0.005)

    def _run(self, path):
        try:
            self.result.append(serve.serve(path, read_log(path), self.ports.append, quiet_s=5.0))
        except BridgeError as error:
            self.result.append(error)

    def end(self):
        self._thread.join(10)
        return self.result[0]


def test_a_recorded_device_answers_as_it_did_and_ends(tmp_path):
    served = Served(recording(tmp_path, "serial", [b"ask", b"told", b"more", b"again"]))
    host = SerialTransport(served.ports[0], 1_000_000)
    host.open()
    for question, answer in ((b"ask", b"told"), (b"more", b"again")):
        host.write(question)
        assert host.wait_readable(time.monotonic_ns() + 2_000_000_000)
        assert host.read() == answer
    host.close()
    assert served.end() == 2


def test_a_recorded_device_names_the_first_byte_that_differs(tmp_path):
    served = Served(recording(tmp_path, "serial", [b"ask", b"told"]))
    host = SerialTransport(served.ports[0], 1_000_000)
    host.open()
    host.write(b"axk")
    error = served.end()
    host.close()
    assert isinstance(error, ReplayDiffers)
    assert "number 1 from 0" in str(error)


def test_a_recorded_can_device_is_served_on_a_bus(tmp_path):
    from firmware_bridge.transport import kernel_can

    question, answer = Frame(0x10, b"a"), Frame(0x11, b"b")
    path = recording(tmp_path, "can", [kernel_can.pack(question), kernel_can.pack(answer)])
    served = Served(path)
    host = SocketCan(served.ports[0])
    host.open()
    host.write([question])
    assert host.wait_readable(time.monotonic_ns() + 2_000_000_000)
    assert host.read() == [answer]
    host.close()
    assert served.end() == 1


# --- words ---


def test_every_protocol_of_this_tree_reads_its_kind_of_line():
    assert "edgelink" in words.installed("serial")
    assert set(words.installed("can")).isdisjoint(words.installed("serial"))


# --- sim-arm PROFILE ---


def test_sim_arm_starts_the_actuators_of_a_profile_and_ends_with_its_stdin():
    command = [sys.executable, "-m", "edgevla.cli.main", "sim-arm", ARM]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["arm"], first["protocol"], list(first["ports"])) == (ARM, "edgelink", ["main"])
    assert Path(first["port"]).exists()
    for line, done in (('{"do": "report"}', True), ('{"do": "dance"}', False), ("no json", False)):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["done"] is done
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert not Path(first["port"]).exists()


def test_sim_arm_in_the_background_goes_on_without_a_standard_input():
    command = [*EDGEVLA, "sim-arm", ARM]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    json.loads(process.stdout.readline())
    time.sleep(1.0)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=20) == 0


def test_sim_arm_whose_device_died_says_so():
    process = subprocess.Popen(
        [*EDGEVLA, "sim-arm", ARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    (pid,) = json.loads(process.stdout.readline())["pids"]
    os.kill(pid, signal.SIGKILL)
    assert process.wait(timeout=20) == 5
    assert f"the virtual device of bus main is gone (process {pid})" in process.communicate()[1]


def test_sim_arm_ends_when_its_reader_has_left():
    process = subprocess.Popen([*EDGEVLA, "sim-arm", ARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    "options", [[ARM, "--sim", "foo"], [ARM, "--plant", "integrator"], [ARM, "--period-s", "5"], ["--paced"]]
)
def test_sim_arm_refuses_options_of_another_kind_of_arm(options, capsys):
    assert run_command(["sim-arm", *options]) == 2
    assert "does not have" in capsys.readouterr().err


def test_sim_arm_of_an_unknown_profile_is_one_clear_error(capsys):
    assert run_command(["sim-arm", "no-such-arm"]) != 0
    assert "unknown arm 'no-such-arm'" in capsys.readouterr().err
