"""What a run was: pure summaries of the rows its processes wrote, and the record on disk."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.exchange import Status
from edgevla.control.ladder import MOVABLE
from edgevla.errors import BadInput, DeviceFault, Refused, Usage, explain
from edgevla.telemetry.stats import Summary, summarise

COMMANDING = sorted(MOVABLE)


@dataclass(frozen=True)
class Stop:
    """Why a run ended: one line, its exit code, and for a code other than 0 the block that explains it."""

    reason: str
    code: int = 0
    error: str = ""


@dataclass(frozen=True)
class RunResult:
    """One finished run. `figures` is JSON; the arrays are the flight record."""

    stop_reason: str
    exit_code: int
    success: bool | None  # None: nothing in the loop can tell (a real arm)
    figures: dict[str, Any]
    ticks: NDArray[Any]  # edgevla.telemetry.rows.tick_dtype, the newest
    inferences: NDArray[Any]  # edgevla.telemetry.rows.inference_dtype, the newest
    error: str = ""  # what, expected, got, to do; empty where the exit code is 0
    captures: dict[str, NDArray[Any]] = field(default_factory=dict)  # capture_dtype by camera process, the newest

    def as_dict(self) -> dict[str, Any]:
        return {
            "stop_reason": self.stop_reason,
            "error": self.error or None,
            "exit_code": self.exit_code,
            "success": self.success,
            **self.figures,
        }


def loop_figures(rows: NDArray[Any], servo_period_s: float, ttl_s: float, expired: int) -> dict[str, Any]:
    """Statistics of the servo steps that command.

    A miss: first byte more than Ts / 2 after its deadline, or never. Late: its write had not returned by its expiry,
    `ttl_s` after the deadline (so its first byte may have been in time). `expired`: commands withheld for that reason.
    """
    rows = rows[np.isin(rows["phase"], COMMANDING)]
    written = rows["write_ns"] > 0
    late_ns = rows["write_ns"] - rows["deadline_ns"]
    skipped = int(rows["skipped"].sum())
    missed = int((written & (late_ns > servo_period_s * 0.5e9)).sum()) + int((~written).sum()) + skipped
    figures: dict[str, Any] = {
        "ticks": len(np.unique(rows["tick"])),
        "servo_steps": len(rows),
        "late_commands": int((late_ns[written] > ttl_s * 1e9).sum()),
        "expired_commands": expired,
        "misses": missed,
        "skipped_periods": skipped,
        "limited_steps": int((rows["limited"] != 0).sum()),
    }
    figures |= _figures("wake", rows["wake_ns"] - rows["deadline_ns"], 1e3, "us")
    return figures | _figures("write", late_ns[written], 1e3, "us")


def inference_figures(rows: NDArray[Any]) -> dict[str, Any]:
    """Statistics of the inferences: engine time, and observation sampled -> chunk handed over."""
    names = Counter(Status(int(code)).name.lower() for code in rows["status"])
    sound = rows[rows["status"] == Status.OK]
    figures: dict[str, Any] = {"count": len(rows), "statuses": dict(names)}
    figures |= _figures("infer", sound["infer_ns"], 1e6, "ms")
    figures |= _figures("latency", sound["done_ns"] - sound["asked_ns"], 1e6, "ms")
    return figures | _figures("frame_age", sound["frame_age_ns"], 1e6, "ms")


def _figures(name: str, samples_ns: NDArray[Any], divisor: float, unit: str) -> dict[str, float | None]:
    """p50, p99, p99.9 and maximum; None where nothing was measured."""
    summary: Summary | None = summarise(samples_ns / divisor) if len(samples_ns) else None
    parts = ("p50", "p99", "p999", "maximum")
    return {
        f"{name}_{'max' if part == 'maximum' else part}_{unit}": (
            None if summary is None else round(float(getattr(summary, part)), 3)
        )
        for part in parts
    }


def bus_stop(message: str, loop: dict[str, Any]) -> Stop:
    """The arm or its line failed. A message that is a block already keeps its own advice."""
    reason = f"bus: {message}"
    if "\n" in message:
        return Stop(reason.splitlines()[0], DeviceFault.exit_code, reason)
    got = f"{loop['misses']} servo misses in {loop['servo_steps']} steps before it"
    todo = (
        "on a busy host stop other programs and see what it holds with `edgevla check`; "
        "on an idle one without misses check the arm's cable and power"
    )
    return _broken(DeviceFault.exit_code, reason, "an armed arm that answers every command", got, todo)


def protective_stop(message: str) -> Stop:
    """The arm pushed harder, or followed worse, than its profile allows."""
    todo = "free the arm, look at `edgevla flight`, and arm again; the limits are in the arm profile"
    expected = "effort and following error within the arm profile"
    return _broken(Refused.exit_code, f"protective stop: {message}", expected, message, todo)


def servo_ended_stop(message: str, last_words: str) -> Stop:
    """The servo process died while the arm moved."""
    todo = (
        "exit code -9: another program or the kernel killed it, look at free memory and `dmesg`; "
        "otherwise report it with its last words"
    )
    got = f"{message}; its last words: {last_words or 'none'}"
    return _broken(DeviceFault.exit_code, f"servo process: {message}", "one that runs to the end", got, todo)


def servo_hangs_stop(got: str, watchdog_s: float | None) -> Stop:
    """The servo process is there and does nothing: it was killed."""
    held = "the arm's own watchdog holds it" if watchdog_s else "the arm keeps its last command: switch it off"
    todo = f"{held}; look for what suspended or starved the process, and see what this host holds with `edgevla check`"
    expected = "a servo step every tick, and an end in time"
    return _broken(DeviceFault.exit_code, "the servo process hangs", expected, got, todo)


def policy_stop(why: str, times: int, hang_s: float, last_words: str) -> Stop:
    """The policy process was started again too often. `why`: hung or ended."""
    todo = (
        "it hung: stop other programs, or raise hang_s of the target; "
        "it ended: see `edgevla bundle verify` and memory_mb of the target"
    )
    return _broken(
        BadInput.exit_code,
        f"the policy process {why} {times} times",
        f"an answer within hang_s = {hang_s:g} s, and at most {times - 1} restarts",
        f"{why} again; its last words: {last_words or 'none'}",
        todo,
    )


def latched_stop(
    end: dict[str, Any], inferences: dict[str, Any], failed: str, hold_s: float, horizon: int, survive: int
) -> Stop:
    """The chunk ran out. `end`: the servo's counts; `inferences`: figures; `failed`: what the policy raised."""
    detail = f" ({failed})" if failed else ""
    if end.get("released"):
        reason = f"latched: chunk ran out after {end['lost_in_a_row']} misses{detail}"
        expected = f"a chunk before the {horizon} ticks of the last one ran out: at most {survive} misses in a row"
    else:
        reason = f"latched: no chunk within {hold_s:g} s of arming{detail}"
        expected = f"a first chunk within hold_s = {hold_s:g} s"
    statuses = ", ".join(f"{count} {name}" for name, count in inferences["statuses"].items()) or "none"
    got = (
        f"inferences: {statuses}; {end.get('release_misses', 0)} release misses, "
        f"{end.get('passed_over', 0)} re-plan ticks passed over, "
        f"observation to chunk p99.9 {inferences['latency_p999_ms'] or '-'} ms"
    )
    if failed:
        return _broken(
            BadInput.exit_code, reason, expected, got, "see `edgevla bundle verify`, and export the bundle again"
        )
    todo = (
        "no_frame, old_frame, skewed: the cameras; old_state: the arm's line; not_finite: export the bundle again; "
        "all ok: the host is too slow or busy, give the policy a core of its own and see `edgevla check`"
    )
    return _broken(Refused.exit_code, reason, expected, got, todo)


