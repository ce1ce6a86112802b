"""`edgevla run`: drive an arm with a bundle in closed loop, say why it stopped and how punctual it was."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

import profiles
from edgevla.bundle import open_bundle
from edgevla.bundle.reader import Bundle
from edgevla.cli.output import JSON_OPTION, print_error, print_json, print_table, say
from edgevla.control.options import RECORD_MB, RunOptions, check_options
from edgevla.control.plan import RunPlan, plan_of
from edgevla.control.result import RunResult, drop_unused, make_record, record_error, require_new_folder, write_record
from edgevla.control.run import run as run_loop
from edgevla.doctor.board import target_here
from edgevla.errors import BadInput, Refused, Usage, explain
from edgevla.operate.instruction_file import InstructionFile
from edgevla.operate.panel import Desk
from edgevla.operate.place import DEFAULT_NAME, OwnedSocket, socket_path
from edgevla.operate.station import Station
from edgevla.operate.tasks import check_words, read_sequence
from edgevla.policy.words import encoder_of
from edgevla.sensors.confirm import require_confirmed
from edgevla.sensors.identity import of_source
from edgevla.sensors.sources.base import parse_cameras
from profiles import ArmProfile
from profiles.bridge import require_driver
from profiles.calibrated import load_calibrated

_BUNDLE = typer.Option(..., "--bundle", help="Folder NAME.bundle")
_INSTRUCTION = typer.Option("", help="What to do, in the policy's words; or --instruction-file, or --tasks")
_INSTRUCTION_FILE = typer.Option(None, metavar="FILE", help="Follow the one line in this file")
_TASKS = typer.Option(None, metavar="FILE", help="Follow a sequence of tasks, see examples/standalone/tasks.toml")
_CAMERA = typer.Option([], "--camera", metavar="NAME=SOURCE", help="A real camera, see `edgevla camera list`; repeat")
_RECORD = typer.Option(None, metavar="DIR", help="Flight record: flight.mcap and run.json in this new folder")
_SOCKET = typer.Option(None, metavar="PATH", help="Where `edgevla say` is heard, instead of by --name")
_NAMES = typer.Option(DEFAULT_NAME, "--name", help="Of this run, for `edgevla say --name`")


def run(
    bundle: Path = _BUNDLE,
    instruction: str = _INSTRUCTION,
    instruction_file: Path | None = _INSTRUCTION_FILE,
    tasks: Path | None = _TASKS,
    arm: str = typer.Option("", help="Name or .toml of the arm; default: the bundle's"),
    target: str = typer.Option("", help="Name or .toml of the target; default: the bundle's"),
    sim: str = typer.Option("", metavar="TASK", help="Virtual arm with this Meta-World task"),
    port: str = typer.Option("", metavar="PATH", help="Serial port of an arm, instead of --sim"),
    camera: list[str] = _CAMERA,
    camera_fd: int = typer.Option(-1, hidden=True, help="Slot of an outside camera process, with --port"),
    seed: int = typer.Option(0, min=0, help="Of the simulated scene"),
    half_way: bool = typer.Option(False, "--half-way", help="Start with drawer or window half open"),
    duration_s: float | None = typer.Option(None, help="Longest armed time; 0: no end. Default: 30 with --sim, else 0"),
    arm_at_start: bool | None = typer.Option(
        None, "--arm-at-start/--disarmed", help="Arm at once, or wait for `a`. Default: at once with --sim only"
    ),
    record: Path | None = _RECORD,
    record_mb: int = typer.Option(RECORD_MB, min=1, help="The newest MB of the flight record that are kept"),
    name: str = _NAMES,
    socket: Path | None = _SOCKET,
    seam: str = typer.Option("auto", help="How chunks are joined: auto, prefix, blend; see docs/seams.md"),
    best_effort: bool = typer.Option(False, "--best-effort", help="Run without real-time priority too"),
    calibration: Path | None = typer.Option(None, help="File of `edgevla arm calibrate`, or LeRobot's"),
    accept_no_watchdog: bool = typer.Option(False, "--accept-no-watchdog", help="For an arm without one"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Drive an arm with a bundle at a fixed latency. Space stops the arm, as Ctrl-C does: ramp down, hold, latch.

    Example: edgevla run --bundle out/student.bundle --arm metaworld-sawyer --sim drawer-open-v3 --instruction
    "open the drawer"
    """
    called_ns = time.monotonic_ns()
    opened = open_bundle(bundle)
    at_once = bool(sim) if arm_at_start is None else arm_at_start
    sources = parse_cameras(camera)
    options = RunOptions(
        instruction=instruction,
        sim=sim or None,
        port=port or None,
        cameras={camera: str(source) for camera, source in sources.items()},
        camera_fds={opened.manifest.cameras[0].name: camera_fd} if camera_fd >= 0 else {},
        seed=seed,
        half_way=half_way,
        duration_s=duration_s if duration_s is not None else 30.0 if sim else 0.0,
        arm_at_start=at_once,
        stay=not at_once,
        best_effort=best_effort,
        record=record,
        record_mb=record_mb,
        called_ns=called_ns,
        home=_home(arm or opened.manifest.arm, port, calibration),
    )
    check_options(options)
    _require_cameras(opened, options)
    desk, first = _desk(instruction, instruction_file, tasks, as_json)
    if record is not None:
        require_new_folder(record)
    device = load_calibrated(arm or opened.manifest.arm, calibration)
    require_driver(device)
    computer = target_here(profiles.load_target(target or opened.manifest.target))
    plan = plan_of(opened, computer, device, accept_no_watchdog, seam)
    # Before any process starts: an unknown word is the operator's slip, not the policy's failure.
    encode = encoder_of(opened)
    encode(first)
    if desk.tasks is not None:
        check_words(desk.tasks, encode)
    require_confirmed(opened, {n: of_source(source) for n, source in sources.items()}, options.cameras)
    _warn(device, as_json)
    if record is not None:
        options = replace(options, record=make_record(record))
    operator = Station(replace(desk, socket=_socket(name, socket)), encode, _line(as_json))
    result = _drive(plan, replace(options, instruction=first), operator)
    try:
        print_json(result.as_dict()) if as_json else _print(result)
        if result.exit_code:
            print_error(result.error)
    finally:  # a reader of stdout that left is no reason to lose the record
        lost = options.record is not None and not _write(options.record, result, as_json)
    if result.exit_code or lost:
        raise typer.Exit(result.exit_code or BadInput.exit_code)


