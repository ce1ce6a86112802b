"""`edgevla selftest`: a bundle, an arm, its cameras and the recorder at the operating rate, torque off."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

import profiles
from edgevla.bundle import Bundle, open_bundle
from edgevla.check.exercise import Exercise
from edgevla.check.selftest import LEAST_INFERENCES, STOLEN_SHARE, claims_of, only_timing_broken
from edgevla.check.torque import torque_of
from edgevla.cli.check import claim_row
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.control.options import RunOptions
from edgevla.control.plan import RunPlan, plan_of
from edgevla.control.result import RunResult, make_record
from edgevla.control.run import run as run_loop
from edgevla.control.timing import Claim, broken
from edgevla.doctor.board import target_here
from edgevla.errors import DeviceFault, Refused, Unsound, Usage, explain
from edgevla.sensors.sources.base import parse_cameras
from edgevla.telemetry.host import describe_host
from profiles.bridge import require_driver
from profiles.calibrated import load_calibrated

_RECORD_MB = 200
_EXIT_OF_RUN = {error.exit_code: error for error in (Refused, Usage, Unsound, DeviceFault)}
_CAMERA = typer.Option([], "--camera", metavar="NAME=SOURCE", help="A real camera, see `edgevla camera list`; repeat")
_CALIBRATION = typer.Option(None, help="File of `edgevla arm calibrate`, or LeRobot's")
_RECORD = typer.Option(None, metavar="DIR", help="Keep its flight record in this new folder")


def selftest(
    bundle: Path = typer.Option(..., "--bundle", help="Folder NAME.bundle"),
    port: str = typer.Option(..., "--port", help="Port of the arm, or BUS=PORT,... of one on several buses"),
    arm: str = typer.Option("", help="Name or .toml of the arm; default: the bundle's"),
    target: str = typer.Option("", help="Name or .toml of the target; default: the bundle's"),
    camera: list[str] = _CAMERA,
    calibration: Path | None = _CALIBRATION,
    accept_no_watchdog: bool = typer.Option(False, "--accept-no-watchdog", help="For an arm without one"),
    best_effort: bool = typer.Option(False, "--best-effort", help="Run without real-time priority too"),
    inferences: int = typer.Option(200, min=1, max=100_000, help="Counted, at the operating rate; below 90: exit 3"),
    warm_up_s: float = typer.Option(2.0, min=0.0, max=600.0, help="At the operating rate, not counted"),
    record: Path | None = _RECORD,
    torque_only: bool = typer.Option(False, "--torque-only", help="Only say whether torque is on; change nothing"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Try servo, bus, cameras, recorder and policy at the operating rate. Disarmed; refused while torque is on.

    Example: edgevla selftest --bundle out/student.bundle --port /dev/ttyACM0 --camera front=v4l2:/dev/video0
    """
    opened = open_bundle(bundle)
    device = load_calibrated(arm or opened.manifest.arm, calibration)
    require_driver(device)
    torque, why = torque_of(device, port)
    if torque_only:
        print_json({"torque": torque, "why": why}) if as_json else say(f"torque {torque}: {why}")
        return
    if torque == "on":
        todo = "support the arm and switch its torque off, then again"
        raise Refused(explain("the self-test works with torque off only", "torque off", why, todo))
    sources = {name: str(source) for name, source in parse_cameras(camera).items()}
    _require_cameras(opened, sources)
    computer = target_here(profiles.load_target(target or opened.manifest.target))
    plan = plan_of(opened, computer, device, accept_no_watchdog)
    _require_enough(inferences)
    exercise = Exercise(inferences, warm_up_s, (lambda line: None) if as_json else (lambda line: say(line, "dim")))
    with _record_folder(record) as folder:
        options = RunOptions(
            instruction=_instruction(opened),
            port=port,
            cameras=sources,
            duration_s=0.0,
            arm_at_start=False,
            stay=True,
            best_effort=best_effort,
            record=folder,
            record_mb=_RECORD_MB,
        )
        result = run_loop(plan, options, operator=exercise)
    _require_whole(result, exercise)
    claims = claims_of(plan, exercise.window, result.ticks, result.inferences, result.figures, list(sources))
    notes = [f"torque {torque}: {why}", *(f"BEST EFFORT, not granted: {m}" for m in _missing(result))]
    _print(claims, notes, _summary(opened, plan, exercise, result), as_json)
    _require_kept(claims, result)


