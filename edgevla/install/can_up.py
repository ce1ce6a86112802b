"""Bring up the CAN interfaces that robot.toml names. As root, by edgevla-can.service; changes nothing that is right.

python3 -I -B -m edgevla.install.can_up PREFIX --bitrate N [--data-bitrate N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import DeviceFault, EdgevlaError, explain
from edgevla.install.robot_config import RobotConfig, load_robot_config

_IP = "/usr/sbin/ip"
_APPEARS_S = 5.0  # s for an adapter that is being plugged in
_CAN_MTU, _FD_MTU = 16, 72  # bytes


@dataclass(frozen=True)
class Wanted:
    """How an interface shall be. `data_bitrate` None: classic CAN."""

    bitrate: int  # bit/s
    data_bitrate: int | None
    txqueuelen: int  # frames


def wanted_of(config: RobotConfig, bitrate: int, data_bitrate: int | None) -> Wanted:
    """The arm's bit rates, unless robot.toml has others."""
    own = config.can
    return Wanted(own.bitrate or bitrate, own.data_bitrate or data_bitrate, own.txqueuelen)


def changes(name: str, link: dict[str, Any], wanted: Wanted) -> list[list[str]]:
    """Arguments of `ip`, in order; [] for an interface that is as wanted. `link`: one entry of `ip -json -details`.

    An interface without a bit rate of its own (vcan, slcan) is brought up only. restart-ms 0: a controller that left
    the bus stays away until the service starts anew, and the arm with it.
    """
    hardware = link.get("linkinfo", {}).get("info_kind") == "can"
    up = "UP" in link.get("flags", [])
    if up and link.get("txqlen") == wanted.txqueuelen and (_right(link, wanted) if hardware else _large(link, wanted)):
        return []
    setting = ["link", "set", "dev", name]
    steps = [[*setting, "down"]] if up else []
    if hardware:
        rates = ["bitrate", str(wanted.bitrate)]
        rates += ["dbitrate", str(wanted.data_bitrate), "fd", "on"] if wanted.data_bitrate else ["fd", "off"]
        steps.append([*setting, "type", "can", *rates, "restart-ms", "0"])
    elif not _large(link, wanted):
        steps.append([*setting, "mtu", str(_FD_MTU)])
    return [*steps, [*setting, "txqueuelen", str(wanted.txqueuelen)], [*setting, "up"]]


def _right(link: dict[str, Any], wanted: Wanted) -> bool:
    data = link.get("linkinfo", {}).get("info_data", {})
    rates = data.get("bittiming", {}).get("bitrate"), data.get("data_bittiming", {}).get("bitrate")
    fd = "FD" in data.get("ctrlmode", [])
    rates = (rates[0], rates[1] if fd else None)
    return (
        rates == (wanted.bitrate, wanted.data_bitrate) and not data.get("restart_ms") and data.get("state") != "BUS-OFF"
    )


def _large(link: dict[str, Any], wanted: Wanted) -> bool:
    return int(link.get("mtu", _CAN_MTU)) >= (_FD_MTU if wanted.data_bitrate else _CAN_MTU)


def bring_up(name: str, wanted: Wanted, ip: str = _IP) -> bool:
    """True when something was changed. Raises DeviceFault: no such interface, or one that cannot be so."""
    steps = changes(name, _link(name, ip), wanted)
    for step in steps:
        done = subprocess.run([ip, *step], capture_output=True, text=True, timeout=10.0)
        if done.returncode:
            todo = "correct [can] of robot.toml: not every controller has every bit rate"
            raise DeviceFault(explain(f"CAN interface {name}", " ".join(step), done.stderr.strip(), todo))
    return bool(steps)


def _link(name: str, ip: str) -> dict[str, Any]:
    """What the kernel says of it, as soon as it is there."""
    give_up = time.monotonic() + _APPEARS_S
    while True:
        asked = [ip, "-json", "-details", "link", "show", "dev", name]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10.0)
        if done.returncode == 0:
            link: dict[str, Any] = json.loads(done.stdout)[0]
            return link
        if time.monotonic() > give_up:
            todo = "plug the adapter in and load its driver; `ip link` lists them; `port` of robot.toml names it"
            raise DeviceFault(explain(f"CAN interface {name}", "one that is there", done.stderr.strip(), todo))
        time.sleep(0.2)


def main(arguments: Sequence[str]) -> int:
    """Exit code of design section 10."""
    parser = argparse.ArgumentParser(prog="edgevla.install.can_up")
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--bitrate", type=int, required=True)
    parser.add_argument("--data-bitrate", type=int)
    asked = parser.parse_args(arguments)
    try:
        config = load_robot_config(asked.prefix / "etc" / "robot.toml")
        wanted = wanted_of(config, asked.bitrate, asked.data_bitrate)
        for name in config.can_interfaces:
            changed = bring_up(name, wanted)
            print(f"{name}: {'brought up' if changed else 'up already'}, {wanted.bitrate} bit/s", flush=True)
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
