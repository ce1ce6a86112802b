"""`edgevla arm show`, `calibrate` and `home`: what a person does with a real arm before the first run."""

from __future__ import annotations

import json
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.live import Live
from rich.table import Table

from edgevla.bus import watch
from edgevla.cli.live import follow, progress, torque_word
from edgevla.cli.output import JSON_OPTION, print_json, print_table, require_writable, say, stdout
from edgevla.cli.stopping import STOPS, stoppable, until_told
from edgevla.control.arm_calibration import Ranges, calibration_of
from edgevla.control.home import go_home, ramp_s
from edgevla.errors import Refused, Usage, explain
from firmware_bridge.arm import ArmInfo, Joint, JointInfo
from firmware_bridge.calibration import MotorCalibration, text_of, write_calibration
from firmware_bridge.protocols import module
from firmware_bridge.torque import torque_on
from firmware_bridge.transport.serial import SerialTransport
from profiles import ArmProfile, load_arm
from profiles.bridge import joints_of, parse_ports
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
    """Connect, check every joint against the profile, print them. Torque is left as it is.

    Example: edgevla arm show --arm so101 --port /dev/ttyACM0 --calibration arm.json --live
    """
    if live and as_json:
        raise Usage(explain("--live with --json", "one of them", "both", "`edgevla bus monitor --json` follows an arm"))
    profile = load_calibrated(arm, calibration)
    link = watch.opened(profile, port)
    with until_told() if live else nullcontext(), closing(link):
        info = link.connect()
        torque = torque_on(link)
        if as_json:
            print_json({"arm": profile.name, "port": info.port, **_told(info), "torque_on": torque})
            return
        print_table(f"{profile.name} on {info.port}", _COLUMNS, _rows(info, profile, torque))
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
        with _Nothing() if as_json else progress(took_s) as tell:
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
        raise typer.Exit(Refused.exit_code)


