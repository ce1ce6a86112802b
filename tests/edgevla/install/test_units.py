"""The rendered units: systemd finds no fault in them, they expose little, and they allow what the arm needs only."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgevla.install.place import PLACES
from edgevla.install.units import render
from profiles import load_arm, load_target

ROOT = Path(__file__).parents[3]
MOST_EXPOSED = 2.0  # the goal of systemd-analyze's figure
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
ARMS = ["so101", "viperx", "metaworld-sawyer", "openarm", "canopen-six-axis"]
CAN_ARMS = ["openarm", "canopen-six-axis"]


def rendered(arm, target="host", prefix="/opt/edgevla"):
    return {name: content.decode() for name, content in render(load_target(target), load_arm(arm), prefix).items()}


def settings(unit, key):
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def analysed(folder, *arguments):
    environment = {**os.environ, "SYSTEMD_PAGER": "", "NO_COLOR": "1"}
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=60)


def written(tmp_path, arm, target="host"):
    """The units in a folder, for a prefix where their commands can be executed."""
    prefix = tmp_path / "prefix"
    (prefix / "current" / "venv" / "bin").mkdir(parents=True)
    (prefix / "current" / "venv" / "bin" / "python3").symlink_to(sys.executable)
    folder = tmp_path / "units"
    folder.mkdir()
    for name, text in rendered(arm, target, str(prefix)).items():
        (folder / name).write_text(text)
    return sorted(folder.glob("*.service"))


@needs_systemd
@pytest.mark.parametrize("arm", ["so101", "openarm"])
def test_systemd_has_nothing_to_say_about_the_units(tmp_path, arm):
    units = written(tmp_path, arm)
    done = analysed(tmp_path, "verify", *units)
    assert (done.stdout, done.stderr) == ("", "")


@needs_systemd
def test_a_wrong_key_would_be_said(tmp_path):
    unit, *_ = [unit for unit in written(tmp_path, "so101") if unit.name == "edgevla.service"]
    unit.write_text(unit.read_text().replace("NoNewPrivileges=", "NoNewPrivilege="))
    assert "NoNewPrivilege" in analysed(tmp_path, "verify", unit).stderr


@needs_systemd
@pytest.mark.parametrize("target", ["host", "jetson-orin"])
@pytest.mark.parametrize("arm", ["so101", "openarm"])
def test_every_unit_exposes_little(tmp_path, arm, target):
    units = written(tmp_path, arm, target)
    assert [unit.name for unit in units] == [
        "edgevla-boot.service",
        *(["edgevla-can.service"] if arm == "openarm" else []),
        "edgevla.service",
    ]
    for unit in units:
        done = analysed(tmp_path, "security", "--offline=true", "--no-pager", unit)
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        assert found, done.stderr
        print(f"{arm} {unit.name}: exposure {found[1]}")
        assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("arm", ARMS)
def test_a_serial_arm_gets_serial_ports_and_no_network_a_can_arm_can_and_no_serial_port(arm):
    files = rendered(arm)
    unit = files["edgevla.service"]
    devices = " ".join(settings(unit, "DeviceAllow"))
    assert settings(unit, "IPAddressDeny") == ["any"]
    assert settings(unit, "DevicePolicy") == ["closed"]
    if arm in CAN_ARMS:
        assert settings(unit, "RestrictAddressFamilies") == ["AF_UNIX AF_CAN"]
        assert "tty" not in devices
        assert settings(unit, "Wants") == ["edgevla-boot.service edgevla-can.service"]
        assert 'SYSTEMD_WANTS}+="edgevla-can.service"' in files["99-edgevla.rules"]
    else:
        assert settings(unit, "RestrictAddressFamilies") == ["AF_UNIX"]
        assert settings(unit, "PrivateNetwork") == ["yes"]
        assert "char-ttyUSB rw" in devices
        assert "edgevla-can" not in "".join(files.values())
        assert "edgevla-can.service" not in files
    assert ("video4linux" in devices) == bool(load_arm(arm).cameras)


def test_the_can_unit_has_the_bit_rates_of_the_arm():
    can = rendered("openarm")["edgevla-can.service"]
    assert "--bitrate 1000000 --data-bitrate 5000000" in can
    assert settings(can, "CapabilityBoundingSet") == ["CAP_NET_ADMIN"]
    moteus = replace(load_arm("openarm"), protocol="moteus", data_baud=None)  # which speaks CAN-FD only
    assert b"--data-bitrate 5000000" in render(load_target("host"), moteus)["edgevla-can.service"]
    classic = render(load_target("host"), load_arm("canopen-six-axis"))["edgevla-can.service"]
    assert b"--data-bitrate" not in classic


def test_the_selector_counts_a_bad_release_out_before_systemd_gives_up():
    unit = rendered("so101")["edgevla.service"]
    assert [command.rpartition(" ")[2] for command in settings(unit, "ExecStartPre")] == ["recover", "count"]
    assert all(command.startswith("+/usr/bin/python3 -I -B ") for command in settings(unit, "ExecStartPre"))
    # Two tries of the new release, one start that returns to the good one, and as many again for that one.
    assert int(settings(unit, "StartLimitBurst")[0]) >= 2 * 3
    assert settings(unit, "Restart") == ["on-failure"]
    assert settings(unit, "RestartPreventExitStatus") == []


def test_the_service_never_arms_by_itself():
    assert "arm-at-start" not in rendered("so101")["edgevla.service"]


def test_a_torque_policy_that_waits_is_given_its_time():
    patient = replace(load_arm("so101"), torque_policy="off", torque_s=120.0)
    unit = render(load_target("host"), patient)["edgevla.service"].decode()
    assert int(settings(unit, "TimeoutStopSec")[0]) > 120


def test_a_gpu_is_allowed_only_where_the_target_uses_one():
    gpu = replace(load_target("jetson-orin"), providers=("TensorrtExecutionProvider", "CPUExecutionProvider"))
    with_gpu = render(gpu, load_arm("so101"))["edgevla.service"].decode()
    assert "DeviceAllow=/dev/nvmap rw" in with_gpu
    assert "MemoryDenyWriteExecute" not in with_gpu  # CUDA makes code at run time
    without = rendered("so101", "jetson-orin")["edgevla.service"]
    assert "nvmap" not in without
    assert settings(without, "MemoryDenyWriteExecute") == ["yes"]


@pytest.mark.parametrize(
    ("servo", "policy", "expected"),
    [(5, 4, ["0 1 2 3"]), (1, 0, ["0"]), (3, 1, ["0 2"]), (0, None, []), (None, None, [])],
)
def test_the_other_processes_keep_off_the_cores_of_servo_and_policy(servo, policy, expected):
    target = replace(load_target("jetson-orin"), servo_core=servo, policy_core=policy)
    unit = render(target, load_arm("so101"))["edgevla.service"].decode()
    assert settings(unit, "CPUAffinity") == expected


def test_every_udev_rule_is_a_list_of_keys_operators_and_values():
    for arm in ("so101", "openarm"):
        for line in rendered(arm)["99-edgevla.rules"].splitlines():
            pair = r'[A-Z]+(\{[\w./]+\})?(==|!=|\+=|=)"[^"]*"'
            assert line.startswith("#") or re.fullmatch(rf"{pair}(, {pair})*", line), line


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_user_is_made_without_a_shell(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "edgevla.conf").write_text(rendered("so101")["edgevla.sysusers"])
    command = ["systemd-sysusers", f"--root={tmp_path}", str(tmp_path / "edgevla.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if "Operation not permitted" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip(f"systemd-sysusers wants root: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    user = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("edgevla:"))
    assert user.endswith("nologin")
    groups = (tmp_path / "etc/group").read_text().splitlines()
    assert {line.split(":")[0] for line in groups if line.endswith(":edgevla")} == {"dialout", "video", "render"}


def test_every_file_has_a_place_on_the_robot():
    assert {name for arm in ARMS for name in rendered(arm)} == set(PLACES)


def test_the_example_is_the_rendered_unit():
    text = (ROOT / "examples/standalone/edgevla.service").read_text()
    assert text == rendered("so101", "jetson-orin")["edgevla.service"]