def _broken(code: int, reason: str, expected: str, got: str, todo: str) -> Stop:
    return Stop(reason, code, explain(reason, expected, got, todo))


def require_new_folder(folder: Path) -> None:
    """Proves that a record can be made there, before anything moves, and leaves nothing.

    Raises:
        Usage: it would overwrite something.
        BadInput: its parent cannot be written.
    """
    try:
        folder = folder.resolve()
        if folder.exists() and (found := _in_the_way(folder)):
            raise Usage(
                explain(f"{folder} is there already", "a new or empty folder", found, "choose another --record")
            )
        _try_staging(folder)
    except OSError as error:
        raise record_error(folder, error) from None


def _in_the_way(folder: Path) -> str:
    if not folder.is_dir():
        return "a file"
    return "files in it" if any(folder.iterdir()) else ""


def _try_staging(folder: Path) -> None:
    missing = [parent for parent in folder.parents if not parent.exists()]  # nearest first
    try:
        _staging(folder).rmdir()
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()


def _staging(folder: Path) -> Path:
    """A new folder beside `folder`, on the same disk, so that it can be renamed."""
    if not folder.parent.exists():
        folder.parent.mkdir(parents=True)
    return Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))


def record_error(folder: Path, error: OSError) -> BadInput:
    """What to say of a record that cannot be written."""
    return BadInput(
        explain(
            f"no record can be written to {folder}",
            "a folder that can be made there, and room on its disk",
            error.strerror or type(error).__name__,
            "choose another --record",
        )
    )


def make_record(folder: Path) -> Path:
    """The empty folder of a record, made. Raises BadInput, Usage as `require_new_folder`."""
    require_new_folder(folder)
    folder = folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise record_error(folder, error) from None
    return folder


def drop_unused(folder: Path) -> None:
    """The folder of a record removed again if nothing was recorded: the run could not begin."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def write_record(folder: Path, result: RunResult) -> None:
    """run.json beside the flight record: all of it or none. Raises OSError."""
    text = json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n"
    staging = folder / ".run.json"
    try:
        staging.write_text(text, encoding="utf-8")
        staging.replace(folder / "run.json")
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
