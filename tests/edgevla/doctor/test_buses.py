"""Serial ports and CAN interfaces: there, permitted, fast, healthy, and nobody else's."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path
from typing import Any

import pytest

from edgevla.doctor import can, serial
from edgevla.doctor.can import parse_ip, set_up, unit
from edgevla.doctor.finding import Finding
from edgevla.doctor.host import Host, User, Wanted
from edgevla.doctor.probe import Tree, run_tool
from edgevla.doctor.serial import may_open, open_by
from tests.edgevla.doctor.machine import build, parts, wanted

PORT = "/dev/ttyUSB0"
LATENCY = "sys/devices/platform/bus@0/3610000.usb/usb1/1-2/1-2:1.0/ttyUSB0/latency_timer"
BRLTTY = "usr/lib/udev/rules.d/85-brltty.rules"
GRABS_CH340 = 'ENV{PRODUCT}=="1a86/7523/*", ENV{BRLTTY_BRAILLE_DRIVER}="bm", GOTO="brltty_usb_run"\n'


def ports(tmp_path: Path, name: str = "orin", port: str | None = PORT, **changes: object) -> dict[str, Finding]:
    host = build(name, tmp_path, **changes)  # type: ignore[arg-type]
    return {finding.name: finding for finding in serial.examine(host, wanted(port=port))}


def test_the_ftdi_timer_of_16_ms_fails_the_robots_port_and_warns_of_any_other(tmp_path: Path) -> None:
    name = f"latency timer of {PORT}"
    assert ports(tmp_path / "named")[name].level == "fail"
    assert ports(tmp_path / "other", port=None)[name].level == "warn"


def test_the_latency_lines_set_it_now_and_at_every_plug(tmp_path: Path) -> None:
    now, rule = ports(tmp_path)[f"latency timer of {PORT}"].todo
    assert now == "echo 1 | sudo tee /sys/class/tty/ttyUSB0/device/latency_timer"
    assert 'ATTR{latency_timer}="1"' in rule


def test_a_timer_of_1_ms_passes(tmp_path: Path) -> None:
    assert ports(tmp_path, files={LATENCY: "1"})[f"latency timer of {PORT}"].level == "pass"


def test_only_an_ftdi_adapter_has_that_timer(tmp_path: Path) -> None:
    assert f"latency timer of {PORT}" not in ports(tmp_path, "pi5")


def test_a_port_may_be_named_by_its_stable_link(tmp_path: Path) -> None:
    host = build("orin", tmp_path)
    by_id = tmp_path / "dev/serial/by-id/usb-FTDI"
    by_id.parent.mkdir(parents=True)
    by_id.symlink_to("../../ttyUSB0")
    rows = {f.name: f for f in serial.examine(host, wanted(port="/dev/serial/by-id/usb-FTDI"))}
    assert "-> /dev/ttyUSB0" in rows["port /dev/serial/by-id/usb-FTDI"].found
    assert rows[f"latency timer of {PORT}"].level == "fail"


def test_a_port_that_is_not_there_fails(tmp_path: Path) -> None:
    assert ports(tmp_path, port="/dev/ttyUSB7")["port /dev/ttyUSB7"].level == "fail"


def test_a_port_of_a_group_that_is_not_the_users_fails_with_the_group_to_join(tmp_path: Path) -> None:
    files = {"etc/group": f"root:x:0:\ndialout:x:{os.getegid()}:robot\n"}
    finding = ports(tmp_path, files=files, user=User(1000, frozenset({1000})))[f"port {PORT}"]
    assert finding.level == "fail"
    assert "dialout" in finding.todo[0]


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "may"),
    [
        (0o660, 1000, {20}, True),
        (0o660, 1000, {1000}, False),
        (0o640, 1000, {20}, False),  # read only
        (0o600, 33, {33}, True),  # the owner
        (0o066, 33, {33}, False),  # the owner's bits count for the owner, as in the kernel
        (0o666, 1000, {1000}, True),
        (0o000, 0, {0}, True),
    ],
)
def test_permission_bits_decide_as_in_the_kernel(mode: int, uid: int, groups: set[int], may: bool) -> None:
    assert may_open(mode, 33, 20, User(uid, frozenset(groups))) is may


def test_brltty_that_names_the_adapter_is_a_warning_and_a_running_one_a_fail(tmp_path: Path) -> None:
    name = f"brltty on {PORT}"
    assert ports(tmp_path / "rule", "pi5", files={BRLTTY: GRABS_CH340})[name].level == "warn"
    running = {BRLTTY: GRABS_CH340, "proc/77/comm": "brltty\n"}
    assert ports(tmp_path / "runs", "pi5", files=running)[name].level == "fail"


def test_a_brltty_rule_that_is_commented_out_or_of_another_adapter_grabs_nothing(tmp_path: Path) -> None:
    assert ports(tmp_path / "off", "pi5", files={BRLTTY: "# " + GRABS_CH340})[f"brltty on {PORT}"].level == "info"
    assert ports(tmp_path / "other")[f"brltty on {PORT}"].level == "info"  # an FTDI 6014; the rules name others


def test_a_rule_switched_off_in_etc_counts_for_nothing(tmp_path: Path) -> None:
    host = build("pi5", tmp_path, files={BRLTTY: GRABS_CH340})
    (tmp_path / "etc/udev/rules.d").mkdir(parents=True)
    (tmp_path / "etc/udev/rules.d/85-brltty.rules").symlink_to("/dev/null")
    rows = {f.name: f for f in serial.examine(host, wanted(port=PORT))}
    assert rows[f"brltty on {PORT}"].level == "pass"


def test_a_port_that_vanished_while_brltty_runs_says_so(tmp_path: Path) -> None:
    rows = ports(tmp_path, "pi5", port="/dev/ttyUSB1", files={BRLTTY: GRABS_CH340, "proc/77/comm": "brltty\n"})
    assert rows["port /dev/ttyUSB1"].level == rows["brltty"].level == "fail"


def test_modem_manager_is_a_warning_until_a_rule_tells_it_to_leave(tmp_path: Path) -> None:
    name = f"ModemManager on {PORT}"
    told = 'ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6014", ENV{ID_MM_DEVICE_IGNORE}="1"\n'
    assert ports(tmp_path / "probes")[name].level == "warn"
    assert ports(tmp_path / "told", files={"etc/udev/rules.d/99-x.rules": told})[name].level == "pass"


def test_a_kernel_console_on_the_port_fails(tmp_path: Path) -> None:
    rows = ports(tmp_path, files={"proc/cmdline": "quiet console=ttyUSB0,115200"})
    assert rows[f"console on {PORT}"].level == "fail"


def test_another_process_on_the_bus_is_named(tmp_path: Path) -> None:
    host = build("orin", tmp_path, files={"proc/4711/comm": "lerobot-teleop\n"})
    (tmp_path / "proc/4711/fd").mkdir()
    (tmp_path / "proc/4711/fd/5").symlink_to(PORT)
    finding = {f.name: f for f in serial.examine(host, wanted(port=PORT))}[f"who has {PORT} open"]
    assert (finding.level, finding.found) == ("fail", "lerobot-teleop (4711)")


def test_an_open_terminal_of_this_very_process_is_found_in_the_real_proc() -> None:
    controller, device = pty.openpty()
    try:
        holders, _ = open_by(Tree(), os.ttyname(device))
    finally:
        os.close(controller)
        os.close(device)
    assert os.getpid() in [pid for pid, _ in holders]


def can_link(**changes: Any) -> str:
    """The Raspberry Pi's can0, with other values of `info_data`, or of the link: flags, txqlen, bus_off."""
    link = json.loads(parts("pi5").commands["ip"])[0]
    for key, value in changes.items():
        if key == "bus_off":
            link["linkinfo"]["info_xstats"]["bus_off"] = value
        elif key in link:
            link[key] = value
        else:
            link["linkinfo"]["info_data"][key] = value
    return json.dumps([link])


