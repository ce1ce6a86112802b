"""The virtual actuators of an arm profile: one process for each of its buses."""

from __future__ import annotations

import json
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import profiles
from edgevla.errors import DeviceFault, explain
from firmware_bridge.errors import BridgeError
from firmware_bridge.protocols import module
from firmware_bridge.virtual.client import VirtualProcess
from profiles import ArmProfile
from profiles.bridge import joints_of, require_driver

_LOOK_S = 0.2  # between two looks whether the devices' processes are there


def run(name: str, paced: bool, gravity_nm: float, reader_left: Callable[[], bool]) -> None:
    """Serve until stdin ends, stdout's reader has left, or KeyboardInterrupt.

    Prints {"port": ...} first, then an answer to each line of stdin. Raises DeviceFault when a device's process ended.
    """
    profile = profiles.load_arm(name)
    require_driver(profile)
    with ExitStack() as stack:
        processes = {bus: stack.enter_context(started(profile, bus, paced, gravity_nm)) for bus in profile.buses}
        ports = {bus: process.port for bus, process in processes.items()}
        port = next(iter(ports.values())) if len(ports) == 1 else ",".join(f"{bus}={p}" for bus, p in ports.items())
        pids = [process.pid for process in processes.values()]
        _print({"port": port, "arm": profile.name, "protocol": profile.protocol, "ports": ports, "pids": pids})
        for line in _lines():
            if line.strip():
                _print(_happen(processes, line))
            _require_alive(processes)
            if reader_left():
                return


def _lines(fd: int = 0) -> Iterator[str]:
    """Lines of stdin, and "" at least every `_LOOK_S`, until it ends.

    The end of a pipe or terminal is the end of who started this; /dev/null, a file or nothing at all tells nothing.
    """
    partial, open_ = b"", True
    while True:
        if not open_:
            time.sleep(_LOOK_S)
            yield ""
            continue
        try:
            data = os.read(fd, 65_536) if select.select([fd], [], [], _LOOK_S)[0] else None
        except OSError:  # closed, or `nohup`'s, which is not for reading
            data, open_ = None, False
        if data == b"":
            open_, data = False, b"\n"  # ends what was its last line
        *lines, partial = (partial + (data or b"")).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
        if not open_ and _tells_its_end(fd):
            return
        yield ""


def _tells_its_end(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


def _require_alive(processes: dict[str, VirtualProcess]) -> None:
    for bus, process in processes.items():
        if (code := process.ended()) is not None:
            got = f"it ended with {code}" if code >= 0 else f"it was ended by signal {-code}"
            what = f"the virtual device of bus {bus} is gone (process {process.pid})"
            raise DeviceFault(explain(what, "its process running", got, "see its error above; start the arm again"))


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
    except (BridgeError, ValueError, KeyError, TypeError, BrokenPipeError) as error:
        return {"done": False, "error": str(error).replace("\n", ";")}
    return answers[next(iter(answers))] if len(processes) == 1 else {"done": True, "buses": answers}


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
