"""The virtual actuators of an arm profile: one process for each of its buses."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import IO, Any

import profiles
from firmware_bridge.errors import BridgeError
from firmware_bridge.protocols import module
from firmware_bridge.virtual.client import VirtualProcess
from profiles import ArmProfile
from profiles.bridge import joints_of, require_driver


def run(name: str, paced: bool, gravity_nm: float, lines: IO[str] | None = None) -> None:
    """Serve until stdin ends or Ctrl-C. Prints {"port": ...} first, then an answer to each line of stdin."""
    profile = profiles.load_arm(name)
    require_driver(profile)
    with ExitStack() as stack:
        processes = {bus: stack.enter_context(started(profile, bus, paced, gravity_nm)) for bus in profile.buses}
        ports = {bus: process.port for bus, process in processes.items()}
        port = next(iter(ports.values())) if len(ports) == 1 else ",".join(f"{bus}={p}" for bus, p in ports.items())
        pids = [process.pid for process in processes.values()]
        _print({"port": port, "arm": profile.name, "protocol": profile.protocol, "ports": ports, "pids": pids})
        try:
            for line in lines or sys.stdin:
                if line.strip():
                    _print(_happen(processes, line))
        except KeyboardInterrupt:
            return


def started(profile: ArmProfile, bus: str, paced: bool, gravity_nm: float) -> VirtualProcess:
    """The process of one bus. Raises BridgeError."""
    asked: dict[str, Any] = {"gravity_nm": gravity_nm}
    if paced:
        asked |= {"paced_baud": profile.baud, "data_baud": profile.data_baud}
    if profile.watchdog_s is not None:
        asked["watchdog_s"] = profile.watchdog_s
    as_set_up = getattr(module(profile.protocol, "virtual"), "as_set_up", None)  # of devices that a user sets up first
    options = dict(profile.options) if as_set_up is None else as_set_up(profile.options, profile.watchdog_s)
    return VirtualProcess(profile.protocol, joints_of(profile, bus), options=options, **asked)


def _happen(processes: dict[str, VirtualProcess], line: str) -> dict[str, Any]:
    """{"do": ..., "bus": ...}: on that bus, or on all."""
    try:
        what = dict(json.loads(line))
        bus, do = what.pop("bus", None), str(what.pop("do"))
        chosen = processes if bus is None else {bus: processes[bus]}
        answers = {name: dict(process.do(do, **what)) for name, process in chosen.items()}
    except (BridgeError, ValueError, KeyError, TypeError) as error:
        return {"done": False, "error": str(error).replace("\n", ";")}
    return answers[next(iter(answers))] if len(processes) == 1 else {"done": True, "buses": answers}


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
