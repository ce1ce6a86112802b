"""Serial ports: there, permitted, fast enough, and nobody else's."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass

from edgevla.doctor.finding import Finding, failed, passed, said, unknown, warned
from edgevla.doctor.host import Host, User, Wanted
from edgevla.doctor.probe import Tree

Verdict = Callable[..., Finding]

_TTY = "sys/class/tty"
_PORTS = r"tty(USB|ACM|THS|AMA)\d+"
_PARENTS = 5  # from a tty's interface up to its USB device
_RULES = ("etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")


@dataclass(frozen=True)
class Port:
    """One tty of a device. `usb`: 'vendor:product' in lower-case hex, '' where it is not on USB."""

    name: str
    driver: str
    usb: str
    product: str

    @property
    def path(self) -> str:
        """/dev/NAME"""
        return f"/dev/{self.name}"


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject: of the named port, else of every port that a device has here."""
    if wanted.serial_port is not None:
        return _named(host, wanted.serial_port)
    ports = [describe(host.tree, name) for name in host.tree.names(_TTY, _PORTS)]
    ports = [port for port in ports if port.driver or port.usb]
    if not ports:
        return [said("serial ports", "none has a device behind it", "", "edgevla doctor --port /dev/...")]
    listed = ", ".join(f"{port.path} ({_what(port)})" for port in ports)
    return [said("serial ports", listed), *(f for port in ports for f in _judged(host, port, warned))]


def _named(host: Host, path: str) -> list[Finding]:
    name, expected = f"port {path}", "a serial port that this user may open"
    real = host.tree.resolve(path)
    try:
        status = host.tree.path(real).stat()
    except OSError as error:
        todo = "ls -l /dev/serial/by-id /dev/ttyTHS* /dev/ttyAMA*"
        more = ["sudo dmesg | grep -iE 'tty|brltty' | tail"]
        return [failed(name, f"{error.strerror}", expected, todo, *more), *_brltty(host, None, failed)]
    port = describe(host.tree, real.removeprefix("/dev/"))
    where = "" if real == path else f" -> {real}"
    first = _permission(host, name, expected, status, f"{_what(port)}{where}", real)
    return [first, *_judged(host, port, failed)]


def _what(port: Port) -> str:
    return ", ".join(text for text in (port.driver, port.usb, port.product) if text) or "no device in sysfs"


def describe(tree: Tree, name: str) -> Port:
    """What sysfs says of a tty."""
    device = f"{_TTY}/{name}/device"
    driver = os.path.basename(tree.link(f"{device}/driver") or "")
    folder = tree.resolve(device) if tree.exists(device) else ""
    for _ in range(_PARENTS if folder else 0):
        usb = f"{tree.text(f'{folder}/idVendor')}:{tree.text(f'{folder}/idProduct')}".lower()
        if re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", usb):
            return Port(name, driver, usb, tree.text(f"{folder}/product"))
        folder = os.path.dirname(folder)
    return Port(name, driver, "", "")


def may_open(mode: int, owner: int, group: int, user: User) -> bool:
    """Whether the permission bits let this user read and write."""
    if user.uid == 0:
        return True
    shift = 6 if user.uid == owner else 3 if group in user.groups else 0
    return (mode >> shift) & 6 == 6


def _permission(host: Host, name: str, expected: str, status: os.stat_result, what: str, real: str) -> Finding:
    mode = stat.S_IMODE(status.st_mode)
    found = f"{what}, mode {mode:04o}, group {_group(host.tree, status.st_gid)}"
    if may_open(mode, status.st_uid, status.st_gid, host.user):
        return passed(name, found, expected)
    join = f"sudo usermod -aG {_group(host.tree, status.st_gid)} $USER   # then log in again"
    if status.st_gid == 0 or not mode & 0o060:
        join = f'sudo chgrp dialout {real} && sudo chmod 660 {real}   # for good: a udev rule with GROUP="dialout"'
    return failed(name, f"{found}: this user may not", expected, join)


def _group(tree: Tree, gid: int) -> str:
    for line in tree.text("etc/group").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(gid):
            return fields[0]
    return str(gid)


def _judged(host: Host, port: Port, bad: Verdict) -> list[Finding]:
    """What may be wrong with a port that exists; `bad` is `failed` for the robot's own, `warned` for any other."""
    return [
        *_latency(host, port, bad),
        *_console(host, port, bad),
        *_brltty(host, port, bad),
        *_modem_manager(host, port),
        _holders(host, port, bad),
    ]


def _console(host: Host, port: Port, bad: Verdict) -> list[Finding]:
    """A kernel console prints into the bus, and a login there reads from it."""
    consoles = [word.removeprefix("console=").split(",")[0] for word in host.cmdline.split() if "console=" in word]
    if port.name not in consoles:
        return []
    todo = host.boot_todo(f"take console={port.name} out instead")
    return [bad(f"console on {port.path}", "the kernel prints there", "none", todo)]


