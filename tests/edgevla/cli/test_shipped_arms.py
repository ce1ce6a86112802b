"""Every shipped arm profile: its driver takes it, and `arm show` prints every joint of its virtual arm."""

import json

import pytest

import profiles
from edgevla.cli.main import run_command
from firmware_bridge.virtual.client import VirtualProcess
from profiles.bridge import joints_of
from profiles.loader import _HERE


@pytest.mark.parametrize("name", profiles.list_arms())
def test_a_shipped_arm_is_valid_to_its_driver_and_shown_joint_by_joint(name, capsys):
    assert run_command(["profiles", "validate", str(_HERE / "arms" / f"{name}.toml")]) == 0
    arm = profiles.load_arm(name)
    asked = {"options": dict(arm.options), "watchdog_s": arm.watchdog_s}
    devices = {bus: VirtualProcess(arm.protocol, joints_of(arm, bus), **asked) for bus in arm.buses}
    try:
        port = ",".join(f"{bus}={device.port}" for bus, device in devices.items())
        capsys.readouterr()
        assert run_command(["arm", "show", "--arm", name, "--port", port]) == 0
        shown = capsys.readouterr().out
        assert run_command(["arm", "show", "--arm", name, "--port", port, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["held"]) == len(arm.channels)
    finally:
        for device in devices.values():
            device.close()
    assert sum(channel.name[:4] in shown for channel in arm.channels) == len(arm.channels)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('model = "sts3215"', 'model = "sts9999"'),
        ("id = 1", "id = 300"),
        ('watchdog_s = "none"', "watchdog_s = 0.1"),
    ],
)
def test_a_profile_that_its_driver_refuses_is_not_sound(tmp_path, line, wrong, capsys):
    text = (_HERE / "arms" / "so101.toml").read_text()
    assert line in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(line, wrong, 1))
    assert run_command(["profiles", "validate", str(path)]) == 4
    assert "expected" in capsys.readouterr().err