def buses(tmp_path: Path, port: str | None = "can0", **changes: object) -> dict[str, Finding]:
    host = build("pi5", tmp_path, **changes)  # type: ignore[arg-type]
    return {finding.name: finding for finding in can.examine(host, wanted(port=port))}


def test_what_ip_prints_of_an_fd_interface_is_read_whole() -> None:
    links = parse_ip(can_link(restart_ms=100, bus_off=3, txqlen=64))
    assert links == [
        can.Link("can0", "can", True, "ERROR-ACTIVE", 1_000_000, 5_000_000, True, restart_ms=100, bus_off=3, queue=64)
    ]


@pytest.mark.parametrize("text", ["", "{}", "can0: <NOARP>"])
def test_an_ip_without_json_is_no_answer(text: str) -> None:
    assert parse_ip(text) is None


def test_the_real_ip_of_this_machine_prints_what_the_parser_reads() -> None:
    reading = run_tool(["ip", "-details", "-statistics", "-json", "link", "show"])
    assert reading.text is None or parse_ip(reading.text) is not None, reading


def test_an_interface_that_is_down_fails_with_the_lines_that_bring_it_up(tmp_path: Path) -> None:
    finding = buses(tmp_path, commands={"ip": can_link(flags=["NOARP"], state="STOPPED")})["CAN can0"]
    assert (finding.level, finding.found) == ("fail", "down, STOPPED")
    assert finding.todo[0].startswith(
        "sudo ip link set can0 down; sudo ip link set can0 type can "
        "bitrate 1000000 dbitrate 5000000 fd on restart-ms 100"
    )
    assert any("/etc/systemd/network/80-can0.network" in line for line in finding.todo)


