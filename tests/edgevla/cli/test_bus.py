"""`edgevla bus` and `edgevla sim-arm PROFILE` with virtual arms behind real ports."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import profiles
from edgevla.bus import explain as words
from edgevla.bus import scan as scanning
from edgevla.bus import serve
from edgevla.bus.virtual_arm import started
from edgevla.cli.bus import app
from edgevla.cli.main import run_command
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Usage
from firmware_bridge.edgelink.codec import Ping, encode
from firmware_bridge.errors import BadRecording, BridgeError, ReplayDiffers
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.log import What, head_line, read_log, record
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.transport.socket_can import SocketCan

ARM = "edgelink-generic"
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
        out = call("scan", "--port", process.port, "--protocol", "edgelink", "--baud", "115200")
    assert "nobody answered (1 tries)" in out


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
        assert look["mode"] == 0
    table = call("monitor", "--arm", ARM, "--port", port, "--count", "1", "--period-s", "0.01")
    assert names[0] in table
    assert "DISARMED, faults none, age" in " ".join(table.split())


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


def test_a_long_line_of_hex_is_no_file_name():
    found = json.loads(call("decode", encode(Ping(6)).hex() * 1_000, "--json"))
    assert found["fits"]["edgelink"] == 1.0
    assert len(found["lines"]["edgelink"]) == 1_000


def test_garbage_fits_no_serial_protocol():
    found = json.loads(call("decode", "0102030405060708", "--json"))
    assert set(found["fits"].values()) == {0.0}


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
                assert bus.read(fd) == []  # the recorder says nothing
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


def test_sim_arm_of_an_unknown_profile_is_one_clear_error(capsys):
    assert run_command(["sim-arm", "no-such-arm"]) != 0
    assert "unknown arm 'no-such-arm'" in capsys.readouterr().err