def _latency(host: Host, port: Port, bad: Verdict) -> list[Finding]:
    """An FTDI adapter keeps a short answer back until its timer ends: 16 ms by default, 60 requests a second."""
    if port.driver != "ftdi_sio":
        return []
    name, expected, file = f"latency timer of {port.path}", "1 ms", f"sys/class/tty/{port.name}/device/latency_timer"
    latency_ms = host.tree.number(file)
    if latency_ms is None:
        return [unknown(name, f"/{file} cannot be read", expected)]
    if latency_ms <= 1:
        return [passed(name, f"{latency_ms} ms", expected)]
    rule = 'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVERS=="ftdi_sio", ATTR{latency_timer}="1"'
    todo = (
        f"echo 1 | sudo tee /{file}",
        f"echo '{rule}' | sudo tee /etc/udev/rules.d/99-edgevla-latency.rules && sudo udevadm control --reload",
    )
    found = f"{latency_ms} ms: at most {1000 // latency_ms} requests with an answer a second"
    return [bad(name, found, expected, *todo)]


def _brltty(host: Host, port: Port | None, bad: Verdict) -> list[Finding]:
    """brltty takes common USB serial chips (CH340, CP210x) for Braille displays and detaches their port."""
    name = f"brltty on {port.path}" if port else "brltty"
    expected = "absent, or not after this adapter"
    rules = [rule for rule in _rule_files(host.tree) if "brltty" in rule]
    runs = _running(host.tree, "brltty")
    masked = "brltty-udev.service" in host.tree.names("etc/systemd/system") and (
        host.tree.link("etc/systemd/system/brltty-udev.service") == "/dev/null"
    )
    if not rules and not runs:
        return [passed(name, "not installed", expected)]
    wants = [rule for rule in rules if port and port.usb and _names_adapter(host.tree.text(rule), port.usb)]
    todo = ("sudo apt remove brltty", "or: sudo systemctl mask --now brltty-udev.service brltty.path")
    found = f"{'running' if runs else 'not running'}, rules {', '.join('/' + rule for rule in rules) or 'none'}"
    if masked and not runs:
        return [passed(name, f"masked; {found}", expected)]
    if runs and (wants or port is None):
        return [bad(name, found, expected, *todo)]
    if wants:
        return [warned(name, f"{found} name {port.usb if port else ''}", expected, *todo)]
    return [said(name, found, expected, *todo)]


def _names_adapter(rules: str, usb: str) -> bool:
    """Whether a rule that is no comment names vendor and product: as PRODUCT==\"1a86/7523/*\" or by two attributes."""
    vendor, product = usb.split(":")
    short = f"{vendor.lstrip('0')}/{product.lstrip('0')}/"
    lines = [line.lower() for line in rules.splitlines() if not line.lstrip().startswith("#")]
    return any(f'"{short}' in line or (f'"{vendor}"' in line and f'"{product}"' in line) for line in lines)


def _modem_manager(host: Host, port: Port) -> list[Finding]:
    """ModemManager writes AT commands into every new port to see whether it is a modem."""
    name, expected = f"ModemManager on {port.path}", "absent, or told to leave this adapter alone"
    if not port.usb:
        return []
    if not _running(host.tree, "ModemManager"):
        return [passed(name, "not running", expected)]
    vendor, product = port.usb.split(":")
    for rule in _rule_files(host.tree):
        lines = host.tree.text(rule).splitlines()
        if any("ID_MM_DEVICE_IGNORE" in line and vendor in line.lower() and product in line.lower() for line in lines):
            return [passed(name, f"running, told by /{rule}", expected)]
    line = f'ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}", ENV{{ID_MM_DEVICE_IGNORE}}="1"'
    todo = f"echo '{line}' | sudo tee /etc/udev/rules.d/99-edgevla-modem.rules && sudo udevadm control --reload"
    return [warned(name, "running", expected, "sudo systemctl disable --now ModemManager", f"or: {todo}")]


def _holders(host: Host, port: Port, bad: Verdict) -> Finding:
    name, expected = f"who has {port.path} open", "nobody"
    holders, hidden = open_by(host.tree, port.path)
    if holders:
        found = ", ".join(f"{command} ({pid})" for pid, command in holders)
        return bad(name, found, expected, f"sudo systemctl stop <its service>, or end it: kill {holders[0][0]}")
    if hidden:
        reason = f"nobody of this user's; {hidden} processes of others may not be looked into"
        return unknown(name, reason, expected, f"sudo fuser -v {port.path}")
    return passed(name, "nobody", expected)


def open_by(tree: Tree, path: str) -> tuple[list[tuple[int, str]], int]:
    """(pid, command) of every process that has the file open, and how many could not be looked into."""
    holders, hidden = [], 0
    for pid in tree.names("proc", r"\d+"):
        try:
            handles = os.listdir(tree.path(f"proc/{pid}/fd"))
        except FileNotFoundError:  # it ended meanwhile, or the tree does not show it
            continue
        except OSError:
            hidden += 1
            continue
        if any(tree.link(f"proc/{pid}/fd/{handle}") == path for handle in handles):
            holders.append((int(pid), tree.text(f"proc/{pid}/comm", "?")))
    return holders, hidden


def _running(tree: Tree, command: str) -> bool:
    return any(tree.text(f"proc/{pid}/comm") == command for pid in tree.names("proc", r"\d+"))


def _rule_files(tree: Tree) -> list[str]:
    """udev rules in force: a name in /etc stands before the same in /run and /usr/lib; '/dev/null' switches it off."""
    found: dict[str, str] = {}
    for folder in _RULES:
        for file in tree.names(folder, r".*\.rules"):
            found.setdefault(file, f"{folder}/{file}")
    return [path for path in found.values() if tree.link(path) != "/dev/null"]
