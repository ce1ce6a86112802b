"""`edgevla arm show`, `calibrate` and `home`: what a person does with a real arm before the first run."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from edgevla.bus import watch
from edgevla.cli.calibrating import may_write, refuse_elsewhere, servos_calibrated, zero_set
from edgevla.cli.entry import INTERRUPTED
from edgevla.cli.live import follow, progress, torque_word
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.cli.stopping import STOPS, until_told
from edgevla.control.home import go_home, ramp_s
from edgevla.errors import Usage, explain
from firmware_bridge.arm import ArmInfo, JointInfo, Mode
from firmware_bridge.calibration import text_of
from firmware_bridge.torque import torque_on
from profiles import ArmProfile, load_arm
from profiles.bridge import parse_ports, require_driver
from profiles.calibrated import load_calibrated

app = typer.Typer(
    help="Show, calibrate or move a real arm, without a policy.",
    epilog="Example: edgevla arm show --arm so101 --port /dev/ttyACM0",
    no_args_is_help=True,
)
_LIVE_S = 0.1
_ARM = typer.Option(..., "--arm", help="Name or file of the arm profile")
_PORT = typer.Option(..., "--port", help="Port of the arm, or BUS=PORT,... of one on several buses")
_CALIBRATION = typer.Option(None, "--calibration", help="Calibration file, LeRobot's or of `edgevla arm calibrate`")


@app.command()
def show(
    arm: str = _ARM,
    port: str = _PORT,
    calibration: Path | None = _CALIBRATION,
    live: bool = typer.Option(False, "--live", help="Follow the joints until Ctrl-C"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Connect, check every joint against the profile, print them. Torque is left as it is, the arm does not move.

    Connecting sets in the actuators what the profile wants set: of Dynamixel in EEPROM too, where it differs. The
    notes of the table, docs/bridge.md and the page of the protocol say what. `edgevla bus scan` only reads.

    Example: edgevla arm show --arm so101 --port /dev/ttyACM0 --calibration arm.json --live
    """
    if live and as_json:
        raise Usage(explain("--live with --json", "one of them", "both", "`edgevla bus monitor --json` follows an arm"))
    profile = load_calibrated(arm, calibration)
    link = watch.opened(profile, port)
    with until_told() if live else nullcontext(), closing(link):
        info = watch.looked_at(link)
        torque, state = torque_on(link), link.poll()
        mode = None if torque or state is None else Mode(state.mode).name
        if as_json:
            found = {"arm": profile.name, "port": info.port, **_told(info, profile, torque), "torque_on": torque}
            print_json({**found, "controller_mode": mode})
            return
        its = f", its controller is {mode}" if mode else ""
        print_table(f"{profile.name} on {info.port}{its}", _COLUMNS, _rows(info, profile, torque))
        if live:
            follow(profile, watch.watch(link, _LIVE_S))


@app.command()
def home(
    arm: str = _ARM, port: str = _PORT, calibration: Path | None = _CALIBRATION, as_json: bool = JSON_OPTION
) -> None:
    """Ramp slowly into the start range and hold there, torque on; Ctrl-C, SIGTERM and SIGHUP stop within the limits.

    Example: edgevla arm home --arm so101 --port /dev/ttyACM0 --calibration arm.json
    """
    profile = load_calibrated(arm, calibration)
    link = watch.opened(profile, port)
    asked: list[int] = []
    before = {which: signal.signal(which, lambda *_: asked.append(1)) for which in STOPS}
    try:
        took_s = ramp_s(profile, link.connect().held_setpoint)
        if not as_json:
            say(f"ramping slowly into the start range, some {took_s:.1f} s; Ctrl-C stops it")
        with nullcontext(_untold) if as_json else progress(took_s) as tell:
            arrived = go_home(link, profile, lambda: bool(asked), tell)
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
        link.close()
    if as_json:
        print_json({"arm": profile.name, "arrived": arrived})
    else:
        where, style = ("in the start range", "green") if arrived else ("stopped on its way", "bold")
        say(f"{where}, holding with torque on", style)
    if not arrived:
        raise typer.Exit(INTERRUPTED)


