"""A started service judged by its own figures: what its socket says, asked again and again. Judging is pure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import EdgevlaError
from edgevla.operate.ask import ask

LATE_SHARE = 0.05  # of the steps: what arming itself asks for (edgevla.control.rehearsal)
_LOOK_S = 0.1  # the run renews its figures ten times a second


@dataclass(frozen=True)
class Health:
    """What N disarmed ticks of the started service showed. `held`: alive, disarmed and punctual all the while."""

    ticks: int  # servo steps, at least as many as were asked for where it is held
    late: int  # of them: woke more than half a period late, or overslept
    held: bool
    why: str  # '' where it is held


def status_of(folder: Path, name: str = "run.sock") -> dict[str, Any]:
    """The state of the run that listens in `folder`. Raises DeviceFault: nobody does; BadInput: it refuses.

    Through a descriptor of the folder: the path of a Unix socket has 107 bytes at most, a prefix may be longer.
    """
    try:
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ask(folder / name, {"status": True})
    try:
        return ask(Path(f"/proc/self/fd/{fd}") / name, {"status": True})
    finally:
        os.close(fd)


def watch(
    look: Callable[[], Mapping[str, Any]],
    alive: Callable[[], bool],
    ticks: int,
    timeout_s: float,
    best_effort: bool = False,
) -> Health:
    """Until `ticks` servo steps were made since the first look, something is wrong, or `timeout_s` are over."""
    until = time.monotonic() + timeout_s
    first: Mapping[str, Any] | None = None
    newest: Mapping[str, Any] = {}
    while time.monotonic() < until:
        if not alive():
            return _health(first, newest, "the service ended")
        with suppress(EdgevlaError):  # it may be starting still; one that ended is told above
            found = look()
            if found.get("phase") is not None:
                first, newest = first or found, found
        if first is not None:
            if wrong := fault_of(first, newest, best_effort):
                return _health(first, newest, wrong)
            if _steps(newest) - _steps(first) >= ticks:
                return _health(first, newest, late_of(first, newest))
        time.sleep(_LOOK_S)
    made = _steps(newest) - _steps(first or newest)
    return _health(first, newest, f"{made} of {ticks} ticks within {timeout_s:g} s")


def fault_of(first: Mapping[str, Any], newest: Mapping[str, Any], best_effort: bool) -> str:
    """What is wrong with a run that shall be disarmed and well; '' for nothing."""
    needed = [camera for camera in newest.get("cameras", []) if not camera.get("may_be_absent")]
    stale = [camera["name"] for camera in needed if _stale(camera)]
    missing = newest.get("not_granted") or []
    cases = (
        (newest.get("phase") != "disarmed", f"it is not disarmed: {newest.get('phase')}"),
        (_steps(newest) < _steps(first), "it started anew meanwhile"),
        (bool(missing) and not best_effort, f"real time was not granted: {'; '.join(missing)}"),
        (
            bool(newest.get("restarts")),
            f"its policy process ended and was started again, {newest.get('restarts')} times",
        ),
        (str(newest.get("recorder", "")).startswith("failed"), f"its flight recorder {newest.get('recorder')}"),
        (bool(newest.get("device_faults")), f"the arm reports faults 0x{newest.get('device_faults') or 0:04x}"),
        (bool(stale), f"no fresh picture of camera {', '.join(stale)}"),
    )
    return next((words for wrong, words in cases if wrong), "")


def late_of(first: Mapping[str, Any], newest: Mapping[str, Any]) -> str:
    """Too many late steps between the two looks, in words; '' otherwise."""
    steps, late = _steps(newest) - _steps(first), _late(newest) - _late(first)
    if late <= LATE_SHARE * steps:
        return ""
    return f"{late} of {steps} steps woke more than half a period late, more than {100 * LATE_SHARE:g} %"


def _health(first: Mapping[str, Any] | None, newest: Mapping[str, Any], why: str) -> Health:
    begun = first or newest
    return Health(_steps(newest) - _steps(begun), _late(newest) - _late(begun), why == "", why)


def _stale(camera: Mapping[str, Any]) -> bool:
    age_s, oldest_s = camera.get("age_s"), camera.get("max_age_s")
    return age_s is None or (oldest_s is not None and age_s > 2 * oldest_s)  # the figures themselves are 0.1 s old


def _steps(status: Mapping[str, Any]) -> int:
    return int(status.get("tally", {}).get("steps", 0))


def _late(status: Mapping[str, Any]) -> int:
    return int(status.get("tally", {}).get("late_wakes", 0))
