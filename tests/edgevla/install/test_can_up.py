"""What is changed on a CAN interface, from what `ip -json -details link show` says of it."""

import os
import subprocess
from pathlib import Path

import pytest

from edgevla.errors import DeviceFault
from edgevla.install.can_up import Wanted, bring_up, changes, main, wanted_of
from edgevla.install.robot_config import parse_robot_config

FD = Wanted(1_000_000, 5_000_000, 128)
CLASSIC = Wanted(500_000, None, 128)
SET = ["link", "set", "dev", "can0"]


def link(**changes):
    """As iproute2 prints a controller of CAN-FD that is up."""
    data = {
        "ctrlmode": ["FD"],
        "state": "ERROR-ACTIVE",
        "restart_ms": 0,
        "bittiming": {"bitrate": 1_000_000, "sample_point": "0.750"},
        "data_bittiming": {"bitrate": 5_000_000},
    }
    data |= changes.pop("data", {})
    info = {"info_kind": "can", "info_data": data}
    return {
        "ifname": "can0",
        "flags": ["NOARP", "UP", "LOWER_UP"],
        "mtu": 72,
        "txqlen": 128,
        "linkinfo": info,
        **changes,
    }


def test_a_bus_that_is_right_is_left_alone():
    assert changes("can0", link(), FD) == []


def test_a_new_controller_is_set_and_brought_up():
    new = link(flags=["NOARP"], txqlen=10, data={"bittiming": {}, "ctrlmode": []})
    assert changes("can0", new, FD) == [
        [*SET, "type", "can", "bitrate", "1000000", "dbitrate", "5000000", "fd", "on", "restart-ms", "0"],
        [*SET, "txqueuelen", "128"],
        [*SET, "up"],
    ]
    assert changes("can0", new, CLASSIC)[0][4:] == ["type", "can", "bitrate", "500000", "fd", "off", "restart-ms", "0"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": {"bittiming": {"bitrate": 500_000}}},
        {"data": {"data_bittiming": {"bitrate": 2_000_000}}},
        {"data": {"ctrlmode": []}},
        {"data": {"state": "BUS-OFF"}},
        {"data": {"restart_ms": 100}},
        {"txqlen": 10},
    ],
)
def test_one_that_is_up_and_wrong_goes_down_first(wrong):
    steps = changes("can0", link(**wrong), FD)
    assert steps[0] == [*SET, "down"]
    assert steps[-1] == [*SET, "up"]


def test_a_virtual_bus_has_no_bit_rate_and_long_frames_for_fd():
    virtual = {"flags": ["NOARP"], "mtu": 16, "txqlen": 128, "linkinfo": {"info_kind": "vcan"}}
    assert changes("can0", virtual, FD) == [
        [*SET, "mtu", "72"],
        [*SET, "txqueuelen", "128"],
        [*SET, "up"],
    ]
    assert changes("can0", {**virtual, "flags": ["UP"]}, CLASSIC) == []


def test_robot_toml_goes_before_the_arm():
    text = b'service = "systemd"\nport = "can0"\ninstruction = "x"\n[can]\nbitrate = 500000\n'
    assert wanted_of(parse_robot_config(text), 1_000_000, 5_000_000) == Wanted(500_000, 5_000_000, 128)


def ip_of(tmp_path, script):
    """A stand-in for `ip`, which this kernel without CAN cannot serve; it keeps what it was told."""
    path = tmp_path / "ip"
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{script}\n')
    path.chmod(0o755)
    return str(path)


def test_the_commands_are_really_given(tmp_path):
    ip = ip_of(tmp_path, 'case "$1" in -json) echo \'[{"ifname":"can0","flags":[],"txqlen":10}]\';; esac')
    assert bring_up("can0", CLASSIC, ip) is True
    assert (tmp_path / "asked").read_text().splitlines() == [
        "-json -details link show dev can0",
        "link set dev can0 txqueuelen 128",
        "link set dev can0 up",
    ]


def test_a_bit_rate_that_the_controller_has_not_is_said(tmp_path):
    answer = '[{"flags":[],"linkinfo":{"info_kind":"can","info_data":{}}}]'
    ip = ip_of(
        tmp_path,
        f"case \"$1\" in -json) echo '{answer}';; *) echo 'RTNETLINK answers: Invalid argument' >&2; exit 2;; esac",
    )
    with pytest.raises(DeviceFault, match=r"(?s)can0.*bitrate 500000.*Invalid argument.*\[can\] of robot.toml"):
        bring_up("can0", CLASSIC, ip)


@pytest.mark.skipif(not Path("/usr/sbin/ip").exists(), reason="iproute2 is not installed")
def test_an_interface_that_does_not_come_is_a_device_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("edgevla.install.can_up._APPEARS_S", 0.0)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/robot.toml").write_text('service = "systemd"\nport = "nocan7"\ninstruction = "x"\n')
    assert main([str(tmp_path), "--bitrate", "500000"]) == 5
    assert "nocan7" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make an interface")
def test_a_real_virtual_bus_comes_up():
    made = subprocess.run(["ip", "link", "add", "edgevlat0", "type", "vcan"], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"this kernel has no vcan: {made.stderr.strip()}")
    try:
        assert bring_up("edgevlat0", FD) is True
        assert bring_up("edgevlat0", FD) is False
    finally:
        subprocess.run(["ip", "link", "del", "edgevlat0"], check=True)
