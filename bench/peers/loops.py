"""Windows of the loops on one virtual SO-101: LeRobot's record loop, ours with and without real-time priority, and
cyclictest at the same rate; and their rows. Each is a process; the arm is a process of its own on a pty."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.loop import cyclictest
from bench.loop.load import loaded
from bench.loop.windows import LOADS, PRIORITY
from edgevla.errors import EdgevlaError, Unsound, explain
from edgevla.telemetry.interleaved import quantile_ratio
from edgevla.telemetry.stats import summarise
from firmware_bridge.errors import BridgeError
from firmware_bridge.virtual.client import VirtualProcess
from profiles import load_arm
from profiles.bridge import joints_of

LEROBOT, OURS, PLAIN, YARDSTICK = "lerobot record_loop", "edgevla loop", "edgevla loop, best effort", "cyclictest"
CONFIGURED = {
    LEROBOT: "record_loop, SO101Follower, precise_sleep, fps as asked; no camera, dataset or display",
    OURS: "edgevla run: servo under SCHED_FIFO 80, memory locked; policy and guardian processes; no camera",
    PLAIN: "the same under SCHED_OTHER, memory not locked",
    YARDSTICK: "rt-tests: -m -p80, absolute clock_nanosleep at the same rate; no bus",
}
CORE, LOAD_CORE, ARM = 1, 0, "so101"
SETTLE = 15  # first commands of a window that are not counted
_ARM_NICE = -15  # of the virtual arm, where that is permitted
_START_S = 240.0  # of LeRobot's imports on a busy machine


@dataclass(frozen=True)
class Setup:
    """What every window has in common."""

    fps: int
    seconds: float
    lerobot_python: Path
    folder: Path  # for what the processes write

    @property
    def samples(self) -> int:
        return round(self.fps * self.seconds)


def window(setup: Setup, contender: str, load: str) -> dict[str, Any]:
    """One contender once under one load. `failed` says why where it could not run."""
    try:
        with loaded(LOADS[load], LOAD_CORE, "", ""):
            return {"failed": "", **_times(setup, contender)}
    except (EdgevlaError, BridgeError) as error:
        return {"failed": " ".join(str(error).split())[:400]}


def _times(setup: Setup, contender: str) -> dict[str, Any]:
    if contender == YARDSTICK:
        histogram = cyclictest.window(setup.fps, setup.samples, CORE, PRIORITY, setup.folder)
        return {"wake_us": [float(us) for us, count in sorted(histogram.items()) for _ in range(count)]}
    if contender == LEROBOT and not setup.lerobot_python.exists():
        todo = "sh scripts/setup_lerobot.sh, or --lerobot-python"
        raise Unsound(explain("LeRobot's environment", str(setup.lerobot_python), "not there", todo))
    with VirtualProcess("feetech", joints_of(load_arm(ARM), "main"), gravity_nm=0.0) as arm:
        with contextlib.suppress(OSError):  # it stands in for hardware, which does not wait for a busy host
            os.setpriority(os.PRIO_PROCESS, arm.pid, _ARM_NICE)
        return _lerobot(setup, arm.port) if contender == LEROBOT else _ours(setup, arm.port, contender == PLAIN)


def _lerobot(setup: Setup, port: str) -> dict[str, Any]:
    out = setup.folder / "lerobot.npy"
    command = [str(setup.lerobot_python), "-m", "bench.peers.lerobot_loop", "--port", port, "--fps", str(setup.fps)]
    told = _told([*command, "--seconds", str(setup.seconds), "--out", str(out)], setup.seconds)
    times = np.load(out)[SETTLE:]
    return {"interval_us": _intervals(times), "cpu_share": told["cpu_share"], "version": told["version"]}


def _ours(setup: Setup, port: str, best_effort: bool) -> dict[str, Any]:
    out = setup.folder / "ours.npz"
    command = [sys.executable, "-m", "bench.peers.our_loop", "--port", port, "--fps", str(setup.fps)]
    command += ["--seconds", str(setup.seconds), "--out", str(out), *(["--best-effort"] if best_effort else [])]
    told = _told(command, setup.seconds)
    with np.load(out) as file:
        times, wake = file["write_ns"][SETTLE:], file["wake_ns"][SETTLE:]
    return {
        "interval_us": _intervals(times),
        "wake_us": [round(float(v), 1) for v in wake / 1e3],
        "cpu_share": told["cpu_share"],
        "granted": not told["granted"].get("missing"),
    }


def _intervals(times_ns: Any) -> list[float]:
    return [round(float(v), 1) for v in np.diff(times_ns) / 1e3]


def _told(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """The last line of a child. Raises Unsound with the end of what it said."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _START_S, env=environment)
    except subprocess.TimeoutExpired:
        raise Unsound(explain("a loop did not end", f"{seconds:g} s", "longer", "run on an idle host")) from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        got = f"exit {done.returncode}: {words[-1][:300] if words else 'silence'}"
        raise Unsound(explain("a loop ended before its time", "its times", got, "try: " + " ".join(command[1:])))
    return dict(json.loads(lines[-1]))


def rows(fps: int, load: str, windows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row a contender over all its windows under one load. Pure.

    The deviation of a tick is |time between two commands - period|; ratios are of its p99, against ours.
    """
    found = []
    ours = _deviations(windows.get(OURS, ()), fps)
    for name, configured in CONFIGURED.items():
        told = windows.get(name, ())
        if not told:
            continue
        good = [one for one in told if not one["failed"]]
        row: dict[str, Any] = {
            "kind": "loop",
            "subject": f"SO-101 at {fps} Hz, load {load}",
            "peer": name,
            "configured": configured,
        }
        row |= {"load": load, "fps": fps, "windows": len(good), "failed": "" if good else told[-1]["failed"]}
        found.append({**row, **(_figures(name, good, ours, fps) if good else {})})
    return found


def _figures(name: str, good: Sequence[Mapping[str, Any]], ours: Any, fps: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    deviations = _deviations(good, fps)
    if deviations.size:
        found["deviation"] = _told_us(deviations)
        intervals = np.concatenate([np.asarray(one["interval_us"]) for one in good])
        found["rate_hz"] = round(1e6 / float(intervals.mean()), 4)
        found["missed"] = int((intervals > 1.5e6 / fps).sum())
        if name != OURS and ours.size:
            ratio = quantile_ratio(deviations, ours, 0.99, name, OURS)
            found["times_ours"] = {key: round(getattr(ratio, key), 3) for key in ("median", "low", "high")}
    wakes = [np.asarray(one["wake_us"]) for one in good if "wake_us" in one]
    if wakes:
        found["wake"] = _told_us(np.concatenate(wakes))
    shares = [one["cpu_share"] for one in good if one.get("cpu_share") is not None]
    if shares:
        found["cpu_share"] = round(float(np.median(shares)), 4)
    found["window_p99_us"] = [round(_told_us(_deviations([one], fps))["p99_us"], 1) for one in good if _has(one)]
    return found


def _has(one: Mapping[str, Any]) -> bool:
    return len(one.get("interval_us", ())) > 0


def _deviations(good: Sequence[Mapping[str, Any]], fps: int) -> Any:
    parts = [np.abs(np.asarray(one["interval_us"]) - 1e6 / fps) for one in good if not one["failed"] and _has(one)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _told_us(values: Any) -> dict[str, float]:
    told = summarise(values)
    figures = {"p50_us": told.p50, "p99_us": told.p99, "max_us": told.maximum}
    return {**{key: round(value, 1) for key, value in figures.items()}, "count": told.count}