@app.command()
def calibrate(
    arm: str = _ARM,
    port: str = _PORT,
    output: Path = typer.Option(None, "-o", "--output", help="File to write; asked before it is replaced"),
    source: Path | None = typer.Option(None, "--from", help="Put this file into the servos instead of measuring"),
    full_turn: list[str] = typer.Option([], "--full-turn", help="Joint that goes round: not measured; none: no joint"),
    replace: bool = typer.Option(False, "--replace", help="Replace the file without asking"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure middle and ranges by hand; saved in the servos and in a file that LeRobot reads too.

    Of Damiao motors: set their zero, which they keep themselves. Of others: says which tool of their maker does it.

    Example: edgevla arm calibrate --arm so101 --port /dev/ttyACM0 -o arm.json
    """
    profile = load_arm(arm)
    refuse_elsewhere(profile)
    require_driver(profile)
    ports = parse_ports(profile, port)
    tell = (lambda text: print(text, file=sys.stderr, flush=True)) if as_json else say
    if profile.protocol == "damiao":
        if output or source or full_turn or replace:
            todo = "leave -o, --from, --full-turn and --replace out: the motors keep their zero themselves"
            raise Usage(explain(f"calibration of {profile.name}", "no file", "an option about files", todo))
        moved = zero_set(profile, ports, tell)
        if as_json:
            print_json({"arm": profile.name, "former_rad": moved})
        else:
            stood = [(name, f"{at:.4f}") for name, at in moved.items()]
            print_table("zero set in the motors", ["joint", "stood at, rad by the former zero"], stood)
        return
    path = output or source or Path(f"{profile.name}-calibration.json")
    if path != source:
        may_write(path, replace, tell)
    (bus,) = ports  # every arm of servos that LeRobot calibrates is on one bus
    found = servos_calibrated(profile, ports[bus], path, full_turn, source, tell, not as_json)
    if as_json:
        print_json({"arm": profile.name, "file": str(path), "motors": json.loads(text_of(found))})
        return
    rows = [(name, m.id, m.homing_offset, m.range_min, m.range_max) for name, m in found.items()]
    print_table(f"saved in the servos and in {path}", ["joint", "id", "homing offset", "min", "max"], rows)


def _untold(joint: str, left: float, unit: str) -> None:
    """Progress where --json shows none."""


# --- show ---------------------------------------------------------------------------------------------------------

_COLUMNS = [
    *("joint", "id", "model", "firmware", "range", "now", "torque"),
    *("watchdog", "return delay", "supply", "heat", "note"),
]


_Each = tuple[JointInfo, float, bool | None]  # joint, where it is in the channel's unit, whether it has torque


def _each(info: ArmInfo, profile: ArmProfile, torque: Sequence[bool | None]) -> list[_Each]:
    """One a joint; where the controller knows its own motors (edgelink), one a channel."""
    note = "behind the controller, which is not asked for its watchdog: that would disarm it"
    channels = [
        JointInfo(c.name, i, profile.protocol, "-", (c.minimum, c.maximum), math.nan, None, note=note)
        for i, c in enumerate(profile.channels)
    ]
    joints = info.joints or channels
    return list(zip(joints, info.held_setpoint.tolist(), torque or [None] * len(joints), strict=True))


def _rows(info: ArmInfo, profile: ArmProfile, torque: Sequence[bool | None]) -> list[tuple[object, ...]]:
    return [
        (
            joint.name,
            joint.id,
            joint.model,
            joint.firmware,
            f"{joint.range[0]:.3f} .. {joint.range[1]:.3f}",
            f"{held:.3f}",
            torque_word(on),
            _watchdog_word(joint.watchdog_s),
            "-" if joint.return_delay_s is None else f"{1e6 * joint.return_delay_s:.0f} us",
            "-" if joint.voltage_v is None else f"{joint.voltage_v:.1f} V",
            "-" if joint.temperature_c is None else f"{joint.temperature_c:.0f} C",
            joint.note,
        )
        for joint, held, on in _each(info, profile, torque)
    ]


def _watchdog_word(watchdog_s: float | None) -> str:
    """NaN: not known."""
    if watchdog_s is None:
        return "none"
    return "-" if math.isnan(watchdog_s) else f"{1e3 * watchdog_s:g} ms"


def _told(info: ArmInfo, profile: ArmProfile, torque: Sequence[bool | None]) -> dict[str, Any]:
    """`position` in the unit of the joint's channel; null: torque that nobody reports, a watchdog not asked for."""
    joints = [
        {**asdict(joint), "unit": channel.unit, "position": held, "torque_on": on}
        for channel, (joint, held, on) in zip(profile.channels, _each(info, profile, torque), strict=True)
    ]
    for joint in joints:
        watchdog_s = joint["watchdog_s"]
        joint["watchdog_s"] = None if watchdog_s is None or math.isnan(watchdog_s) else watchdog_s
    return {"joints": joints, "held": info.held_setpoint.tolist()}
