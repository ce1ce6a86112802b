"""`edgevla firmware`: what it writes, what it refuses, and the command line that a flashing tool gets."""

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgevla.cli.firmware import app
from edgevla.cli.main import run_command
from edgevla.errors import DeviceFault, Usage
from firmware_bridge.edgelink.codec import ArmRequest, Command, Hello, Limits, Stop, encode
from firmware_bridge.edgelink.controller import IntegratorPlant, VirtualDevice
from firmware_bridge.errors import BadFirmware, FirmwareError, NoAnswer, PortError
from firmware_bridge.transport.pty import PtyPair
from firmware_bridge.transport.serial import SerialTransport
from profiles import load_arm

ROOT = Path(__file__).parents[3]
ARM = load_arm("metaworld-sawyer")
SCHEMA = 0x6C6EB0CA  # docs/edgelink.md: metaworld-sawyer's
FLASH = 0x0800_0000
HELD = np.array([0.0, 0.7, 0.275, 0.0], np.float32)


def ask(*arguments, error=None):
    """Its standard output, as JSON where it is; or the text of the `error` it ends with."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if error is not None:
        assert type(result.exception) is error, result.exception or result.output
        return str(result.exception)
    assert result.exit_code == 0, result.exception or result.output
    return json.loads(result.output) if "--json" in arguments else result.output


def image_bytes(schema=SCHEMA, stack=0x2000_8000, reset=FLASH + 0x101, size=1024):
    """A .bin as the linker makes it: vector table, code, identity. Layout: src/identity.h."""
    identity = struct.pack("<8sIIHBB44s", b"EDGEFW\0\1", schema, 12_500, 100, 4, 0, b"metaworld-sawyer")
    head = struct.pack("<II", stack, reset) + bytes(56)
    return head + identity + bytes(size - len(head) - len(identity))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "arm.bin"
    path.write_bytes(image_bytes())
    return path


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A recorder by the name of a flashing tool, first on PATH: its arguments, one a line."""

    def make(name, exit_code=0):
        record = tmp_path / "called"
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {record}\nexit {exit_code}\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
        return record

    return make


@pytest.fixture
def no_tools(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))


class Controller:
    """A device in some mode on a real pty. It answers what is asked, when the test lets it."""

    def __init__(self, *said):
        self.line = PtyPair()
        self.device = VirtualDevice(IntegratorPlant(HELD), ARM.channels, HELD, watchdog_us=60_000_000)
        for message in said:
            self.device.feed(encode(message, Limits(ARM.channels)), 0)


@pytest.fixture
def controller(monkeypatch):
    """Starts a controller; its line is served whenever the host waits for an answer."""
    started = []

    def start(*said, silent=False):
        made = Controller(*said)
        started.append(made)
        wait = SerialTransport.wait_readable

        def serve_then_wait(transport, deadline_ns):
            if not silent:
                made.line.write(made.device.feed(made.line.read(), 1))
            return wait(transport, deadline_ns)

        monkeypatch.setattr(SerialTransport, "wait_readable", serve_then_wait)
        return made

    yield start
    for made in started:
        made.line.close()


def test_config_is_written_from_the_profile_with_its_schema(tmp_path):
    out = tmp_path / "config.h"
    said = ask("config", "metaworld-sawyer", "-o", out, "--json")
    assert said["schema"] == "0x6c6eb0ca"
    text = out.read_text()
    assert "0x6c6eb0cau, 100000u, 12500u, 4u" in text
    assert "0x1.99999a0000000p-5" in text, "z's 0.05 m as float32, which is what travels"
    assert [p.name for p in tmp_path.iterdir()] == ["config.h"]


@pytest.mark.parametrize("period_s", ["0", "0.2", "nan", "0.00000033"])
def test_a_period_that_no_device_can_run_with_is_refused(tmp_path, period_s):
    out = tmp_path / "config.h"
    assert "period" in ask("config", "metaworld-sawyer", "-o", out, "--period-s", period_s, error=BadFirmware)
    assert not out.exists()