def _require_cameras(bundle: Bundle, sources: dict[str, str]) -> None:
    needed = [camera.name for camera in bundle.manifest.cameras if camera.when_missing == "refuse"]
    if lacking := [name for name in needed if name not in sources]:
        expected, todo = "one --camera NAME=SOURCE for each", "see `edgevla camera list`"
        raise Usage(explain(f"no source for camera {', '.join(lacking)}", expected, "none", todo))


def _require_enough(inferences: int) -> None:
    if inferences < LEAST_INFERENCES:
        expected, todo = f"at least {LEAST_INFERENCES}", "leave --inferences out"
        raise Unsound(explain("too few inferences to bound p95 at 99 %", expected, inferences, todo))


def _instruction(bundle: Bundle) -> str:
    for golden in bundle.golden.values():
        return golden.instruction
    todo = "export the bundle again, with golden vectors"
    raise Unsound(explain("the policy cannot be tested", "a golden vector in the bundle", "none", todo))


@contextlib.contextmanager
def _record_folder(kept: Path | None) -> Iterator[Path]:
    """A folder for the flight record: the caller's, or one that goes."""
    if kept is not None:
        yield make_record(kept)
        return
    with tempfile.TemporaryDirectory(prefix="edgevla-selftest-") as folder:
        yield Path(folder)


def _missing(result: RunResult) -> list[str]:
    return [str(word) for word in result.figures.get("real_time", {}).get("missing", [])]


def _require_whole(result: RunResult, exercise: Exercise) -> None:
    """Raises what ended the run before everything was asked."""
    if result.exit_code:
        raise _EXIT_OF_RUN.get(result.exit_code, DeviceFault)(result.error or result.stop_reason)
    if not exercise.window.complete:
        raise Unsound(
            explain(
                "the self-test was ended before its time", "an undisturbed test", result.stop_reason, "call it again"
            )
        )


def _require_kept(claims: Sequence[Claim], result: RunResult) -> None:
    """Raises Refused; Unsound where only punctuality is broken on a host that was not there all the time."""
    wrong = broken(claims)
    if not wrong:
        return
    text = "; ".join(f"{claim.name}: {claim.text}" for claim in wrong)
    stolen, wall = float(result.figures["stolen_s"]), float(result.figures["wall_s"])
    if only_timing_broken(claims) and stolen > STOLEN_SHARE * wall:
        got, todo = f"{stolen:g} of {wall:g} s stolen by the host; {text}", "test on a machine of its own"
        raise Unsound(explain("the self-test cannot be judged soundly", "a host that is there", got, todo))
    first = wrong[0].name
    todo = "see docs/service.md, what each claim needs"
    raise Refused(explain(f"the self-test is broken: {first}", "every claim kept", text, todo))


def _summary(bundle: Bundle, plan: RunPlan, exercise: Exercise, result: RunResult) -> dict[str, Any]:
    window = exercise.window
    return {
        "bundle": str(bundle.path),
        "target": plan.target.name,
        "arm": plan.arm.name,
        "instruction": result.figures["instruction"],
        "asked": window.asked,
        "passed_over": window.passed_over,
        "seconds": round((window.end_ns - window.begin_ns) * 1e-9, 3),
        "real_time": result.figures["real_time"],
        "loop": result.figures["loop"],
        "inference": result.figures["inference"],
        "recorder": result.figures["recorder"],
        "stolen_s": result.figures["stolen_s"],
        "host": describe_host(),
    }


def _print(claims: Sequence[Claim], notes: Sequence[str], summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        told = {"kept": not broken(claims), "claims": [asdict(claim) for claim in claims], "notes": list(notes)}
        print_json({**told, **summary})
        return
    title = f"self-test on {summary['target']} with {summary['arm']}, {summary['seconds']:g} s"
    print_table(title, ["claim", "kind", "in numbers", "n", ""], [claim_row(claim) for claim in claims])
    for note in notes:
        say(note, "bold" if note.startswith("BEST") else "dim")
    if not broken(claims):
        say(f"{len(claims)} claims kept", "green")