def _drive(plan: RunPlan, options: RunOptions, operator: Station) -> RunResult:
    try:
        return run_loop(plan, options, operator=operator)
    except BaseException:
        if options.record is not None:
            drop_unused(options.record)
        raise


def _home(arm: str, port: str, calibration: Path | None) -> str:
    """The line that moves this arm into its start range; '' for a virtual one, which no other command reaches."""
    with_file = ["--calibration", str(calibration)] if calibration else []
    return shlex.join(["edgevla", "arm", "home", "--arm", arm, "--port", port, *with_file]) if port else ""


def _require_cameras(bundle: Bundle, options: RunOptions) -> None:
    """Each camera that may not be absent needs a source; a virtual arm draws the first without one. Raises Usage."""
    given = {*options.cameras, *options.camera_fds}
    without = [camera for camera in bundle.manifest.cameras if camera.name not in given]
    lacking = [c.name for c in (without if options.sim is None else without[1:]) if c.when_missing == "refuse"]
    if lacking:
        expected, todo = "one --camera NAME=SOURCE for each", "see `edgevla camera list`, then `edgevla camera check`"
        raise Usage(explain(f"no source for camera {', '.join(lacking)}", expected, "none", todo))


def _desk(words: str, file: Path | None, tasks: Path | None, as_json: bool) -> tuple[Desk, str]:
    """What there is to steer with, and the first instruction. Raises Usage, BadInput."""
    given = [
        option
        for option, value in (("--instruction", words), ("--instruction-file", file), ("--tasks", tasks))
        if value
    ]
    if len(given) != 1:
        expected, todo = "one of --instruction, --instruction-file, --tasks", "pass what the arm shall do"
        raise Usage(explain("what shall the arm do?", expected, " and ".join(given) or "none", todo))
    live = not as_json
    if file is not None:
        followed = InstructionFile(file)
        return Desk(instruction_file=followed, live=live), followed.first()
    if tasks is not None:
        sequence = read_sequence(tasks)
        return Desk(tasks=sequence, live=live), sequence.tasks[0].say
    return Desk(live=live), words