@app.command()
def calibrate(
    arm: str = _ARM,
    port: str = _PORT,
    output: Path = typer.Option(None, "-o", "--output", help="File to write; asked before it is replaced"),
    full_turn: list[str] = typer.Option(["wrist_roll"], "--full-turn", help="Joint that goes round: not measured"),
    replace: bool = typer.Option(False, "--replace", help="Replace the file without asking"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure middle and ranges by hand; saved in the servos and in a file that LeRobot reads too.

    Example: edgevla arm calibrate --arm so101 --port /dev/ttyACM0 -o arm.json
    """
    profile = load_arm(arm)
    path = output or Path(f"{profile.name}-calibration.json")
    tell = (lambda text: print(text, file=sys.stderr, flush=True)) if as_json else say
    _may_write(path, replace, tell)
    make = _calibrator(profile)
    ports = parse_ports(profile, port)
    (bus,) = ports  # every arm of servos that LeRobot calibrates is on one bus
    joints = joints_of(profile, bus)
    if strange := set(full_turn) - {joint.name for joint in joints}:
        known = ", ".join(joint.name for joint in joints)
        raise Usage(explain("--full-turn", known, ", ".join(sorted(strange)), "name joints of the arm"))
    transport = SerialTransport(ports[bus], profile.baud)
    transport.open()
    with stoppable(), closing(transport):
        servos = make(transport, joints)
        before = servos.read()
        try:
            found = _guided(profile, joints, servos, full_turn, tell, as_json)
            servos.save(found)
        except BaseException:
            servos.save(before)  # an arm that was calibrated stays so
            raise
    write_calibration(path, found)
    if as_json:
        print_json({"arm": profile.name, "file": str(path), "motors": json.loads(text_of(found))})
        return
    rows = [(name, m.id, m.homing_offset, m.range_min, m.range_max) for name, m in found.items()]
    print_table(f"saved in the servos and in {path}", ["joint", "id", "homing offset", "min", "max"], rows)


# --- calibrate ----------------------------------------------------------------------------------------------------


def _calibrator(profile: ArmProfile) -> Callable[..., Any]:
    try:
        make: Callable[..., Any] = module(profile.protocol, "calibrate").make
    except ModuleNotFoundError:
        todo = "set zero_rad and the ranges in the arm profile"
        what = f"{profile.name} is not calibrated by hand here"
        raise Usage(explain(what, "an arm of feetech servos", profile.protocol, todo)) from None
    return make


def _guided(
    profile: ArmProfile,
    joints: Sequence[Joint],
    servos: Any,
    full_turn: list[str],
    tell: Callable[[str], None],
    as_json: bool,
) -> dict[str, MotorCalibration]:
    """Torque off, middle, ranges: what a person does, step by step. Raises Usage, Refused, BridgeError."""
    _ask(f"Hold the {profile.name}: its torque goes off now, it sinks. Enter", tell)
    servos.begin()
    _ask("Move every joint to the middle of its travel, then Enter", tell)
    offsets = servos.take_middle()
    tell("Move every joint" + _but(full_turn) + " to both ends of its travel, then Enter")
    turn_of = module(profile.protocol, "calibrate").full_turn
    ranges = _measure(Ranges({joint.name: turn_of(joint) for joint in joints}), servos.positions, full_turn, as_json)
    return calibration_of(joints, offsets, ranges, full_turn)


def _may_write(path: Path, replace: bool, tell: Callable[[str], None]) -> None:
    """Asked before anything is changed in the servos. Raises Usage when the answer is not yes."""
    require_writable(path)
    if replace or not path.exists():
        return
    tell(f"{path} exists. Replace it when done? yes/no")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Usage(explain(f"{path} exists", "yes, or another file", "no", "pass -o FILE, or --replace"))


def _ask(text: str, tell: Callable[[str], None]) -> None:
    """Wait for Enter. Raises Usage when nobody is there to press it."""
    tell(text)
    if not sys.stdin.readline():
        todo = "run it in a terminal, with the arm in reach"
        raise Usage(explain("calibration needs a person", "Enter after each step", "end of input", todo))


def _but(full_turn: list[str]) -> str:
    return f" but {', '.join(full_turn)}" if full_turn else ""


def _measure(ranges: Ranges, positions: Callable[[], dict[str, int]], full_turn: list[str], as_json: bool) -> Ranges:
    """Ranges seen until Enter; a table follows the joints meanwhile."""
    with Live(console=stdout(), auto_refresh=False, transient=True) if not as_json else _Nothing() as live:
        while True:
            ranges = ranges.seen(positions())
            live.update(_table(ranges, full_turn), refresh=True)
            if select.select([sys.stdin], [], [], _LIVE_S)[0]:
                sys.stdin.readline()
                return ranges


class _Nothing:
    """Where --json shows no table."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object) -> None: ...


def _table(ranges: Ranges, full_turn: list[str]) -> Table:
    table = Table("joint", "min", "now", "max", "")
    for name, (low, now, high) in ranges.found.items():
        table.add_row(name, str(low), str(now), str(high), "not measured: goes round" if name in full_turn else "")
    return table


# --- show ---------------------------------------------------------------------------------------------------------

_COLUMNS = [
    *("joint", "id", "model", "firmware", "range", "now", "torque"),
    *("watchdog", "return delay", "supply", "heat", "note"),
]


def _rows(info: ArmInfo, profile: ArmProfile, torque: Sequence[bool | None]) -> list[tuple[object, ...]]:
    """One row a joint; where the controller knows its own motors (edgelink), one a channel."""
    watchdog_s, note = 1e-3 * info.watchdog_ms, "behind the controller"
    channels = [
        JointInfo(c.name, i, profile.protocol, "-", (c.minimum, c.maximum), watchdog_s, None, note=note)
        for i, c in enumerate(profile.channels)
    ]
    joints = info.joints or channels
    return [
        (
            joint.name,
            joint.id,
            joint.model,
            joint.firmware,
            f"{joint.range[0]:.3f} .. {joint.range[1]:.3f}",
            f"{held:.3f}",
            torque_word(on),
            "none" if joint.watchdog_s is None else f"{1e3 * joint.watchdog_s:g} ms",
            "-" if joint.return_delay_s is None else f"{1e6 * joint.return_delay_s:.0f} us",
            "-" if joint.voltage_v is None else f"{joint.voltage_v:.1f} V",
            "-" if joint.temperature_c is None else f"{joint.temperature_c:.0f} C",
            joint.note,
        )
        for joint, held, on in zip(joints, info.held_setpoint.tolist(), torque or [None] * len(joints), strict=True)
    ]


def _told(info: ArmInfo) -> dict[str, Any]:
    return {"joints": [asdict(joint) for joint in info.joints], "held": info.held_setpoint.tolist()}
