"""One cold start: `edgevla run` as a fresh process on a virtual arm that is powered already, and what it left."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.guard.drive import Setup, virtual_arm
from bench.profile.camera import only_camera, publishing
from bench.profile.resident import Resident
from edgevla.control.plan import RunPlan
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound, Usage, explain
from edgevla.flight.reader import read_record

_SLACK_S = 120.0
_ERRORS: dict[int, type[EdgevlaError]] = {
    error.exit_code: error for error in (Refused, Usage, Unsound, BadInput, DeviceFault)
}


@dataclass(frozen=True)
class Asked:
    """What is started: names as they were given on the command line, so that files work too."""

    setup: Setup
    bundle: Path
    target: str
    arm: str
    seconds: float
    best_effort: bool

    @property
    def plan(self) -> RunPlan:
        return self.setup.plan

    def arguments(self, port: str, camera_fd: int, record: Path) -> list[str]:
        """Of `edgevla run`."""
        told = ["--bundle", str(self.bundle), "--target", self.target, "--arm", self.arm, "--port", port]
        told += ["--camera-fd", str(camera_fd), "--instruction", self.setup.instruction, "--arm-at-start", "--json"]
        told += ["--duration-s", repr(self.seconds), "--record", str(record)]
        told += ["--accept-no-watchdog"] if self.plan.arm.watchdog_s is None else []
        return told + (["--best-effort"] if self.best_effort else [])


@dataclass(frozen=True)
class Cold:
    """One start and the run that followed."""

    started_ns: int  # CLOCK_MONOTONIC, just before the process was made
    figures: dict[str, Any]  # run.json
    ticks: NDArray[Any]
    inferences: NDArray[Any]
    peaks: dict[str, int]  # bytes resident, by process


def cold_start(asked: Asked) -> Cold:
    """Start it, let it run, and read its record. Raises what `edgevla run` ended with."""
    camera = only_camera(asked.plan)
    with tempfile.TemporaryDirectory(prefix="edgevla-profile.") as folder, publishing(camera) as slot:
        record = Path(folder, "record")
        with virtual_arm(asked.plan) as port:
            begun_ns = time.monotonic_ns()
            code, out, err, peaks = _run(asked, asked.arguments(port, slot.fd, record), slot.fd)
        if code:
            raise _error(code, err)
        flight = read_record(record)
    _require_sound(flight.damage)
    return Cold(begun_ns, json.loads(out), np.asarray(flight.ticks), np.asarray(flight.inferences), peaks)


def _run(asked: Asked, arguments: list[str], fd: int) -> tuple[int, str, str, dict[str, int]]:
    """Exit code, stdout, stderr, and the peaks of its processes."""
    command = [sys.executable, "-m", "edgevla.cli.entry", "run", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[fd])
    resident = Resident(child.pid)
    resident.start()
    try:
        out, err = child.communicate(timeout=asked.seconds + _SLACK_S)
    except subprocess.TimeoutExpired:
        child.terminate()
        child.wait()
        todo = "run the same by hand: edgevla " + " ".join(command[3:])
        raise Unsound(explain("the cold start", "an end in time", "silence", todo)) from None
    finally:
        resident.end()
    return child.returncode, out, err, resident.peaks


def _error(code: int, err: str) -> EdgevlaError:
    """The block that `edgevla run` printed, as it was."""
    text = err.partition("error: ")[2].strip() or err.strip()[-400:]
    return _ERRORS.get(code, DeviceFault)(text)


def _require_sound(damage: tuple[str, ...]) -> None:
    if damage:
        todo = "free space in the temporary folder, and call it again"
        raise Unsound(explain("the record of the cold start", "a whole file", "; ".join(damage), todo))
