"""CAN interfaces: up, at the right bit rates, healthy, with a queue of one cycle; and the lines that set one up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edgevla.doctor.finding import Finding, failed, passed, said, unknown, warned
from edgevla.doctor.host import Host, Wanted
from edgevla.doctor.probe import Reading, Tree

BITRATE, DATA_BITRATE = 1_000_000, 5_000_000
RESTART_MS = 100
# Frames the kernel may hold. 10, its default, ends a burst to six joints and back with ENOBUFS; each frame of a long
# queue is 0.13 ms old command at 1 Mbit/s once the bus comes back.
QUEUE, MIN_QUEUE, MAX_QUEUE = 64, 32, 128
_ARPHRD_CAN = 280  # linux/if_arp.h
_VIRTUAL = ("vcan", "vxcan")


@dataclass(frozen=True)
class Link:
    """One interface as `ip` or sysfs shows it. None: that source does not say."""

    name: str
    kind: str  # 'can', 'vcan', 'slcan', ...
    up: bool
    state: str | None  # 'ERROR-ACTIVE', 'ERROR-WARNING', 'ERROR-PASSIVE', 'BUS-OFF', 'STOPPED'
    bitrate: int | None
    data_bitrate: int | None
    fd: bool
    restart_ms: int | None
    bus_off: int | None
    queue: int | None


def examine(host: Host, wanted: Wanted) -> list[Finding]:
    """Findings of this subject: of the named interface, else of every one that is there."""
    reading = host.run(["ip", "-details", "-statistics", "-json", "link", "show"])
    links = parse_ip(reading.text) if reading.text is not None else None
    if links is None:
        reading = Reading(None, reading.reason or "this ip prints no JSON")
        links = _from_sysfs(host.tree)
    source = "" if reading.text is not None else f" (from sysfs: {reading.reason})"
    named = wanted.can_port
    bitrate = wanted.arm.baud if wanted.arm and named else BITRATE
    if named is None and not links:
        return [said("CAN", f"no interface{source}", "", "edgevla doctor --port can0")]
    if named is not None and named not in [link.name for link in links]:
        expected = "an interface of that name"
        what = f"none{source}; there are: {', '.join(link.name for link in links) or 'no CAN interfaces'}"
        return [failed(f"CAN {named}", what, expected, *_modules(host), set_up(named, bitrate))]
    judged = [link for link in links if named in (None, link.name)]
    return [finding for link in judged for finding in _judge(link, bitrate, named is not None, host, reading)]


def set_up(name: str, bitrate: int, data_bitrate: int = DATA_BITRATE) -> str:
    """The line that brings an interface up; without the FD part for an adapter or arm of CAN 2.0."""
    return (
        f"sudo ip link set {name} down; sudo ip link set {name} type can "
        f"bitrate {bitrate} dbitrate {data_bitrate} fd on restart-ms {RESTART_MS} && "
        f"sudo ip link set {name} txqueuelen {QUEUE} up   "
        f"# CAN 2.0: without `dbitrate {data_bitrate} fd on`"
    )


def unit(name: str, bitrate: int = BITRATE, data_bitrate: int = DATA_BITRATE) -> dict[str, str]:
    """Files of systemd-networkd that do the same at every boot: path -> text."""
    link = f"[Match]\nOriginalName={name}\n\n[Link]\nTransmitQueueLength={QUEUE}\n"
    return {
        f"/etc/systemd/network/80-{name}.network": (
            f"[Match]\nName={name}\n\n[CAN]\nBitRate={bitrate}\nDataBitRate={data_bitrate}\nFDMode=yes\n"
            f"RestartSec={RESTART_MS}ms\n"
        ),
        f"/etc/systemd/network/80-{name}.link": link,
    }


def _units(name: str, bitrate: int) -> tuple[str, ...]:
    printed = [
        "printf '" + text.replace("\n", "\\n") + f"' | sudo tee {path}" for path, text in unit(name, bitrate).items()
    ]
    return (*printed, "sudo systemctl enable --now systemd-networkd")


def _modules(host: Host) -> tuple[str, ...]:
    return (f"sudo modprobe -a can can_raw{' mttcan' if host.jetson else ''}",)


def _judge(link: Link, bitrate: int, named: bool, host: Host, reading: Reading) -> list[Finding]:
    if link.kind in _VIRTUAL:
        return [_virtual(link, named)]
    findings = [_state(link, bitrate, named), _bitrate(link, bitrate, reading), _restart(link, reading)]
    return [*findings, _bus_off(link, reading), _queue(link), _listeners(host.tree, link, named)]


def _virtual(link: Link, named: bool) -> Finding:
    name = f"CAN {link.name}"
    if named and not link.up:
        return failed(name, f"{link.kind}, down", "up", f"sudo ip link set {link.name} up")
    return said(name, f"{link.kind}, {'up' if link.up else 'down'}: no wire, no bit rate, no bus-off")


def _state(link: Link, bitrate: int, named: bool) -> Finding:
    name, expected = f"CAN {link.name}", "up, ERROR-ACTIVE"
    found = f"{'up' if link.up else 'down'}, {link.state or 'state not known'}"
    bad = failed if named else warned
    if link.state == "BUS-OFF":
        again = f"sudo ip link set {link.name} type can restart"
        return bad(
            name, found, expected, "check wiring, both 120 ohm terminations, and that all have one bit rate", again
        )
    if not link.up:
        return bad(name, found, expected, set_up(link.name, bitrate), *_units(link.name, bitrate))
    if link.state is None:
        return unknown(name, found, expected, f"ip -details -statistics link show {link.name}")
    if link.state != "ERROR-ACTIVE":
        return warned(name, found, expected, "check wiring, terminations, and whether any other node answers")
    return passed(name, found, expected)


def _bitrate(link: Link, bitrate: int, reading: Reading) -> Finding:
    name, expected = f"CAN {link.name} bit rate", f"{bitrate / 1e6:g} Mbit/s"
    if link.bitrate is None:
        return unknown(name, reading.reason or "none is set", expected, set_up(link.name, bitrate))
    data = f", data {link.data_bitrate / 1e6:g} Mbit/s" if link.data_bitrate else ""
    found = f"{link.bitrate / 1e6:g} Mbit/s{data}, FD {'on' if link.fd else 'off'}"
    if link.bitrate != bitrate:
        return warned(name, found, expected, set_up(link.name, bitrate))
    if link.fd and (link.data_bitrate or 0) <= link.bitrate:
        slow = f"{found}: FD without a faster data phase"
        return warned(name, slow, f"{expected}, data faster", set_up(link.name, bitrate))
    return passed(name, found, expected)


def _restart(link: Link, reading: Reading) -> Finding:
    name, expected = f"CAN {link.name} restart", f"after {RESTART_MS} ms of bus-off"
    if link.restart_ms is None:
        return unknown(name, reading.reason or "ip does not say", expected)
    if link.restart_ms == 0:
        todo = f"sudo ip link set {link.name} down && sudo ip link set {link.name} type can restart-ms {RESTART_MS}"
        return warned(name, "never: one bus-off ends the link", expected, f"{todo} && sudo ip link set {link.name} up")
    return passed(name, f"after {link.restart_ms} ms", expected)


def _bus_off(link: Link, reading: Reading) -> Finding:
    name, expected = f"CAN {link.name} bus-off count", "0"
    if link.bus_off is None:
        return unknown(name, reading.reason or "ip does not say", expected)
    if link.bus_off:
        return warned(
            name, str(link.bus_off), expected, "check wiring and terminations; the count restarts with the link"
        )
    return passed(name, "0", expected)


def _queue(link: Link) -> Finding:
    name, expected = f"CAN {link.name} txqueuelen", f"{MIN_QUEUE}-{MAX_QUEUE} frames"
    if link.queue is None:
        return unknown(name, "neither ip nor sysfs says", expected)
    if MIN_QUEUE <= link.queue <= MAX_QUEUE:
        return passed(name, str(link.queue), expected)
    why = "a burst ends in ENOBUFS" if link.queue < MIN_QUEUE else "a dead bus fills it with old commands"
    return warned(name, f"{link.queue}: {why}", expected, f"sudo ip link set {link.name} txqueuelen {QUEUE}")


def _listeners(tree: Tree, link: Link, named: bool) -> Finding:
    """Receivers that some program has registered with the kernel: another program on this bus."""
    name, expected = f"who listens on {link.name}", "nobody"
    lists = tree.names("proc/net/can", r"rcvlist_.*")
    if not lists:
        return unknown(name, "/proc/net/can is not there: the module `can` is not loaded", expected)
    lines = [line for file in lists for line in tree.text(f"proc/net/can/{file}").splitlines()]
    count = sum(line.split()[0] == link.name for line in lines if line.split())
    if count == 0:
        return passed(name, "nobody", expected)
    bad = failed if named else warned
    return bad(
        name, f"{count} receivers", expected, "end the other program, such as candump: cat /proc/net/can/rcvlist_*"
    )


def parse_ip(text: str) -> list[Link] | None:
    """CAN interfaces in what `ip -details -statistics -json link show` prints; None when that is no JSON list."""
    try:
        rows = json.loads(text)
    except ValueError:
        return None
    if not isinstance(rows, list):
        return None
    return [_link(row) for row in rows if isinstance(row, dict) and row.get("link_type") == "can"]


def _link(row: dict[str, Any]) -> Link:
    info = row.get("linkinfo", {})
    data = info.get("info_data", {})
    return Link(
        name=row.get("ifname", "?"),
        kind=info.get("info_kind", "can"),
        up="UP" in row.get("flags", []),
        state=data.get("state"),
        bitrate=data.get("bittiming", {}).get("bitrate"),
        data_bitrate=data.get("data_bittiming", {}).get("bitrate"),
        fd="FD" in data.get("ctrlmode", []),
        restart_ms=data.get("restart_ms", 0) if "state" in data else None,
        bus_off=info.get("info_xstats", {}).get("bus_off"),
        queue=row.get("txqlen"),
    )


def _from_sysfs(tree: Tree) -> list[Link]:
    """What is left without `ip`: names, up or down, queue length."""
    found = []
    for name in tree.names("sys/class/net"):
        folder = f"sys/class/net/{name}"
        if tree.number(f"{folder}/type") != _ARPHRD_CAN:
            continue
        flags = int(tree.text(f"{folder}/flags", "0"), 0)
        kind = "vcan" if name.startswith("vcan") else "can"
        queue = tree.number(f"{folder}/tx_queue_len")
        found.append(Link(name, kind, bool(flags & 1), None, None, None, False, None, None, queue))
    return found
