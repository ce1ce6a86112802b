"""`edgevla sim-arm` of ODrives: boards that are set up as docs/protocols/odrive.md tells their user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevla.bus import watch
from edgevla.bus.virtual_arm import started
from edgevla.cli.main import run_command
from firmware_bridge.errors import ArmRefused, BridgeError
from firmware_bridge.odrive.board import flat_endpoints
from profiles.calibrated import load_calibrated

HEAD = """
name = "my-odrive"
description = "two ODrives"
protocol = "odrive"
baud = 1000000
watchdog_s = 0.3
on_expiry = "free"
falls_on_loss = true
return_delay_s = 0.0
usb_turnaround_s = 0.0
command_ttl_s = 0.1
max_state_age_s = 0.5
max_skew_s = 0.2
hold_s = 1.0
torque_s = 30.0
torque_policy = "hold"
start_low = [-1.4, -1.4]
start_high = [1.4, 1.4]

[options]
"""
CAMERA = """
[[cameras]]
name = "front"
width = 640
height = 480
rate_hz = 30.0
max_age_s = 0.100
"""
CHANNEL = """
[[channels]]
name = "j{0}"
unit = "rad"
minimum = -1.5
maximum = 1.5
max_velocity = 1.0
max_acceleration = 10.0
max_jerk = 200.0
stop_deceleration = 10.0
max_effort = 10.0
max_following_error = 0.4
effort_s = 1.0

[channels.motor]
id = {0}
model = "{1}"
ratio = 0.5

[[state]]
name = "j{0}"
unit = "rad"
"""


def written(folder: Path, options: str, model: str = "s1") -> str:
    path = folder / "my-odrive.toml"
    path.write_text(HEAD + options + "\n" + CHANNEL.format(1, model) + CHANNEL.format(2, model) + CAMERA)
    return str(path)


def endpoint_file(folder: Path) -> Path:
    """As ODrive publishes one for another firmware: other ids, its version in its head."""
    file = flat_endpoints()
    for number, entry in enumerate(file["endpoints"].values()):
        entry["id"] = 300 + number
    path = folder / "flat_endpoints.json"
    path.write_text(json.dumps({**file, "fw_version": "0.6.10-0"}))
    return path


@pytest.mark.parametrize("model", ["s1", "pro", "odrive"])
def test_boards_that_odrivetool_has_set_up_can_be_shown_monitored_and_moved(tmp_path, model, capsys):
    path = written(tmp_path, "watchdog_configured = true\nheartbeat_s = 0.02", model)
    with started(load_calibrated(path, None), "main", False, 0.0) as process:
        where = ["--arm", path, "--port", process.port]
        assert run_command(["bus", "scan", "--port", process.port, "--protocol", "odrive"]) == 0
        assert run_command(["arm", "show", *where]) == 0
        assert "on the profile's word" in " ".join(capsys.readouterr().out.split())
        assert run_command(["arm", "home", *where]) == 0
        assert run_command(["bus", "monitor", *where, "--count", "2"]) == 0


def test_boards_of_the_endpoint_file_take_what_the_driver_writes(tmp_path):
    profile = load_calibrated(written(tmp_path, f'endpoints = "{endpoint_file(tmp_path)}"'), None)
    with started(profile, "main", False, 0.0) as process:
        arm = watch.opened(profile, process.port)
        info = arm.connect()
        assert [joint.firmware for joint in info.joints] == ["0.6.10"] * 2
        assert info.watchdog_ms == 300  # read back
        arm.arm()
        assert process.do("report")["torque_on"] == [True] * 2
        arm.close()


def test_a_watchdog_that_nobody_speaks_for_is_refused_with_what_to_do(tmp_path):
    profile = load_calibrated(written(tmp_path, ""), None)
    with started(profile, "main", False, 0.0) as process:
        arm = watch.opened(profile, process.port)
        arm.connect()  # looking is allowed
        with pytest.raises(ArmRefused, match="set it with odrivetool, save, and say so"):
            arm.arm()
        arm.close()


def test_the_watchdog_that_odrivetool_was_to_save_is_there_and_outlives_the_power(tmp_path):
    profile = load_calibrated(written(tmp_path, "watchdog_configured = true\nheartbeat_s = 0.02"), None)
    with started(profile, "main", False, 0.0) as process:
        process.do("power", on=False)
        process.do("power", on=True)
        arm = watch.opened(profile, process.port)
        arm.connect()
        arm.arm()
        list(watch.watch(arm, 0.05, 20))  # questions feed no watchdog
        assert process.do("report")["device"]["watchdog_trips"] == 2
        arm.close()


def test_an_endpoint_file_that_is_not_there_is_named(tmp_path, capfd):
    profile = load_calibrated(written(tmp_path, 'endpoints = "/nowhere/flat_endpoints.json"'), None)
    with pytest.raises(BridgeError):
        started(profile, "main", False, 0.0)
    assert "cannot use /nowhere/flat_endpoints.json" in capfd.readouterr().err