def test_a_config_replaces_another_only_when_told(tmp_path):
    path, asked = tmp_path / "config.h", ["config", "edgelink-generic", "-o", tmp_path / "config.h"]
    ask(*asked)
    first = path.read_text()
    ask(*asked)  # the same again
    assert "--replace" in ask(*asked, "--period-s", "0.01", error=Usage)
    assert path.read_text() == first
    ask(*asked, "--period-s", "0.01", "--replace")
    assert path.read_text() != first


def test_a_config_is_written_to_no_device():
    assert "a device, pipe or socket" in ask("config", "edgelink-generic", "-o", "/dev/full", error=Usage)


def test_a_config_that_the_disk_does_not_take_names_its_file_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "edgevla.cli.main", "firmware", "config", "edgelink-generic", "-o", "config.h"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 0; exec "$@"', "-", *command],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, list(tmp_path.iterdir())) == (4, [])
    assert "cannot use config.h" in done.stderr


def test_a_config_in_a_folder_that_is_not_there_makes_no_folder(tmp_path):
    text = ask("config", "metaworld-sawyer", "-o", tmp_path / "none" / "config.h", error=Usage)
    assert f"mkdir -p {tmp_path / 'none'}" in text
    assert "a folder" in ask("config", "metaworld-sawyer", "-o", tmp_path, error=Usage)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("make") is None or shutil.which("cc") is None, reason="no make or cc here")
def test_build_makes_the_host_board(tmp_path):
    said = ask("build", "metaworld-sawyer", "-o", tmp_path, "--board", "host", "--json")
    assert [name.rpartition("/")[2] for name in said["files"]] == ["edgelink-host", "libedgelink-device.so"]


def test_a_bad_image_is_bad_input_for_info_and_for_flash(tmp_path, capsys):
    (tmp_path / "bad.bin").write_bytes(b"\0" * 40)
    assert run_command(["firmware", "info", str(tmp_path / "bad.bin")]) == 4
    flash = ["firmware", "flash", str(tmp_path / "bad.bin"), "--profile", "metaworld-sawyer", "--blank", "--dry-run"]
    assert run_command(flash) == 4
    assert "no vector table" in capsys.readouterr().err


def test_info_tells_what_an_image_is(image):
    said = ask("info", image, "--json")
    assert (said["schema"], said["profile"], said["channels"]) == ("0x6c6eb0ca", "metaworld-sawyer", 4)
    assert (said["watchdog_ms"], said["period_us"], said["reset"]) == (100, 12_500, "0x08000100")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no image"),
        (b"\0" * 40, "no vector table"),
        (image_bytes(stack=0x0800_0000), "vector table"),
        (image_bytes(reset=FLASH + 0x100), "vector table"),  # bit 0: Thumb
        (image_bytes().replace(b"EDGEFW", b"OTHER."), "no firmware of this project"),
        (image_bytes() * 2, "no firmware of this project"),
        (b"\x7fELF" + bytes(20), "cut ELF"),
        (b"\x7fELF\x02\x01" + bytes(200), "no Cortex-M runs"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, data, said):
    path = tmp_path / "wrong.bin"
    path.write_bytes(data)
    assert said in ask("info", path, error=BadFirmware)


def test_dry_run_prints_the_command_and_runs_nothing(image, tool, controller):
    record, port = tool("dfu-util"), controller().line.port
    said = ask("flash", image, "--profile", "metaworld-sawyer", "--port", port, "--dry-run", "--json")
    assert said["command"] == ["dfu-util", "-a", "0", "-s", "0x08000000:leave", "-D", str(image)]
    assert (said["flashed"], said["tool_found"], record.exists()) == (False, True, False)