def test_the_same_interface_is_a_warning_when_it_was_not_named(tmp_path: Path) -> None:
    ip = can_link(flags=["NOARP"], state="STOPPED")
    assert buses(tmp_path, port=None, commands={"ip": ip})["CAN can0"].level == "warn"


@pytest.mark.parametrize(
    ("state", "level"),
    [("ERROR-ACTIVE", "pass"), ("ERROR-WARNING", "warn"), ("ERROR-PASSIVE", "warn"), ("BUS-OFF", "fail")],
)
def test_the_state_of_the_controller_decides(tmp_path: Path, state: str, level: str) -> None:
    assert buses(tmp_path, commands={"ip": can_link(state=state)})["CAN can0"].level == level


def test_another_bit_rate_is_a_warning(tmp_path: Path) -> None:
    finding = buses(tmp_path, commands={"ip": can_link(bittiming={"bitrate": 500000})})["CAN can0 bit rate"]
    assert (finding.level, finding.expected) == ("warn", "1 Mbit/s")


def test_fd_without_a_faster_data_phase_is_a_warning(tmp_path: Path) -> None:
    ip = can_link(data_bittiming={"bitrate": 1000000})
    assert buses(tmp_path, commands={"ip": ip})["CAN can0 bit rate"].level == "warn"


@pytest.mark.parametrize(("queue", "level"), [(10, "warn"), (32, "pass"), (128, "pass"), (1000, "warn")])
def test_a_queue_holds_one_cycle_and_not_many(tmp_path: Path, queue: int, level: str) -> None:
    assert buses(tmp_path, commands={"ip": can_link(txqlen=queue)})["CAN can0 txqueuelen"].level == level


def test_bus_off_in_the_past_is_a_warning(tmp_path: Path) -> None:
    finding = buses(tmp_path, commands={"ip": can_link(bus_off=2)})["CAN can0 bus-off count"]
    assert (finding.level, finding.found) == ("warn", "2")


def test_another_program_on_the_can_bus_fails(tmp_path: Path) -> None:
    lines = "receive list 'rx_all':\n  device   can_id   can_mask  function  userdata   matches  ident\n"
    candump = "   can0       000    00000000  00000000aa  00000000bb         7  raw\n"
    finding = buses(tmp_path, files={"proc/net/can/rcvlist_all": lines + candump})["who listens on can0"]
    assert (finding.level, finding.found) == ("fail", "1 receivers")


def test_without_ip_sysfs_says_what_it_can_and_the_rest_is_not_known(tmp_path: Path) -> None:
    net = "sys/class/net/can0"
    files = {
        f"{net}/type": "280",
        f"{net}/flags": "0x40081",
        f"{net}/tx_queue_len": "64",
        "sys/class/net/eth0/type": "1",
    }
    rows = buses(tmp_path, files=files, commands={"ip": None})
    assert {name: f.level for name, f in rows.items()} == {
        "CAN can0": "info",
        "CAN can0 bit rate": "info",
        "CAN can0 restart": "info",
        "CAN can0 bus-off count": "info",
        "CAN can0 txqueuelen": "pass",
        "who listens on can0": "pass",
    }


def test_a_named_interface_that_is_not_there_fails_with_the_modules_to_load(tmp_path: Path) -> None:
    host = build("orin", tmp_path)
    (finding,) = can.examine(host, wanted(port="can0"))
    assert finding.level == "fail"
    assert finding.todo == ("sudo modprobe -a can can_raw mttcan", set_up("can0", 1_000_000))


def test_the_unit_has_the_rates_in_systemds_words() -> None:
    files = unit("can1")
    assert files["/etc/systemd/network/80-can1.network"] == (
        "[Match]\nName=can1\n\n[CAN]\nBitRate=1000000\nDataBitRate=5000000\nFDMode=yes\nRestartSec=100ms\n"
    )


@pytest.mark.parametrize(
    ("port", "is_can", "is_serial"),
    [("can0", "can0", None), ("socketcan:vcan1", "vcan1", None), (PORT, None, PORT), (None, None, None)],
)
def test_a_port_is_a_can_interface_or_a_file(port: str | None, is_can: str | None, is_serial: str | None) -> None:
    what = Wanted(port=port)
    assert (what.can_port, what.serial_port) == (is_can, is_serial)


def test_this_machines_own_ports_can_be_examined() -> None:
    assert serial.examine(Host(), Wanted())
    assert can.examine(Host(), Wanted())
