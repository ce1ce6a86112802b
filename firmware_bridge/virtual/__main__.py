"""The process of a virtual device.

    python -m firmware_bridge.virtual JSON

JSON has `protocol` and `joints`, each with the fields of `firmware_bridge.arm.Joint`, and may have `paced_baud` (as
slow as such a line), `data_baud` (of CAN-FD), `gravity_nm`, `watchdog_s`, `link` (a path for the port), `options`.

Example:

    python -m firmware_bridge.virtual '{"protocol": "feetech", "joints": [{"name": "pan", "unit": "rad",
        "minimum": -1, "maximum": 1, "id": 1, "model": "sts3215", "zero_rad": 3.1416}]}'

A whole arm from its profile: `edgevla sim-arm so101`.

It prints one JSON line {"port": PATH}. Each JSON line on stdin is something that happens, answered by one line:

    {"do": "trouble", "flip": 0.01, "silent": [2], ...}   fields of line.Trouble
    {"do": "stuck" | "free", "joint": 2}                  mechanically
    {"do": "place", "position_rad": [...]}                the joints moved by hand, device frame
    {"do": "fault", "joint": 2, "name": "overload"}
    {"do": "power", "on": false} | {"do": "brown-out"}
    {"do": "unplug"} | {"do": "replug"}                   the cable at the host
    {"do": "bus-off"} | {"do": "restart"}                 CAN only: the controller
    {"do": "report"}                                      counts, plant, the line's busy intervals since the last one

The end of stdin, Ctrl-C, SIGTERM and a reader of stdout that left are its proper ends: exit code 0. Without JSON
it is 2; where no device or port can be made of it 5.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from firmware_bridge.arm import Joint
from firmware_bridge.errors import BridgeError, explain
from firmware_bridge.protocols import KINDS, module
from firmware_bridge.transport import kernel_can
from firmware_bridge.virtual.device import brown_out, joint_of
from firmware_bridge.virtual.line import Line, Trouble
from firmware_bridge.virtual.plant import JointPlant
from firmware_bridge.virtual.server import Port, PtyPort, Server, SocketCanPort, UnixCanPort


def plant_of(joints: list[Joint], gravity_nm: float, beyond: float = 0.0) -> JointPlant:
    """Joints at the middle of their range, from where they sink onto the stop at its lower end until torque is on.

    `beyond`: how much further out the stops are, as a share of the range.
    """
    ranges = [joint.device_range_rad for joint in joints]
    low, high = [r[0] - beyond * (r[1] - r[0]) for r in ranges], [r[1] + beyond * (r[1] - r[0]) for r in ranges]
    return JointPlant(low, high, [0.5 * (r[0] + r[1]) for r in ranges], gravity_nm=gravity_nm)


def server_of(asked: dict[str, Any]) -> Server:
    """From the JSON of the command line."""
    protocol = asked["protocol"]
    joints = [Joint(**row) for row in asked["joints"]]
    options = dict(asked.get("options", {}))
    if protocol == "edgelink" and "watchdog_s" in asked:  # built into its firmware; the others are told by the host
        options["watchdog_s"] = asked["watchdog_s"]
    device = module(protocol, "virtual").make(
        joints, plant_of(joints, asked.get("gravity_nm", 0.2), asked.get("beyond", 0.0)), options
    )
    port = port_of(protocol, asked.get("link"))
    line = Line(asked.get("paced_baud"), asked.get("data_baud"), full_duplex=protocol == "edgelink")
    return Server(device, port, line, asked.get("awake_us", 0) * 1000)


def port_of(protocol: str, link: str | None) -> Port:
    """`link`: the path of a pty or Unix socket; of CAN also an interface, which has no slash in it."""
    path = Path(link) if link is not None else None
    if KINDS[protocol] == "serial":
        return PtyPort(path)
    return SocketCanPort(link) if link is not None and "/" not in link else UnixCanPort(path)


def happen(server: Server, what: dict[str, Any]) -> dict[str, Any]:
    """One line of stdin. Raises ValueError, KeyError, TypeError for what it does not understand."""
    now_us, plant = time.monotonic_ns() // 1000, server.device.plant
    if not isinstance(what, dict):
        raise ValueError('expected {"do": ...}')
    kind = what.pop("do")
    if kind == "trouble":
        known = {f.name for f in fields(Trouble)}
        if not what.keys() <= known:
            raise ValueError(f"trouble knows {sorted(known)}")
        what["silent"] = set(what.get("silent", ()))
        server.trouble = Trouble(**what)
    elif kind in ("stuck", "free"):
        plant.stuck[joint_of(what["joint"], plant.position.tolist())] = kind == "stuck"
    elif kind == "place":
        plant.place(what["position_rad"])
    elif kind == "fault":
        server.device.fault(joint_of(what["joint"], plant.position.tolist()), what["name"])
    elif kind == "power":
        server.powered = bool(what["on"])
        server.lose_what_is_on_its_way()
        server.device.power(server.powered, now_us)
    elif kind == "brown-out":
        brown_out(server.device, now_us)
    elif kind == "unplug":
        server.lose_what_is_on_its_way()
        server.port.close()
    elif kind == "replug":
        server.port.replug()
        return {"port": server.port.name}
    elif kind in ("bus-off", "restart") and isinstance(server.port, UnixCanPort | SocketCanPort):
        server.bus_off = kind == "bus-off"
        server.lose_what_is_on_its_way()
        server.port.error(kernel_can.ERR_BUS_OFF if server.bus_off else kernel_can.ERR_RESTARTED)
    elif kind == "report":
        return report(server)
    else:
        raise ValueError(f"unknown: {kind}")
    return {}


def report(server: Server) -> dict[str, Any]:
    """Everything a test can check an arm's words against."""
    plant, busy = server.device.plant, server.line.busy
    found = {
        "device": dict(server.device.report()),
        "position_rad": plant.position.tolist(),
        "velocity_rad_s": plant.velocity.tolist(),
        "effort_nm": plant.effort.tolist(),
        "torque_on": plant.torque_on.tolist(),
        "busy": list(busy),
    }
    busy.clear()
    return found


class _Control:
    """stdin, a line at a time."""

    def __init__(self, server: Server) -> None:
        self._server, self._partial = server, b""

    def __call__(self) -> bool:
        data = os.read(0, 65536)
        if not data:
            return False
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            try:
                answer = {"done": True, **happen(self._server, json.loads(line))}
            except (ValueError, KeyError, TypeError, OSError) as error:
                answer = {"done": False, "error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
        return True


def main() -> int:
    """Exit codes as the text above says; errors are one block on stderr."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves no socket and no link behind
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        server = server_of(json.loads(sys.argv[1]))
    except BridgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 5
    except (OSError, ValueError, KeyError, TypeError) as error:
        got, todo = f"{type(error).__name__}: {error}", "see `python -m firmware_bridge.virtual --help`"
        print(
            "error: " + explain("no virtual device can be made of this", "JSON as in the example", got, todo),
            file=sys.stderr,
        )
        return 5
    try:
        print(json.dumps({"port": server.port.name}), flush=True)
        server.serve(0, _Control(server))
    except KeyboardInterrupt:
        pass  # asked to end
    except BrokenPipeError:  # nobody reads any more: whoever started it is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        server.port.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