def test_dry_run_says_that_the_tool_is_missing_and_flash_refuses(image, no_tools):
    options = ["flash", image, "--profile", "metaworld-sawyer", "--blank"]
    assert ask(*options, "--dry-run", "--json")["tool_found"] is False
    assert "apt install dfu-util" in ask(*options, error=DeviceFault)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dfu-util", ["-a", "0", "-s", "0x08000000:leave", "-D", "IMAGE"]),
        ("openocd", ["-f", "interface/stlink.cfg", "-f", "target/stm32f4x.cfg",
                     "-c", "program IMAGE 0x08000000 verify reset exit"]),
    ],
)  # fmt: skip
def test_the_tool_gets_exactly_these_arguments(image, tool, controller, name, expected):
    record, port = tool(name), controller().line.port
    said = ask("flash", image, "--profile", "metaworld-sawyer", "--port", port, "--tool", name, "--json")
    assert said["flashed"] is True
    assert record.read_text().splitlines() == [word.replace("IMAGE", str(image)) for word in expected]


def test_a_tool_that_fails_is_an_error_that_says_so(image, tool):
    tool("dfu-util", exit_code=74)
    text = ask("flash", image, "--profile", "metaworld-sawyer", "--blank", error=DeviceFault)
    assert "exit code 74" in text


ARMED = (Hello(1, SCHEMA), ArmRequest(2, 1_000), Command(3, 1_000, tuple(HELD.tolist())))


@pytest.mark.parametrize(("said", "mode"), [(ARMED, "ARMED"), ((*ARMED, Stop(4)), "STOPPED")])
def test_an_arm_that_is_not_disarmed_is_not_flashed(image, tool, controller, said, mode):
    record, made = tool("dfu-util"), controller(*said)
    text = ask("flash", image, "--profile", "metaworld-sawyer", "--port", made.line.port, error=FirmwareError)
    assert f"mode {mode}" in text
    assert not record.exists()
    assert made.device.mode.name == mode, "asking must not disarm it"


def test_a_silent_board_is_not_flashed_unless_it_is_said_to_be_blank(image, tool, controller):
    record, port = tool("dfu-util"), controller(silent=True).line.port
    assert "--blank" in ask("flash", image, "--profile", "metaworld-sawyer", "--port", port, error=NoAnswer)
    assert not record.exists()


def test_a_port_that_a_run_has_open_is_not_flashed(image, tool, controller):
    record, port = tool("dfu-util"), controller().line.port
    run = SerialTransport(port, 921_600)
    run.open()
    assert "end the other program" in ask(
        "flash", image, "--profile", "metaworld-sawyer", "--port", port, error=PortError
    )
    run.close()
    assert not record.exists()


def test_an_image_of_another_schema_or_for_another_address_is_not_flashed(tmp_path, image, tool):
    record = tool("dfu-util")
    (tmp_path / "other.bin").write_bytes(image_bytes(schema=0x1234_5678))
    options = ["--profile", "metaworld-sawyer", "--blank"]
    text = ask("flash", tmp_path / "other.bin", *options, error=BadFirmware)
    assert "firmware schema 0x12345678, host schema 0x6c6eb0ca: reflash" in text
    text = ask("flash", image, *options, "--address", "0x08010000", error=BadFirmware)
    assert "linked for another address" in text
    assert not record.exists()


@pytest.mark.parametrize("options", [[], ["--blank", "--port", "/dev/ttyACM0"], ["--blank", "--tool", "avrdude"],
                                     ["--blank", "--address", "here"], ["--blank", "--address", "-1"],
                                     ["--blank", "--address", "0x100000000"],
                                     ["--blank", "--tool", "openocd", "--chip", "x; rm"],
                                     ["--blank", "--tool", "openocd", "--chip", "../x"]])  # fmt: skip
def test_a_wrong_call_is_told_from_a_wrong_board(image, options):
    ask("flash", image, "--profile", "metaworld-sawyer", *options, error=Usage)


def test_openocd_gets_no_path_that_its_language_would_read(tmp_path):
    odd = tmp_path / "arm [exec].bin"
    odd.write_bytes(image_bytes())
    assert "Tcl" in ask(
        "flash", odd, "--profile", "metaworld-sawyer", "--blank", "--tool", "openocd", error=BadFirmware
    )