def _socket(name: str, explicit: Path | None) -> Path | None:
    """Where `edgevla say` is heard; None where nobody asked for it and it cannot be had: no folder, another run."""
    path = socket_path(name, explicit)
    asked_for = explicit is not None or name != DEFAULT_NAME or "NOTIFY_SOCKET" in os.environ
    try:
        OwnedSocket(path).close()  # tried: the run makes its own
    except (BadInput, Refused) as error:
        if asked_for:
            raise
        print(f"this run cannot be spoken to: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return path


def _line(as_json: bool) -> Callable[[str], None]:
    """Where lines for people go: beside the one JSON object of stdout, to stderr."""
    return (lambda text: print(text, file=sys.stderr, flush=True)) if as_json else (lambda text: say(text, "dim"))


def _write(record: Path, result: RunResult, as_json: bool) -> bool:
    """False when it cannot be written, said so: the run itself is over and its figures are printed."""
    try:
        write_record(record, result)
    except OSError as error:
        print_error(str(record_error(record, error)))
        return False
    if not as_json:
        say(f"recorded in {record}", "dim")
    return True


def _warn(arm: ArmProfile, as_json: bool) -> None:
    if as_json:
        return
    if arm.falls_on_loss:
        say(f"{arm.name} falls when its torque goes", "bold red")
    if arm.watchdog_s is None:
        say(f"{arm.name} has no watchdog: it keeps its last command when this computer dies", "bold red")


def _print(result: RunResult) -> None:
    figures = result.figures
    missing = list(figures["real_time"].get("missing", []))
    rehearsal = figures["rehearsal"]
    if rehearsal and not rehearsal["kept"]:
        missing.append(f"the declared rate: {rehearsal['late']} of {rehearsal['steps']} steps before arming were late")
    if missing:
        say("BEST EFFORT, not granted: " + "; ".join(missing), "bold")
    print_table("control loop", ["", "p50", "p99", "p99.9", "max"], _latencies(figures))
    print_table("counts", ["", "n"], _counts(figures))
    if result.success is not None:
        say("success" if result.success else "no success", "green" if result.success else "bold")
    say(f"stopped: {result.stop_reason}", "bold")


def _latencies(figures: dict[str, Any]) -> list[tuple[object, ...]]:
    rows = (
        ("wake after deadline, us", "loop", "wake", "us"),
        ("first byte after deadline, us", "loop", "write", "us"),
        ("inference, ms", "inference", "infer", "ms"),
        ("observation to chunk, ms", "inference", "latency", "ms"),
        ("age of the frame, ms", "inference", "frame_age", "ms"),
    )
    return [
        (title, *(_shown(figures[group][f"{name}_{part}_{unit}"]) for part in ("p50", "p99", "p999", "max")))
        for title, group, name, unit in rows
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _counts(figures: dict[str, Any]) -> list[tuple[object, ...]]:
    loop, chunks = figures["loop"], figures["chunks"]
    return [
        ("control ticks", loop["ticks"]),
        ("late commands (written after their expiry)", loop["late_commands"]),
        ("expired commands (withheld)", loop["expired_commands"]),
        ("servo misses (first byte after Ts / 2, or skipped)", loop["misses"]),
        ("chunks released", chunks["released"]),
        ("release misses", chunks["release_misses"]),
        ("re-plan ticks passed over", chunks["passed_over"]),
        ("frames refused by the arm", sum(figures["device"].get("refused", {}).values())),
        ("policy restarts", figures["policy_restarts"]),
        ("stolen by the host, s", figures["stolen_s"]),
    ]
